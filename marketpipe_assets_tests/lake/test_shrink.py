"""A thinner answer does not take away bars that are stored."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.lake.shrink import guard_shrink
from marketpipe_assets_tests.lake.rows import MARKET, TUESDAY, WEDNESDAY, bars_of, store

RAW = "raw_bars_1m"
SYMBOLS = ["AAPL", "MSFT"]
DAYS = [TUESDAY, WEDNESDAY]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lake = tmp_path / "lake"
    store(lake, pl.concat([bars_of(symbol, day, table=RAW) for symbol in SYMBOLS for day in DAYS]), table=RAW)
    return lake


def answer(aapl_tuesday: list[float], aapl_wednesday: list[float], msft_tuesday: list[float]) -> pl.DataFrame:
    return pl.concat(
        [
            bars_of("AAPL", TUESDAY, aapl_tuesday, table=RAW),
            bars_of("AAPL", WEDNESDAY, aapl_wednesday, table=RAW),
            bars_of("MSFT", TUESDAY, msft_tuesday, table=RAW),
        ]
    )


def test_only_the_symbol_days_that_shrank_keep_their_stored_bars(lake: Path) -> None:
    fetched = answer([20.0, 21.0], [30.0, 31.0, 32.0], [40.0, 41.0, 42.0, 43.0])

    guarded = guard_shrink(lake, MARKET, RAW, fetched, SYMBOLS, DAYS)

    assert guarded.shrunk.rows() == [("AAPL", TUESDAY, 3, 2), ("MSFT", WEDNESDAY, 3, 0)]
    assert_frame_equal(
        guarded.bars,
        pl.concat(
            [
                bars_of("AAPL", TUESDAY, table=RAW),
                bars_of("AAPL", WEDNESDAY, [30.0, 31.0, 32.0], table=RAW),
                bars_of("MSFT", TUESDAY, [40.0, 41.0, 42.0, 43.0], table=RAW),
                bars_of("MSFT", WEDNESDAY, table=RAW),
            ]
        ),
    )


def test_an_answer_with_as_many_bars_is_stored_as_it_is(lake: Path) -> None:
    fetched = pl.concat([bars_of(symbol, day, [1.0, 2.0, 3.0], table=RAW) for symbol in SYMBOLS for day in DAYS])

    guarded = guard_shrink(lake, MARKET, RAW, fetched, SYMBOLS, DAYS)

    assert guarded.bars is fetched
    assert guarded.shrunk.is_empty()


def test_an_empty_answer_keeps_all_that_is_stored(lake: Path) -> None:
    guarded = guard_shrink(lake, MARKET, RAW, empty(columns_of(RAW)), SYMBOLS, DAYS)

    assert guarded.shrunk.height == 4
    assert guarded.bars.height == 12


def test_kept_bars_are_in_the_order_of_their_arrival(lake: Path) -> None:
    arrived = bars_of("AAPL", TUESDAY, table=RAW)[[2, 0, 1]]
    store(lake, arrived, table=RAW)

    guarded = guard_shrink(lake, MARKET, RAW, answer([1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), SYMBOLS, DAYS)

    assert_frame_equal(guarded.bars.filter(symbol="AAPL", session_date=TUESDAY), arrived)


def test_where_nothing_is_stored_nothing_can_shrink(tmp_path: Path) -> None:
    fetched = bars_of("AAPL", TUESDAY, [1.0], table=RAW)

    guarded = guard_shrink(tmp_path / "lake", MARKET, RAW, fetched, ["AAPL"], [TUESDAY])

    assert guarded.bars is fetched
