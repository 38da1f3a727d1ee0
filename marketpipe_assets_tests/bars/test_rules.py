"""What each rule finds, at which limit, for which kind of instrument."""

from collections.abc import Mapping, Sequence
from math import inf, nan

import polars as pl
import pytest

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import LIMITS, RULES, STRUCTURAL, RuleSet, Severity
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars, minute_run

GOOD: Bar = ("09:30", 10, 11, 9, 10, 100)
VOLUME_RULES = {"vwap_range", "zero_volume_move", "huge_volume", "zero_volume_run", "volume_spike"}


def broken(bars: pl.DataFrame, rules: RuleSet | None = None) -> Mapping[str, int]:
    return split_by_rules(bars, rules or RuleSet("equity"), calendar_of()).broken


def one_bar(open_: float, high: float, low: float, close: float, volume: float = 100) -> pl.DataFrame:
    return minute_bars(("09:30", open_, high, low, close, volume))


def test_ids_and_severities_are_those_of_the_published_table() -> None:
    assert {name: rule.severity.value for name, rule in RULES.items()} == {
        "not_finite": "ERROR",
        "duplicate_ts": "ERROR",
        "out_of_order": "ERROR",
        "misaligned_ts": "ERROR",
        "ts_range": "ERROR",
        "outside_session": "ERROR",
        "non_positive_price": "ERROR",
        "ohlc_logic": "ERROR",
        "negative_volume": "ERROR",
        "negative_trade_count": "ERROR",
        "vwap_range": "WARN",
        "zero_volume_move": "WARN",
        "price_jump": "WARN",
        "price_range": "WARN",
        "huge_volume": "WARN",
        "zero_volume_run": "INFO",
        "volume_spike": "INFO",
    }


@pytest.mark.parametrize("asset_class", LIMITS)
def test_a_good_bar_breaks_no_rule_of_any_asset_class(asset_class: str) -> None:
    assert broken(minute_bars(GOOD, trade_count=[3], vwap=[10.5]), RuleSet(asset_class)) == {}


@pytest.mark.parametrize(
    ("rule", "bars"),
    [
        ("not_finite", minute_bars(("09:30", nan, 11, 9, 10, 100))),
        ("not_finite", minute_bars(("09:30", 10, 11, 9, None, 100))),
        ("not_finite", minute_bars(("09:30", 10, 11, 9, 10, nan))),
        ("not_finite", minute_bars(("09:30", 10, 11, 9, 10, None))),
        ("out_of_order", minute_bars(("09:31", 10, 11, 9, 10, 100), GOOD)),
        ("misaligned_ts", minute_bars(("09:30:30", 10, 11, 9, 10, 100))),
        ("ts_range", minute_bars(("09:29", 10, 11, 9, 10, 100))),
        ("ts_range", minute_bars(("16:00", 10, 11, 9, 10, 100))),
        ("outside_session", minute_bars(GOOD, day="2024-01-01")),
        ("outside_session", minute_bars(GOOD, day="2024-01-06")),
        ("ohlc_logic", one_bar(10, 9.5, 9, 9.2)),
        ("ohlc_logic", one_bar(10, 11, 10.5, 10.7)),
        ("ohlc_logic", one_bar(10, 11, 9, 12)),
        ("negative_volume", one_bar(10, 11, 9, 10, -1)),
        ("negative_trade_count", minute_bars(GOOD, trade_count=[-1])),
        ("vwap_range", minute_bars(GOOD, vwap=[11.1])),
        ("vwap_range", minute_bars(GOOD, vwap=[8.9])),
        ("vwap_range", minute_bars(GOOD, vwap=[inf])),
        ("zero_volume_move", one_bar(10, 11, 9, 10.5, 0)),
        ("price_jump", minute_bars(GOOD, ("09:31", 15.1, 16, 15, 15, 100))),
        ("price_jump", minute_bars(GOOD, ("09:31", 4.9, 5, 4, 5, 100))),
        ("price_range", one_bar(1_000_001, 1_000_001, 1_000_001, 1_000_001)),
        ("price_range", one_bar(0.009, 0.009, 0.009, 0.009)),
        ("huge_volume", one_bar(10, 11, 9, 10, 1_000_000_001)),
        ("zero_volume_run", minute_bars(*minute_run("09:30", 5, volume=0))),
        ("volume_spike", minute_bars(*minute_run("09:30", 20), ("09:50", 10, 10, 10, 10, 1001))),
    ],
)
def test_a_bar_breaks_the_rule_and_no_other(rule: str, bars: pl.DataFrame) -> None:
    assert broken(bars) == {rule: 1}


@pytest.mark.parametrize(
    "bars",
    [
        minute_bars(("09:30", 10, 10, 10, 10, 0)),
        minute_bars(("15:59", 10, 11, 9, 10, 100)),
        minute_bars(GOOD, ("09:31", 15, 16, 15, 16, 100)),
        minute_bars(GOOD, ("2024-01-03 09:30", 20, 20, 20, 20, 100)),
        one_bar(0.01, 1_000_000, 0.01, 0.01),
        one_bar(10, 11, 9, 10, 1_000_000_000),
        minute_bars(GOOD, trade_count=[0], vwap=[11]),
        minute_bars(*minute_run("09:30", 4, volume=0), *minute_run("09:34", 1), *minute_run("09:35", 4, volume=0)),
        minute_bars(*minute_run("15:56", 4, volume=0), *minute_run("09:30", 4, "2024-01-03", volume=0)),
        minute_bars(*minute_run("09:30", 20), ("09:50", 10, 10, 10, 10, 1000)),
        minute_bars(*minute_run("09:30", 19), ("09:49", 10, 10, 10, 10, 9999)),
        minute_bars(*minute_run("15:40", 20), ("2024-01-03 09:30", 10, 10, 10, 10, 9999)),
    ],
)
def test_a_bar_at_the_limit_or_first_of_its_session_is_good(bars: pl.DataFrame) -> None:
    assert broken(bars) == {}


