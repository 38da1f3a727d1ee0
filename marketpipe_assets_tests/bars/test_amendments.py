"""What waivers and repairs do to bars, and that nothing is lost or changed in silence by them."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.bars.amendments import Repair, Waiver, standing
from marketpipe_assets.bars.quarantine import Split, split_by_rules
from marketpipe_assets.bars.rules import STRUCTURAL, RuleSet, Severity
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars, minute_run
from marketpipe_assets_tests.bars.test_quarantine import answers

TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)
TODAY = date(2024, 6, 1)
SPIKE: Bar = ("09:40", 10, 50, 10, 10, 100)


def waiver(
    rule: str = "impossible_tick", symbol: str = "ACME", first: date = TUESDAY, expires: date = date(2025, 1, 1)
) -> Waiver:
    return Waiver(symbol, first, WEDNESDAY, rule, "it was so", "ana", expires)


def repair(minute: str = "09:40", symbol: str = "ACME", **values: float | None) -> Repair:
    hour, minutes = map(int, minute.split(":"))
    return Repair(symbol, datetime(2024, 1, 2, hour + 5, minutes, tzinfo=UTC), values, "it was not so", "ana")


def spiking(symbol: str = "ACME", day: str = "2024-01-02") -> pl.DataFrame:
    return minute_bars(*minute_run("09:30", 10, day), SPIKE, *minute_run("09:41", 10, day), symbol=symbol, day=day)


def split(bars: pl.DataFrame, waivers: tuple[Waiver, ...] = (), repairs: tuple[Repair, ...] = ()) -> Split:
    return split_by_rules(bars, RuleSet("equity", waivers=waivers, repairs=repairs), calendar_of())


def flags(bars: Split) -> list[list[str]]:
    return bars.valid["flags"].drop_nulls().to_list()


def test_a_spike_is_quarantined_where_nobody_waived_or_repaired_it() -> None:
    assert split(spiking()).quarantined["broken_rules"].to_list() == [["impossible_tick", "bad_tick"]]


def test_a_waived_bar_is_valid_and_says_what_was_waived() -> None:
    found = split(spiking(), (waiver(),))

    assert found.quarantined.is_empty()
    assert flags(found) == [["impossible_tick", "bad_tick", "waived"]]
    assert found.waived == {"impossible_tick": 1}
    assert found.broken == {"impossible_tick": 1, "bad_tick": 1}


@pytest.mark.parametrize("other", [waiver(symbol="BOLT"), waiver(first=WEDNESDAY), waiver(rule="price_jump")])
def test_a_waiver_is_for_one_rule_of_one_symbol_in_its_sessions(other: Waiver) -> None:
    assert split(spiking(), (other,)).quarantined.height == 1


def test_a_bar_that_breaks_another_rule_as_well_stays_in_quarantine_with_all_its_reasons() -> None:
    bars = minute_bars(*minute_run("09:30", 10), ("09:40", 10, 50, 10, 10, 100), *minute_run("09:41", 10)).with_columns(
        trade_count=pl.when(pl.col("high") == 50).then(-1)
    )

    found = split(bars, (waiver(),))

    assert found.quarantined["broken_rules"].to_list() == [["negative_trade_count", "impossible_tick", "bad_tick"]]


def test_a_warning_can_be_waived_and_stays_in_sight() -> None:
    bars = minute_bars(("09:30", 10, 10, 10, 10, 100), ("09:31", 20, 20, 20, 20, 100))

    found = split(bars, (waiver("price_jump"),))

    assert flags(found) == [["price_jump", "waived"]]


@pytest.mark.parametrize("rule", [*sorted(STRUCTURAL), "volume_spike", "overnight_jump", "bad_luck"])
def test_rules_that_longer_bars_rest_on_and_those_that_only_count_cannot_be_waived(rule: str) -> None:
    with pytest.raises(ValueError, match=f"expected a rule of out_of_order, .*, was '{rule}'"):
        RuleSet("equity", waivers=(waiver(rule),))


def test_a_rule_that_the_market_only_counts_cannot_be_waived() -> None:
    with pytest.raises(ValueError, match="was 'bad_tick'"):
        RuleSet("equity", {"bad_tick": Severity.INFO}, waivers=(waiver("bad_tick"),))


def test_a_waiver_stands_until_the_day_it_expires() -> None:
    assert standing([waiver(expires=TODAY)], TODAY - timedelta(days=1)) != ()
    assert standing([waiver(expires=TODAY)], TODAY) == ()


def test_a_repaired_bar_is_judged_and_stored_with_its_new_values_and_raw_keeps_the_old() -> None:
    raw = spiking()
    before = raw.clone()

    found = split(raw, repairs=(repair(high=10.02, vwap=None, trade_count=7),))

    assert found.quarantined.is_empty()
    assert flags(found) == [["repaired"]]
    (bar,) = found.valid.filter(pl.col("flags").is_not_null()).rows(named=True)
    assert (bar["open"], bar["high"], bar["trade_count"], bar["vwap"]) == (10, 10.02, 7, None)
    assert raw.equals(before)


def test_a_repair_can_take_a_value_away() -> None:
    bars = minute_bars(("09:40", 10, 11, 9, 10, 100), vwap=[99])

    found = split(bars, repairs=(repair(vwap=None),))

    assert flags(found) == [["repaired"]]
    assert found.valid["vwap"].to_list() == [None]


def test_a_repaired_bar_that_still_breaks_a_rule_is_quarantined_as_it_arrived() -> None:
    found = split(spiking(), repairs=(repair(high=40),))

    assert found.quarantined["high"].to_list() == [50]
    assert len(found.mended) == 1


def test_a_repaired_bar_changes_how_its_neighbours_are_judged() -> None:
    bars = minute_bars(*minute_run("09:30", 10), ("09:40", 20, 20, 20, 20, 100), *minute_run("09:41", 10))

    assert split(bars).broken["price_jump"] == 1
    assert split(bars, repairs=(repair(open=10, high=10, low=10, close=10),)).broken == {}


@pytest.mark.parametrize("other", [repair("09:55", high=1), repair(symbol="BOLT", high=1)])
def test_a_repair_without_a_bar_is_not_among_the_mended(other: Repair) -> None:
    right = repair(high=10.02)

    assert split(spiking(), repairs=(other, right)).mended == [right]


def test_every_copy_of_a_bar_is_repaired() -> None:
    bars = minute_bars(("09:40", 10, 11, 9, 10, 100), ("09:40", 10, 12, 9, 10, 100))

    found = split(bars, repairs=(repair(high=11),))

    assert flags(found) == [["repaired"]]
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_ts"]]


SYMBOLS = st.sampled_from(["ACME", "BOLT"])
WAIVABLE = st.sampled_from([*RuleSet("equity").waivable])
WAIVERS = st.lists(
    st.builds(
        waiver,
        WAIVABLE,
        SYMBOLS,
        st.sampled_from([date(2024, 1, 1), TUESDAY, WEDNESDAY]),
        st.sampled_from([TODAY, TODAY + timedelta(days=1)]),
    ),
    max_size=6,
).map(tuple)
MINUTES = st.integers(0, 70).map(lambda minute: f"{9 + (20 + minute) // 60:02}:{(20 + minute) % 60:02}")
REPAIRS = st.lists(
    st.builds(
        lambda at, symbol, values: repair(at, symbol, **values),
        MINUTES,
        SYMBOLS,
        st.dictionaries(
            st.sampled_from(["open", "high", "low", "close", "volume"]), st.sampled_from([10.0, 11.0, -1.0]), min_size=1
        ),
    ),
    max_size=6,
    unique_by=lambda each: each[:2],
).map(tuple)
KEY = ("symbol", "ts", "provider", "feed")


@settings(deadline=None, max_examples=60)
@given(answers(), WAIVERS, REPAIRS)
def test_every_bar_is_in_exactly_one_half_whatever_is_waived_or_repaired(
    bars: pl.DataFrame, waivers: tuple[Waiver, ...], repairs: tuple[Repair, ...]
) -> None:
    found = split(bars, waivers, repairs)

    halves = pl.concat([found.valid.drop("flags"), found.quarantined.drop("broken_rules")])
    key = bars.columns
    mended = pl.col("ts").is_in([each.ts for each in found.mended])
    untouched, raw = (frame.filter(~mended).sort(key) for frame in (halves, bars))
    assert untouched.equals(raw, null_equal=True)
    assert halves.select(KEY).sort(KEY).equals(bars.select(KEY).sort(KEY))
    assert found.valid.select("symbol", "ts").is_duplicated().sum() == 0
    assert found.quarantined.select(key).join(bars, on=key, how="anti", nulls_equal=True).is_empty()


@settings(deadline=None, max_examples=60)
@given(answers(), WAIVERS)
def test_what_is_waived_and_expires_is_as_if_it_had_never_been_waived(
    bars: pl.DataFrame, waivers: tuple[Waiver, ...]
) -> None:
    before = split(bars)
    while_waived = split(bars, standing(waivers, TODAY - timedelta(days=1)))
    afterwards = split(bars, standing(waivers, TODAY + timedelta(days=1)))

    assert while_waived.broken == before.broken
    assert afterwards.valid.equals(before.valid)
    assert afterwards.quarantined.equals(before.quarantined)
    assert (
        while_waived.valid.height == before.valid.height + before.quarantined.height - while_waived.quarantined.height
    )
