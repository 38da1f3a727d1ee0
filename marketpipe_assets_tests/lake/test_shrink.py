"""A thinner answer does not take away bars that are stored."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.lake.facts import Fetch, Publication, fetches_of
from marketpipe_assets.lake.layout import locks_of
from marketpipe_assets.lake.merge import Written, write_bars
from marketpipe_assets.lake.parquet import locked, replace_file, table_of
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.lake.rows import MARKET, TUESDAY, WEDNESDAY, bars_of, path_of, store

RAW = "raw_bars_1m"
SYMBOLS = ["AAPL", "MSFT"]
DAYS = [TUESDAY, WEDNESDAY]
CLOSE = datetime(2024, 1, 2, 21, tzinfo=UTC)
GUARDED = Fetch(CLOSE, "run", DAYS, may_shrink=False)


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


def fetched(lake: Path, bars: pl.DataFrame, fetch: Fetch = GUARDED) -> Written:
    return write_bars(lake, MARKET, RAW, bars, SYMBOLS, DAYS, fetch)


def stored(lake: Path) -> pl.DataFrame:
    return read_bars(lake, MARKET, RAW, SYMBOLS, DAYS)


def test_only_the_symbol_days_that_shrank_keep_their_stored_bars(lake: Path) -> None:
    written = fetched(lake, answer([20.0, 21.0], [30.0, 31.0, 32.0], [40.0, 41.0, 42.0, 43.0]))

    assert written.shrunk == (("AAPL", TUESDAY, 3, 2), ("MSFT", WEDNESDAY, 3, 0))
    assert_frame_equal(
        stored(lake),
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
    bars = pl.concat([bars_of(symbol, day, [1.0, 2.0, 3.0], table=RAW) for symbol in SYMBOLS for day in DAYS])

    assert fetched(lake, bars).shrunk == ()
    assert_frame_equal(stored(lake), bars)


def test_an_empty_answer_keeps_all_that_is_stored(lake: Path) -> None:
    written = fetched(lake, empty(columns_of(RAW)))

    assert (len(written.shrunk), written.files) == (4, 0)
    assert stored(lake).height == 12


def test_an_answer_that_may_shrink_is_stored_and_told(lake: Path) -> None:
    written = fetched(lake, empty(columns_of(RAW)), GUARDED._replace(may_shrink=True))

    assert len(written.shrunk) == 4
    assert stored(lake).is_empty()


def test_kept_bars_are_in_the_order_of_their_arrival(lake: Path) -> None:
    arrived = bars_of("AAPL", TUESDAY, table=RAW)[[2, 0, 1]]
    store(lake, arrived, table=RAW)

    fetched(lake, answer([1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]))

    assert_frame_equal(stored(lake).filter(symbol="AAPL", session_date=TUESDAY), arrived)


def test_copies_of_a_minute_that_are_taken_back_are_no_loss(lake: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, table=RAW)
    store(lake, pl.concat([bars, bars]), table=RAW)

    write_bars(lake, MARKET, RAW, bars, ["AAPL"], [TUESDAY], GUARDED)

    assert_frame_equal(stored(lake).filter(symbol="AAPL", session_date=TUESDAY), bars)


def test_where_nothing_is_stored_nothing_can_shrink(tmp_path: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, [1.0], table=RAW)

    written = write_bars(tmp_path / "lake", MARKET, RAW, bars, ["AAPL"], [TUESDAY], GUARDED)

    assert (written.files, written.shrunk) == (1, ())


def test_what_another_writer_stores_while_an_answer_waits_for_the_file_counts_as_stored(lake: Path) -> None:
    path, fuller = path_of(lake, "AAPL", table=RAW), bars_of("AAPL", TUESDAY, [1.0, 2.0, 3.0, 4.0, 5.0], table=RAW)
    write = (lake, MARKET, RAW, bars_of("AAPL", TUESDAY, [1.0, 2.0, 3.0, 4.0], table=RAW), ["AAPL"], [TUESDAY], GUARDED)
    waiting = Thread(target=write_bars, args=write)

    with locked([path], locks_of(lake)):
        waiting.start()
        waiting.join(0.3)
        replace_file(path, table_of(fuller.drop("symbol")))
    waiting.join()

    assert_frame_equal(read_bars(lake, MARKET, RAW, ["AAPL"], [TUESDAY]), fuller)


def test_a_thin_answer_after_publication_settles_nothing(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    publications = {TUESDAY: Publication(CLOSE, CLOSE + timedelta(hours=24))}
    early, late = (
        Fetch(CLOSE + timedelta(hours=hours), "run", [TUESDAY], publications, may_shrink=False) for hours in (1, 25)
    )
    write_bars(lake, MARKET, RAW, bars_of("AAPL", TUESDAY, table=RAW), ["AAPL"], [TUESDAY], early)

    write_bars(lake, MARKET, RAW, bars_of("AAPL", TUESDAY, [10.0], table=RAW), ["AAPL"], [TUESDAY], late)

    assert fetches_of(lake, MARKET, ["AAPL"], [TUESDAY])["settled_at"].to_list() == [None]
