"""What bars_1m promises, and how a breach is told."""

from math import inf, nan

import polars as pl
import pytest

from marketpipe_assets.bars.contract import breaches
from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.schema import BAR_COLUMNS, FLAGS, empty
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, flagged, minute_bars, minute_run

GOOD: Bar = ("09:30", 10, 11, 9, 10, 100)
VALID = flagged(minute_bars(GOOD, ("09:31", 10, 11, 9, 10, 0)))

ENCLOSED = "high and low enclose finite prices"
RISING = "minutes of a symbol rise and are unique"
WHOLE = "bars begin on whole minutes, with volume of zero or more"


def test_valid_bars_hold_it_with_flags_trades_and_averages_or_without() -> None:
    bars = minute_bars(GOOD, ("09:31", 20, 21, 19, 20, 100), trade_count=[1, None], vwap=[10, None])

    split = split_by_rules(bars, RuleSet("equity"), calendar_of())

    assert split.valid["flags"].to_list() == [None, ["price_jump"]]
    assert breaches(split.valid) == []
    assert breaches(VALID) == []


def test_symbols_follow_one_another_each_from_its_first_minute() -> None:
    assert breaches(pl.concat([flagged(minute_bars(GOOD, symbol="BOLT")), VALID])) == []


def test_no_bars_hold_it() -> None:
    assert breaches(empty({**BAR_COLUMNS, **FLAGS})) == []


def with_bar(*bar: float | str | None, begin: str = "09:32") -> pl.DataFrame:
    open_, high, low, close, volume = (each if isinstance(each, int | float) else None for each in bar)
    return pl.concat([VALID, flagged(minute_bars((begin, open_, high, low, close, volume)))])


@pytest.mark.parametrize(
    ("bars", "broken"),
    [
        (with_bar(10, 9.5, 9, 9, 100), [ENCLOSED]),
        (with_bar(10, 11, 10.5, 10.7, 100), [ENCLOSED]),
        (with_bar(10, inf, 9, 10, 100), [ENCLOSED]),
        (with_bar(10, 11, 9, nan, 100), [ENCLOSED, "not_nullable (close)"]),
        (with_bar(10, 11, 9, None, 100), ["not_nullable (close)"]),
        (with_bar(10, 11, 9, 10, None), ["not_nullable (volume)"]),
        (with_bar(10, 11, 9, 10, -1), [WHOLE]),
        (with_bar(10, 11, 9, 10, 100, begin="09:32:30"), [WHOLE]),
        (with_bar(10, 11, 9, 10, 100, begin="09:31"), [RISING]),
        (with_bar(10, 11, 9, 10, 100, begin="09:29"), [RISING]),
        (pl.concat([VALID, flagged(minute_bars(GOOD, symbol="BOLT")), VALID]), [RISING]),
        (flagged(minute_bars(GOOD, day="2024-01-01")), ["not_nullable (session)"]),
        (VALID.drop("vwap"), ["column_in_dataframe (vwap)"]),
        (VALID.with_columns(bid=1.0), ["column_in_schema (bid)"]),
        (VALID.with_columns(pl.col("volume").cast(pl.Int64)), ["dtype('Float64') (volume)"]),
        (with_bar(10, 9.5, 9, 9, -1, begin="09:31"), [WHOLE, ENCLOSED, RISING]),
    ],
)
def test_each_breach_is_named(bars: pl.DataFrame, broken: list[str]) -> None:
    assert breaches(bars) == broken


def test_columns_in_another_order_are_a_breach() -> None:
    assert breaches(VALID.select(reversed(VALID.columns)))[0].startswith("column_ordered")


def test_a_lazy_frame_is_judged_by_its_rows_too() -> None:
    bars = pl.concat([VALID, flagged(minute_bars(*minute_run("09:30", 1)))]).lazy()

    assert breaches(bars) == [RISING]  # type: ignore[arg-type]  # notebooks have no type checker


def test_bars_that_break_the_rules_do_not_hold_it_before_they_are_split() -> None:
    bars = minute_bars(("09:31", 10, 11, 9, 10, 100), GOOD, GOOD, ("09:33", 10, 9, 9, 10, -1))

    assert breaches(flagged(bars)) == [WHOLE, ENCLOSED, RISING]
    assert breaches(split_by_rules(bars, RuleSet("equity"), calendar_of()).valid) == []
