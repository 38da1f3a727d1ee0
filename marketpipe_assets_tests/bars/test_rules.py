"""What each rule finds, at which limit, for which kind of instrument."""

from collections.abc import Mapping, Sequence
from datetime import date, time
from math import inf, nan

import polars as pl
import pytest

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import FEWEST_BARS, LIMITS, RULES, STRUCTURAL, RuleSet, Severity
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars, minute_run

GOOD: Bar = ("09:30", 10, 11, 9, 10, 100)
VOLUME_RULES = {"vwap_range", "zero_volume_move", "huge_volume", "rising_volume", "zero_volume_run", "volume_spike"}


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
        "impossible_tick": "ERROR",
        "vwap_range": "WARN",
        "zero_volume_move": "WARN",
        "price_jump": "WARN",
        "bad_tick": "WARN",
        "stale_feed": "WARN",
        "constant_price": "WARN",
        "rising_volume": "WARN",
        "price_range": "WARN",
        "huge_volume": "WARN",
        "zero_volume_run": "INFO",
        "volume_spike": "INFO",
        "overnight_jump": "INFO",
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
        one_bar(0.01, 0.01, 0.01, 0.01),
        one_bar(1_000_000, 1_000_000, 1_000_000, 1_000_000),
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
    assert broken(minute_bars(*minute_run("09:30", 30, volume=0), ("10:00", 10, 10.01, 10, 10.01, 0)), rules) == {}


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


