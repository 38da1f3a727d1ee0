"""Two versions of a day are compared bar by bar, and an instant tells which of several versions stood."""

import math
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.restatements import DIFFERENCES, differences, stood_at
from marketpipe_assets.bars.schema import BAR_COLUMNS, VERSION, empty
from marketpipe_assets_tests.lake.rows import TUESDAY, WEDNESDAY, bars_of

RAW = "raw_bars_1m"
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = bars_of("AAPL", TUESDAY, [10.0, 20.0, 40.0], table=RAW)


def row_of(before: pl.DataFrame, after: pl.DataFrame) -> tuple[object, ...]:
    (row,) = differences(before, after).rows()
    return row[2:]


def test_equal_versions_differ_by_nothing() -> None:
    assert row_of(DAY, DAY) == (3, 3, 0, 0, 0, 0.0)


def test_changed_added_and_removed_bars_are_counted() -> None:
    longer = bars_of("AAPL", TUESDAY, [10.0, 21.0, 40.0, 41.0], table=RAW)

    assert row_of(DAY, longer) == (3, 4, 1, 1, 0, pytest.approx(0.05))
    assert row_of(longer, DAY) == (4, 3, 1, 0, 1, pytest.approx(1 - 20 / 21))
    assert row_of(DAY[:1], longer[1:]) == (1, 3, 0, 3, 1, None)


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "trade_count", "vwap"])
def test_any_figure_that_differs_is_a_change(column: str) -> None:
    restated = DAY.with_columns(pl.lit(7.5).cast(BAR_COLUMNS[column]).alias(column))

    assert row_of(DAY, restated)[:5] == (3, 3, 3, 0, 0)


def test_another_provider_is_a_change_of_every_bar() -> None:
    assert row_of(DAY, bars_of("AAPL", TUESDAY, [10.0, 20.0, 40.0], table=RAW, provider="alpaca"))[2] == 3


def test_unknown_and_nan_are_equal_to_themselves() -> None:
    unknown = DAY.with_columns(pl.lit(math.nan).alias("close"))

    assert row_of(unknown, unknown) == (3, 3, 0, 0, 0, None)


def test_copies_of_a_minute_are_compared_in_their_order() -> None:
    twice = DAY[[0, 1, 1, 2]]

    assert row_of(DAY, twice) == (3, 4, 0, 1, 0, 0.0)
    assert row_of(twice, DAY[[2, 1, 0]]) == (4, 3, 0, 0, 1, 0.0)


def test_a_change_from_zero_has_no_measure() -> None:
    zero = DAY.with_columns(pl.lit(0.0).alias("close"))

    assert row_of(zero, DAY) == (3, 3, 3, 0, 0, None)


def test_every_symbol_day_of_either_version_has_a_row() -> None:
    before = pl.concat([bars_of("MSFT", TUESDAY, table=RAW), DAY])
    after = pl.concat([DAY, bars_of("AAPL", WEDNESDAY, table=RAW)])

    found = differences(before, after)

    assert found.schema == DIFFERENCES
    assert found.select("symbol", "session_date", "added", "removed").rows() == [
        ("AAPL", TUESDAY, 0, 0),
        ("AAPL", WEDNESDAY, 3, 0),
        ("MSFT", TUESDAY, 0, 3),
    ]


def test_no_bars_differ_by_nothing() -> None:
    assert differences(empty(), empty()).equals(pl.DataFrame(schema=dict(DIFFERENCES)))


MINUTES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([1.0, 2.0, math.nan])), max_size=8)


def day_of(minutes: list[tuple[int, float]]) -> pl.DataFrame:
    bars = [bars_of("AAPL", TUESDAY, [1.0] * minute + [price], table=RAW)[minute:] for minute, price in minutes]
    return pl.concat([empty(), *bars])


@given(MINUTES, MINUTES)
def test_what_was_is_and_came_or_went_adds_up(before: list[tuple[int, float]], after: list[tuple[int, float]]) -> None:
    rows = differences(day_of(before), day_of(after)).rows(named=True)

    for row in rows:
        assert row["bars_before"] == len(before)
        assert row["bars_before"] - row["removed"] + row["added"] == row["bars_after"] == len(after)
        assert row["changed"] <= row["bars_before"] - row["removed"]
    assert len(rows) == bool(before or after)


def facts_of(*rows: tuple[date, datetime | None], symbol: str = "AAPL") -> pl.DataFrame:
    schema = {"symbol": pl.String(), "session_date": pl.Date(), "fetched_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame([(symbol, *row) for row in rows], schema=schema, orient="row")


def version(bars: pl.DataFrame, fetched_at: datetime | None, superseded_at: datetime) -> pl.DataFrame:
    return bars.with_columns(
        pl.lit(fetched_at, VERSION["fetched_at"]).alias("fetched_at"),
        pl.lit(superseded_at, VERSION["superseded_at"]).alias("superseded_at"),
    )


FIRST, SECOND = bars_of("AAPL", TUESDAY, [1.0, 2.0], table=RAW), bars_of("AAPL", TUESDAY, [3.0], table=RAW)
NOTHING = empty()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOON - timedelta(microseconds=1), NOTHING),
        (NOON, FIRST),
        (NOON + timedelta(hours=1, microseconds=-1), FIRST),
        (NOON + timedelta(hours=1), SECOND),
        (NOON + timedelta(hours=2, microseconds=-1), SECOND),
        (NOON + timedelta(hours=2), DAY),
        (NOON + timedelta(days=999), DAY),
    ],
)
def test_the_version_that_stood_at_an_instant_is_told(moment: datetime, expected: pl.DataFrame) -> None:
    one, two = (NOON + timedelta(hours=hours) for hours in (1, 2))
    superseded = pl.concat([version(FIRST, NOON, one), version(SECOND, one, two)])

    assert stood_at(moment, DAY, superseded, facts_of((TUESDAY, two))).equals(expected)


def test_a_version_whose_fetch_is_not_known_has_stood_from_the_beginning() -> None:
    long_ago = datetime(1990, 1, 1, tzinfo=UTC)
    superseded = version(FIRST, None, NOON)

    assert stood_at(long_ago, DAY, superseded, facts_of((TUESDAY, NOON))).equals(FIRST)
    assert stood_at(long_ago, DAY, superseded[:0], facts_of()).equals(DAY)


def test_a_version_kept_by_a_write_that_was_killed_is_not_read_twice() -> None:
    superseded = version(DAY, NOON, NOON + timedelta(hours=1))
    facts = facts_of((TUESDAY, NOON))

    for hours in (0, 1, 2):
        assert stood_at(NOON + timedelta(hours=hours), DAY, superseded, facts).equals(DAY)


def test_each_symbol_day_has_its_own_versions() -> None:
    later = bars_of("AAPL", WEDNESDAY, table=RAW)
    superseded = version(FIRST, NOON, NOON + timedelta(hours=1))
    facts = facts_of((TUESDAY, NOON + timedelta(hours=1)), (WEDNESDAY, NOON))

    found = stood_at(NOON, pl.concat([DAY, later]), superseded, facts)

    assert found.sort("session_date", maintain_order=True).equals(pl.concat([FIRST, later]))
