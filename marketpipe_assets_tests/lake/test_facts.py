"""Raw files say since when each date's bars stand and which run fetched them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.lake.facts import Fetch, Publication, fetches_of
from marketpipe_assets.lake.merge import Written, write_bars
from marketpipe_assets.lake.parquet import DamagedFile, damage
from marketpipe_assets.lake.scan import bar_counts, read_bars, table_dataset
from marketpipe_assets_tests.lake.rows import (
    FEBRUARY,
    MARKET,
    THURSDAY,
    TUESDAY,
    WEDNESDAY,
    bars_of,
    path_of,
    said_of,
    store,
)

RAW = "raw_bars_1m"
NOON = datetime(2024, 3, 1, 12, microsecond=123, tzinfo=UTC)
EVENING = NOON + timedelta(hours=8)
NONE = empty(columns_of(RAW))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def fetched(
    lake: Path,
    bars: pl.DataFrame,
    dates: Sequence[date],
    at: datetime = NOON,
    run: str = "first",
    symbols: Sequence[str] = ("AAPL",),
) -> Written:
    sessions = [day for day in dates if day.isoweekday() <= 5]
    return write_bars(lake, MARKET, RAW, bars, symbols, dates, Fetch(at, run, sessions))


def facts(lake: Path, *dates: date, symbols: Sequence[str] = ("AAPL",)) -> list[tuple[object, ...]]:
    return fetches_of(lake, MARKET, symbols, dates).drop("settled_at").rows()


def test_each_date_says_when_and_by_which_run_it_was_fetched(lake: Path) -> None:
    fetched(lake, bars_of("AAPL", TUESDAY, table=RAW), [TUESDAY])
    fetched(lake, bars_of("AAPL", FEBRUARY, table=RAW), [FEBRUARY], EVENING, "second")

    found = fetches_of(lake, MARKET, ["AAPL", "MSFT"], [TUESDAY, WEDNESDAY, FEBRUARY])

    assert found.schema["fetched_at"] == pl.Datetime("us", "UTC")
    assert found.drop("settled_at").rows() == [
        ("AAPL", TUESDAY, NOON, "first"),
        ("AAPL", FEBRUARY, EVENING, "second"),
    ]


def test_dates_of_one_file_keep_their_own_facts(lake: Path) -> None:
    fetched(lake, bars_of("AAPL", TUESDAY, table=RAW), [TUESDAY])
    fetched(lake, bars_of("AAPL", THURSDAY, table=RAW), [THURSDAY], EVENING, "second")

    assert facts(lake, TUESDAY, THURSDAY) == [("AAPL", TUESDAY, NOON, "first"), ("AAPL", THURSDAY, EVENING, "second")]


def test_an_equal_answer_changes_neither_file_nor_fact(lake: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, [1.0, float("nan"), 2.0], table=RAW)
    fetched(lake, bars, [TUESDAY, WEDNESDAY])
    before = path_of(lake, "AAPL", table=RAW).stat()

    written = fetched(lake, bars, [TUESDAY, WEDNESDAY], EVENING, "second")

    after = path_of(lake, "AAPL", table=RAW).stat()
    assert written == Written(files=0, unchanged=1, bytes=0)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert facts(lake, TUESDAY, WEDNESDAY) == [("AAPL", TUESDAY, NOON, "first"), ("AAPL", WEDNESDAY, NOON, "first")]


@pytest.mark.parametrize("changed", [[1.0, 2.5, 3.0], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0], []])
def test_only_the_date_that_changed_has_a_new_fact(lake: Path, changed: list[float]) -> None:
    fetched(lake, pl.concat([bars_of("AAPL", day, [1.0, 2.0, 3.0], table=RAW) for day in (TUESDAY, WEDNESDAY)]), WEEK)

    answer = pl.concat(
        [bars_of("AAPL", TUESDAY, [1.0, 2.0, 3.0], table=RAW), bars_of("AAPL", WEDNESDAY, changed, table=RAW)]
    )
    fetched(lake, answer, WEEK, EVENING, "second")

    assert facts(lake, *WEEK) == [("AAPL", TUESDAY, NOON, "first"), ("AAPL", WEDNESDAY, EVENING, "second")]


WEEK = [TUESDAY, WEDNESDAY]


def test_bars_in_another_order_of_arrival_are_another_answer(lake: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, table=RAW)
    fetched(lake, bars, [TUESDAY])

    fetched(lake, bars[[1, 0, 2]], [TUESDAY], EVENING, "second")

    assert facts(lake, TUESDAY) == [("AAPL", TUESDAY, EVENING, "second")]


def test_a_fetch_that_ends_after_a_later_one_stands_from_then_on(lake: Path) -> None:
    fetched(lake, bars_of("AAPL", TUESDAY, [1.0], table=RAW), [TUESDAY], EVENING, "later")

    fetched(lake, bars_of("AAPL", TUESDAY, [2.0], table=RAW), [TUESDAY], NOON, "earlier")

    assert facts(lake, TUESDAY) == [("AAPL", TUESDAY, EVENING + timedelta(microseconds=1), "earlier")]


CLOSE = datetime(2024, 1, 2, 21, tzinfo=UTC)
PUBLISHED = CLOSE + timedelta(hours=24)


def asked(lake: Path, prices: Sequence[float], hours: int, last_minute: datetime = CLOSE) -> Written:
    """Fetch Tuesday so many hours after its close."""
    publications = {TUESDAY: Publication(last_minute, PUBLISHED)}
    fetch = Fetch(CLOSE + timedelta(hours=hours), f"run-{hours}", [TUESDAY], publications)
    bars = bars_of("AAPL", TUESDAY, prices, table=RAW) if prices else NONE
    return write_bars(lake, MARKET, RAW, bars, ["AAPL"], [TUESDAY], fetch)


def settled(lake: Path) -> list[tuple[object, ...]]:
    return fetches_of(lake, MARKET, ["AAPL"], [TUESDAY]).select("run_id", "settled_at").rows()


@pytest.mark.parametrize("prices", [[1.0, 2.0], []])
def test_an_early_answer_given_again_after_publication_is_settled_once(lake: Path, prices: list[float]) -> None:
    written = [asked(lake, prices, hours) for hours in (1, 2, 24, 25)]

    assert settled(lake) == [("run-1", PUBLISHED)]
    assert [each.files for each in written] == [1, 0, 1, 0]
    assert damage(path_of(lake, "AAPL", table=RAW), said_of("AAPL", RAW)) is None


def test_whichever_later_answer_is_written_first_leaves_the_same_file(tmp_path: Path) -> None:
    for hours in ([1, 24, 30], [1, 30, 24]):
        for each in hours:
            asked(tmp_path / f"{hours[1]}", [1.0], each)

    assert len({path_of(tmp_path / lake, "AAPL", table=RAW).read_bytes() for lake in ("24", "30")}) == 1


def test_an_early_answer_that_has_the_last_minute_is_not_written_again(lake: Path) -> None:
    last = datetime(2024, 1, 2, 14, 31, tzinfo=UTC)
    asked(lake, [1.0, 2.0], 1, last)

    assert asked(lake, [1.0, 2.0], 25, last) == Written(files=0, unchanged=1, bytes=0)


def test_a_settled_day_stays_so_when_another_is_fetched_and_until_it_changes(lake: Path) -> None:
    asked(lake, [1.0], 1)
    asked(lake, [1.0], 25)
    fetched(lake, bars_of("AAPL", WEDNESDAY, table=RAW), [WEDNESDAY])
    before = settled(lake)

    asked(lake, [1.0, 2.0], 26)

    assert before == [("run-1", PUBLISHED)]
    assert settled(lake) == [("run-26", None)]


def test_a_day_the_provider_has_no_bars_of_leaves_a_file_that_says_so(lake: Path) -> None:
    written = fetched(lake, NONE, [TUESDAY, WEDNESDAY])

    path = path_of(lake, "AAPL", table=RAW)
    assert (written.files, written.bytes) == (1, path.stat().st_size)
    assert damage(path, said_of("AAPL", RAW)) is None
    assert facts(lake, TUESDAY, WEDNESDAY, THURSDAY) == [
        ("AAPL", TUESDAY, NOON, "first"),
        ("AAPL", WEDNESDAY, NOON, "first"),
    ]


def test_a_later_fetch_of_nothing_is_added_to_the_files_facts_once(lake: Path) -> None:
    fetched(lake, bars_of("AAPL", TUESDAY, table=RAW), [TUESDAY])

    first = fetched(lake, NONE, [WEDNESDAY], EVENING, "second")
    again = fetched(lake, NONE, [WEDNESDAY], EVENING + timedelta(1), "third")

    assert (first.files, again.files) == (1, 0)
    assert facts(lake, TUESDAY, WEDNESDAY) == [
        ("AAPL", TUESDAY, NOON, "first"),
        ("AAPL", WEDNESDAY, EVENING, "second"),
    ]


def test_closed_days_without_bars_leave_no_file(lake: Path) -> None:
    saturday, monday = date(2024, 3, 30), date(2024, 4, 1)

    fetched(lake, bars_of("AAPL", monday, table=RAW), [saturday, monday])

    assert not path_of(lake, "AAPL", "2024-03", RAW).exists()
    assert facts(lake, saturday, monday) == [("AAPL", monday, NOON, "first")]


def test_a_bar_on_a_closed_day_has_its_fact(lake: Path) -> None:
    saturday, monday = date(2024, 3, 30), date(2024, 4, 1)

    fetched(lake, bars_of("AAPL", saturday, table=RAW), [saturday, monday])

    assert facts(lake, saturday, monday) == [("AAPL", saturday, NOON, "first"), ("AAPL", monday, NOON, "first")]


def test_bars_from_before_facts_were_kept_have_none_and_are_not_rewritten(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY, table=RAW), table=RAW)

    written = fetched(lake, bars_of("AAPL", TUESDAY, table=RAW), [TUESDAY])

    assert written.files == 0
    assert facts(lake, TUESDAY) == []


def test_bars_that_no_fetch_gave_are_of_unknown_origin(lake: Path) -> None:
    fetched(lake, pl.concat([bars_of("AAPL", day, table=RAW) for day in WEEK]), WEEK)

    write_bars(lake, MARKET, RAW, NONE, ["AAPL"], [TUESDAY])

    assert facts(lake, *WEEK) == [("AAPL", WEDNESDAY, NOON, "first")]


def test_a_raw_file_without_bars_and_without_facts_is_removed(lake: Path) -> None:
    fetched(lake, bars_of("AAPL", TUESDAY, table=RAW), [TUESDAY])

    write_bars(lake, MARKET, RAW, NONE, ["AAPL"], [TUESDAY])

    assert not path_of(lake, "AAPL", table=RAW).exists()


def test_other_tables_have_no_files_without_bars(lake: Path) -> None:
    write_bars(lake, MARKET, "bars_1m", empty(columns_of("bars_1m")), ["AAPL"], [TUESDAY], Fetch(NOON, "r", [TUESDAY]))

    assert not path_of(lake, "AAPL").parent.exists()


def test_a_file_whose_footer_was_damaged_tells_no_facts(lake: Path) -> None:
    fetched(lake, NONE, [TUESDAY])
    path = path_of(lake, "AAPL", table=RAW)
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)

    with pytest.raises(DamagedFile):
        fetches_of(lake, MARKET, ["AAPL"], [TUESDAY])


def test_files_without_bars_are_read_beside_those_that_have_some(lake: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, table=RAW, feed="sip")
    fetched(lake, bars, [TUESDAY, FEBRUARY], symbols=["AAPL", "MSFT"])
    files = f"'{lake}/{MARKET}/{RAW}/*/*.parquet', hive_partitioning = true"

    assert len(list((lake / MARKET / RAW).glob("*/*.parquet"))) == 4
    assert read_bars(lake, MARKET, RAW, ["MSFT", "AAPL"], [TUESDAY, FEBRUARY]).equals(bars)
    assert read_bars(lake, MARKET, RAW, ["MSFT"], [TUESDAY]).equals(NONE)
    assert bar_counts(lake, MARKET, RAW, ["AAPL", "MSFT"], [TUESDAY, FEBRUARY]).rows() == [("AAPL", TUESDAY, 3)]
    assert table_dataset(lake, MARKET, RAW).count_rows() == 3
    assert pl.scan_parquet(lake / MARKET / RAW, hive_schema={"symbol": pl.String}).collect().height == 3
    assert duckdb.connect().execute(f"SELECT symbol, count(*) FROM read_parquet({files}) GROUP BY ALL").fetchall() == [
        ("AAPL", 3)
    ]