@pytest.mark.parametrize(
    ("rule", "limit", "said"),
    [
        ("stale_feed", 1, "expected a whole number of 2 or more as the limit of stale_feed, was 1"),
        ("constant_price", 0, "expected a whole number of 2 or more as the limit of constant_price, was 0"),
        ("rising_volume", 2.5, "expected a whole number of 2 or more as the limit of rising_volume, was 2.5"),
        ("rising_volume", inf, "expected a whole number of 2 or more as the limit of rising_volume, was inf"),
        ("zero_volume_run", 0, "expected a whole number of 1 or more as the limit of zero_volume_run, was 0"),
        ("price_jump", -1, "expected a limit above 0 for price_jump, was -1"),
        ("huge_volume", 0, "expected a limit above 0 for huge_volume, was 0"),
        ("impossible_tick", 1, "expected a limit above 1 for impossible_tick, was 1"),
    ],
)
def test_limits_that_would_break_for_every_bar_are_refused(rule: str, limit: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RuleSet("equity", own_limits={rule: limit})


def test_the_fewest_bars_that_a_rule_may_count_leave_good_bars_alone() -> None:
    fewest = RuleSet("equity", own_limits=FEWEST_BARS)

    assert broken(minute_bars(GOOD, ("09:31", 10, 11, 9, 10.5, 90)), fewest) == {}


def test_an_unknown_asset_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an asset class of equity, .*, was 'bond'"):
        RuleSet("bond")


@pytest.mark.parametrize("asset_class", LIMITS)
def test_every_asset_class_has_every_limit(asset_class: str) -> None:
    needed: Sequence[str] = sorted(LIMITS["equity"])

    assert sorted(RuleSet(asset_class).limits) == needed


def with_wick(high: float, low: float = 166.19, before: int = 30) -> pl.DataFrame:
    """Minutes of a fund that move by a few cents, and one with these extremes among them."""
    calm = minute_run("13:00", 2 * before, price=166.2, reach=0.03)
    return minute_bars(*calm[:before], (calm[before][0], 166.2, high, low, 166.2, 100), *calm[before + 1 :])


def test_a_wick_that_no_bar_around_comes_near_is_a_bad_tick() -> None:
    assert broken(with_wick(167.51)) == {"bad_tick": 1}
    assert broken(with_wick(166.22, low=165.3)) == {"bad_tick": 1}
    assert broken(with_wick(166.6)) == {}


def test_two_bad_ticks_in_a_row_do_not_excuse_each_other() -> None:
    calm = minute_run("13:00", 30, price=170)
    wicks: list[Bar] = [("13:15", 170, 170.01, 169.2, 170, 100), ("13:16", 170, 170.01, 169.2, 170.01, 100)]

    assert broken(minute_bars(*calm[:15], *wicks, *calm[17:])) == {"bad_tick": 2}


def test_a_wick_is_measured_by_the_range_that_bars_around_have() -> None:
    lively = minute_run("13:00", 60, price=166.2, reach=0.5)
    wick: Bar = (lively[30][0], 166.2, 167.51, 166.19, 166.2, 100)

    assert broken(minute_bars(*lively[:30], wick, *lively[31:])) == {}


def test_a_print_several_times_the_price_between_two_bars_is_an_error() -> None:
    prints: list[Bar] = [("09:59", 92, 92.3, 91.9, 92.1, 100), ("10:01", 92.2, 92.4, 92, 92.3, 100)]

    assert broken(minute_bars(prints[0], ("10:00", 645, 645.57, 645, 645, 100), prints[1]))["impossible_tick"] == 1
    assert broken(minute_bars(prints[0], ("10:00", 92.1, 645.57, 92, 92.2, 100), prints[1]))["impossible_tick"] == 1
    assert broken(minute_bars(prints[0], ("10:00", 92.1, 92.2, 13, 92.2, 100), prints[1]))["impossible_tick"] == 1


def test_a_crash_whose_level_stays_is_no_bad_tick() -> None:
    before = minute_run("09:30", 30, price=12.14)
    crash: list[Bar] = [
        ("10:00", 12.1, 12.1, 6.2, 6.3, 9000),
        ("10:01", 6.3, 6.6, 4.9, 5.1, 9000),
        ("10:02", 5.1, 5.2, 4.6, 4.7, 9000),
    ]
    after = minute_run("10:03", 30, price=4.76)

    assert broken(minute_bars(*before, *crash, *after)).keys() <= {"volume_spike"}


def test_a_crash_in_one_step_is_a_jump_and_no_bad_tick() -> None:
    bars = minute_bars(*minute_run("09:30", 30, price=12), *minute_run("10:00", 30, price=4.8))

    assert broken(bars) == {"price_jump": 1}


def test_the_first_and_the_last_bar_of_a_session_are_judged_by_their_own_open_and_close() -> None:
    falling: list[Bar] = [("09:30", 105, 105, 101, 101, 100), *minute_run("09:31", 30, price=101)]
    spiking: list[Bar] = [("09:30", 101, 105, 101, 101, 100), *minute_run("09:31", 30, price=101)]
    ending: list[Bar] = [*minute_run("15:29", 30, price=101), ("15:59", 101, 101, 97, 101, 100)]

    assert broken(minute_bars(*falling)) == {}
    assert broken(minute_bars(*spiking)) == {"bad_tick": 1}
    assert broken(minute_bars(*ending)) == {"bad_tick": 1}


def test_a_spike_after_hours_is_measured_by_the_hours_after_the_close() -> None:
    extended = sessions("XNYS", date(2024, 1, 1), date(2025, 1, 1), (time(4), time(20)))
    lively = minute_run("15:30", 30, price=14, reach=0.1)
    quiet = minute_run("16:00", 30, price=14)
    late: Bar = ("16:30", 14.05, 14.12, 14.05, 14.05, 100)
    bars = minute_bars(*lively, *quiet, late, *minute_run("16:31", 9, price=14), calendar=extended)

    split = split_by_rules(bars, RuleSet("equity"), extended)

    assert split.valid.filter(pl.col("flags").is_not_null())["high"].to_list() == [14.12]


def test_prices_of_zero_and_below_have_no_bad_ticks() -> None:
    bars = minute_bars(*minute_run("09:30", 5, price=-37), ("09:35", -37, 0.4, -40, -37, 100))

    assert broken(bars, RuleSet("future")) == {}
    assert broken(bars, RuleSet("spread")) == {}


def test_a_coin_may_crash_to_a_thousandth_for_a_moment() -> None:
    bars = minute_bars(*minute_run("09:30", 20, price=317), ("09:50", 317, 317, 0.1, 316, 100))

    assert broken(bars, RuleSet("crypto")) == {"bad_tick": 1}


def test_the_same_bar_again_and_again_is_a_stale_feed() -> None:
    same: list[Bar] = [(bar[0], 10, 10.02, 9.99, 10.01, 100) for bar in minute_run("09:30", 8)]
    unquoted: list[Bar] = [(bar[0], 10, 10.02, 9.99, 10.01, 0) for bar in same]

    assert broken(minute_bars(*same[:4])) == {}
    assert broken(minute_bars(*same)) == {"stale_feed": 4}
    assert broken(minute_bars(*unquoted), RuleSet("fx")) == {"stale_feed": 4}


def test_one_price_for_twenty_minutes_of_trading_stands_still() -> None:
    still: list[Bar] = [(f"10:{minute:02}", 10, 10, 10, 10, 100 + minute % 7) for minute in range(22)]
    index: list[Bar] = [(f"10:{minute:02}", 10, 10, 10, 10, 0) for minute in range(22)]

    assert broken(minute_bars(*still)) == {"constant_price": 3}
    assert broken(minute_bars(*still), RuleSet("crypto")) == {}
    assert broken(minute_bars(*index), RuleSet("index")) == {"constant_price": 3}


def test_volume_that_is_a_running_total_is_told_from_volume_by_the_minute() -> None:
    totals = minute_bars(*minute_run("09:30", 14)).with_columns(volume=100.0 * pl.int_range(1, 15))

    assert broken(totals) == {"rising_volume": 3}


def at_opens(*prices: float, symbol: str = "ACME") -> pl.DataFrame:
    """One session after another, each at one price."""
    days = calendar_of().dates
    runs = (minute_run("09:30", 2, f"{day}", price=price) for day, price in zip(days, prices, strict=False))
    return minute_bars(*(bar for run in runs for bar in run), symbol=symbol)


def test_a_session_that_opens_far_from_the_last_close_jumps_overnight() -> None:
    assert broken(at_opens(100, 42)) == {"overnight_jump": 1}
    assert broken(at_opens(100, 177)) == {"overnight_jump": 1}
    assert broken(at_opens(1, 100)) == {"overnight_jump": 1}


@pytest.mark.parametrize("after", [645 / 7, 645 / 20 * 1.03, 645 * 20 * 0.96, 645 / 4, 645 * 3])
def test_a_split_is_no_jump(after: float) -> None:
    assert broken(at_opens(645, after)) == {}


def test_the_first_session_of_a_symbol_has_none_to_jump_from() -> None:
    bars = pl.concat([at_opens(100), at_opens(42, symbol="BOLT")])

    assert broken(bars) == {}


@pytest.mark.parametrize("severity", [Severity.WARN, Severity.ERROR])
def test_what_is_stored_of_a_session_does_not_follow_from_another(severity: Severity) -> None:
    with pytest.raises(ValueError, match="expected severity INFO for overnight_jump"):
        RuleSet("equity", {"overnight_jump": severity})
