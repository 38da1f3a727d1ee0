"""Two providers are compared minute by minute."""

import math

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.reconciliation import SYMBOL_DAYS, agreement
from marketpipe_assets.bars.schema import empty
from marketpipe_assets_tests.lake.rows import TUESDAY, WEDNESDAY, bars_of

RAW = "raw_bars_1m"
DAY = bars_of("AAPL", TUESDAY, [10.0, 11.0, 12.0], table=RAW)


def test_equal_minutes_agree() -> None:
    found = agreement(DAY, bars_of("AAPL", TUESDAY, [10.0, 11.0, 12.0], table=RAW, provider="other"))

    assert found.symbol_days.rows() == [("AAPL", TUESDAY, 3, 0, 0, 0, 0.0)]
    assert found.differences.is_empty()
    assert found.share == 1.0


def test_minutes_that_only_one_has_are_counted_and_named() -> None:
    longer = bars_of("AAPL", TUESDAY, [10.0, 11.0, 12.0, 13.0], table=RAW)

    found = agreement(DAY[1:], longer)

    assert found.symbol_days.rows() == [("AAPL", TUESDAY, 2, 0, 2, 0, 0.0)]
    assert found.share == 0.5
    assert agreement(longer, DAY[1:]).symbol_days.rows() == [("AAPL", TUESDAY, 2, 2, 0, 0, 0.0)]


def test_prices_beyond_the_tolerance_are_told_with_the_one_that_is_furthest_apart() -> None:
    other = DAY.with_columns(
        pl.when(pl.row_index() == 1).then(pl.col("high") * 1.25).otherwise("high").alias("high"),
        pl.when(pl.row_index() == 2).then(pl.col("close") * 1.0005).otherwise("close").alias("close"),
    )

    found = agreement(DAY, other)

    assert found.symbol_days["differing"].to_list() == [1]
    assert found.share == 2 / 3
    assert found.differences.rows() == [("AAPL", TUESDAY, DAY["ts"][1], "high", 12.0, 15.0, 0.2)]
    assert agreement(DAY, other, 0.0001).differences["field"].to_list() == ["high", "close"]
    assert agreement(DAY, other, 0.5).differences.is_empty()


def test_volumes_are_not_compared() -> None:
    assert agreement(DAY, DAY.with_columns(pl.col("volume") * 40)).differences.is_empty()


def test_of_several_bars_of_a_minute_the_first_counts() -> None:
    copies = pl.concat([DAY, bars_of("AAPL", TUESDAY, [99.0], table=RAW)])

    assert agreement(DAY, copies).symbol_days.rows() == [("AAPL", TUESDAY, 3, 0, 0, 0, 0.0)]


def test_a_price_that_is_unknown_is_not_compared() -> None:
    unknown = DAY.with_columns(pl.lit(math.nan).alias("low"))

    assert agreement(unknown, DAY).differences.is_empty()


def test_nothing_agrees_with_nothing() -> None:
    found = agreement(empty(), empty())

    assert found.symbol_days.equals(pl.DataFrame(schema=dict(SYMBOL_DAYS)))
    assert found.share == 1.0


def test_each_symbol_day_has_its_row() -> None:
    found = agreement(DAY, bars_of("MSFT", WEDNESDAY, table=RAW))

    assert found.symbol_days.rows() == [("AAPL", TUESDAY, 0, 3, 0, 0, None), ("MSFT", WEDNESDAY, 0, 0, 3, 0, None)]
    assert found.share == 0.0


MINUTES = st.sets(st.integers(0, 9))


@given(MINUTES, MINUTES)
def test_minutes_add_up_whoever_is_first(ours: set[int], theirs: set[int]) -> None:
    whole = bars_of("AAPL", TUESDAY, [10.0] * 10, table=RAW)
    first, second = (whole.filter(pl.row_index().is_in(sorted(minutes))) for minutes in (ours, theirs))

    found, turned = agreement(first, second), agreement(second, first)

    sums = found.symbol_days.select("both", "only_first", "only_second").sum().row(0)
    assert sums == (len(ours & theirs), len(ours - theirs), len(theirs - ours))
    assert turned.symbol_days.select("both", "only_second", "only_first").sum().row(0) == sums
    assert found.share == turned.share