def test_a_price_of_zero_or_below_is_an_error_for_shares() -> None:
    assert broken(one_bar(0, 10, 0, 10))["non_positive_price"] == 1
    assert broken(one_bar(-1, 10, -1, 10))["non_positive_price"] == 1


@pytest.mark.parametrize(("asset_class", "least"), [("future", -50.0), ("spread", -1000.0)])
def test_futures_and_spreads_may_cost_nothing_or_less_down_to_their_limit(asset_class: str, least: float) -> None:
    rules = RuleSet(asset_class)

    assert "non_positive_price" not in broken(one_bar(0, 0, 0, 0), rules)
    assert "non_positive_price" not in broken(one_bar(least, least, least, least), rules)
    assert broken(one_bar(least - 0.01, 0, least - 0.01, 0), rules)["non_positive_price"] == 1


def test_a_spread_outside_a_thousand_is_flagged() -> None:
    assert broken(one_bar(1000, 1000, 1000, 1000), RuleSet("spread")) == {}
    assert broken(one_bar(1001, 1001, 1001, 1001), RuleSet("spread")) == {"price_range": 1}


def test_a_spread_that_stays_at_or_moves_through_zero_does_not_jump() -> None:
    bars = minute_bars(*minute_run("09:30", 2, price=0), ("09:32", 5, 5, 5, 5, 100), ("09:33", -5, -5, -5, -5, 100))

    assert broken(bars, RuleSet("spread")) == {}


def test_a_volume_weighted_price_below_zero_is_compared_as_any_other() -> None:
    bars = minute_bars(("09:30", -10, -9, -10, -9, 100), vwap=[-10])

    assert broken(bars, RuleSet("future")) == {}


@pytest.mark.parametrize("asset_class", ["index", "fx"])
def test_rules_that_need_volume_do_not_apply_where_vendors_send_none(asset_class: str) -> None:
    rules = RuleSet(asset_class)

    assert RULES.keys() - rules.rules.keys() == VOLUME_RULES
    assert broken(minute_bars(*minute_run("09:30", 30, volume=0), ("10:00", 10, 11, 9, 10.5, 0)), rules) == {}


def test_a_jump_counts_from_a_tenth_for_currencies_and_a_half_for_shares() -> None:
    bars = minute_bars(GOOD, ("09:31", 12, 12, 12, 12, 100))

    assert broken(bars, RuleSet("fx")) == {"price_jump": 1}
    assert broken(bars, RuleSet("equity")) == {}


def test_what_is_not_a_number_is_held_against_its_own_bar_alone() -> None:
    bars = minute_bars(GOOD, ("09:31", nan, nan, nan, nan, nan), ("09:32", 10, 11, 9, 10, 100))

    assert broken(bars) == {"not_finite": 1}


def test_no_volume_is_not_a_volume_of_zero() -> None:
    bars = minute_bars(
        *minute_run("09:30", 4, volume=0), ("09:34", 10, 10, 10, 10, None), *minute_run("09:35", 4, volume=0)
    )

    assert broken(bars) == {"not_finite": 1}


def test_one_late_bar_is_out_of_order_and_those_after_it_are_not() -> None:
    bars = minute_bars(*(GOOD if at == "09:30" else (at, *GOOD[1:]) for at in ("09:40", "09:30", "09:31")))

    assert broken(bars) == {"out_of_order": 1}


def test_every_bar_from_the_fifth_without_volume_on_belongs_to_the_run() -> None:
    assert broken(minute_bars(*minute_run("09:30", 8, volume=0))) == {"zero_volume_run": 4}


def test_a_market_sets_its_own_severities_and_limits() -> None:
    rules = RuleSet("equity", {"price_jump": Severity.INFO, "volume_spike": Severity.ERROR}, {"price_jump": 0.1})

    assert rules.rules["price_jump"].severity == Severity.INFO
    assert rules.rules["volume_spike"].severity == Severity.ERROR
    assert broken(minute_bars(GOOD, ("09:31", 12, 12, 12, 12, 100)), rules) == {"price_jump": 1}


@pytest.mark.parametrize("rule", sorted(STRUCTURAL))
@pytest.mark.parametrize("severity", [Severity.WARN, Severity.INFO])
def test_rules_that_longer_bars_rest_on_stay_errors(rule: str, severity: Severity) -> None:
    with pytest.raises(ValueError, match=f"expected severity ERROR for {rule}"):
        RuleSet("equity", {rule: severity})


@pytest.mark.parametrize(
    ("severities", "limits", "said"),
    [
        ({"bad_luck": Severity.WARN}, {}, "expected rules of .*, was bad_luck"),
        ({}, {"bad_luck": 1.0}, "expected rules of .*, was bad_luck"),
        ({}, {"ohlc_logic": 1.0}, "expected a rule with a limit, .*, was ohlc_logic"),
    ],
)
def test_settings_of_rules_that_are_not_there_are_refused(
    severities: Mapping[str, Severity], limits: Mapping[str, float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        RuleSet("equity", severities, limits)


def test_an_unknown_asset_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an asset class of equity, .*, was 'bond'"):
        RuleSet("bond")


@pytest.mark.parametrize("asset_class", LIMITS)
def test_every_asset_class_has_every_limit(asset_class: str) -> None:
    needed: Sequence[str] = sorted(LIMITS["equity"])

    assert sorted(RuleSet(asset_class).limits) == needed
