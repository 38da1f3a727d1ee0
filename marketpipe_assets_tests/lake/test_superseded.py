"""What a provider said before is kept beside what it says now, and read as it stood."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.bars.schema import BAR_COLUMNS, RAW, SUPERSEDED, empty
from marketpipe_assets.lake.facts import Fetch, fetches_of
from marketpipe_assets.lake.layout import BarFile
from marketpipe_assets.lake.merge import Written, write_bars
from marketpipe_assets.lake.parquet import damage, sweep, temporary_of
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.lake.superseded import Restatement, raw_as_of, restatements_in
from marketpipe_assets_tests.lake.rows import FEBRUARY, MARKET, TUESDAY, WEDNESDAY, bars_of, path_of, said_of, store

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAYS = [TUESDAY, WEDNESDAY]


def at(hours: int) -> datetime:
    return NOON + timedelta(hours=hours)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def day(prices: Sequence[float], of: date = TUESDAY) -> pl.DataFrame:
    return bars_of("AAPL", of, prices, table=RAW)


def fetched(lake: Path, bars: pl.DataFrame, hours: int = 0, dates: Sequence[date] = (TUESDAY,)) -> Written:
    return write_bars(lake, MARKET, RAW, bars, ["AAPL"], dates, Fetch(at(hours), f"run-{hours}", dates))


def kept(lake: Path, dates: Sequence[date] = DAYS) -> pl.DataFrame:
    return read_bars(lake, MARKET, SUPERSEDED, ["AAPL"], dates)


def test_a_day_that_is_restated_keeps_its_earlier_bars_whole(lake: Path) -> None:
    fetched(lake, day([1.0, 2.0, 4.0]))

    written = fetched(lake, day([1.0, 3.0]), 5)

    assert kept(lake).select(*BAR_COLUMNS).equals(day([1.0, 2.0, 4.0]))
    assert kept(lake).select("fetched_at", "superseded_at", "superseded_by").unique().rows() == [(NOON, at(5), "run-5")]
    assert written.restated == (Restatement("AAPL", TUESDAY, NOON, at(5), "run-5", 3, 2, 1, 0, 1, 0.5),)
    assert damage(path_of(lake, "AAPL", table=SUPERSEDED), said_of("AAPL", SUPERSEDED)) is None


def test_an_equal_answer_supersedes_nothing(lake: Path) -> None:
    fetched(lake, day([1.0, 2.0]))

    assert fetched(lake, day([1.0, 2.0]), 1).restated == ()
    assert not (lake / MARKET / SUPERSEDED).exists()


def test_only_the_days_that_differ_are_superseded(lake: Path) -> None:
    both = pl.concat([day([1.0]), day([2.0], WEDNESDAY)])
    fetched(lake, both, dates=DAYS)

    written = fetched(lake, pl.concat([day([1.0]), day([9.0], WEDNESDAY)]), 1, DAYS)

    assert [each.session_date for each in written.restated] == [WEDNESDAY]
    assert kept(lake)["session_date"].to_list() == [WEDNESDAY]


def test_a_first_fetch_is_no_restatement(lake: Path) -> None:
    fetched(lake, day([1.0]))

    assert fetched(lake, day([2.0], WEDNESDAY), 1, [WEDNESDAY]).restated == ()


def test_bars_that_come_where_there_were_none_are_told_and_leave_nothing_to_keep(lake: Path) -> None:
    fetched(lake, empty())

    written = fetched(lake, day([1.0]), 1)

    assert written.restated == (Restatement("AAPL", TUESDAY, NOON, at(1), "run-1", 0, 1, 0, 1, 0, None),)
    assert not (lake / MARKET / SUPERSEDED).exists()


def test_a_day_that_loses_all_its_bars_is_superseded(lake: Path) -> None:
    fetched(lake, day([1.0]))

    (restated,) = fetched(lake, empty(), 1).restated

    assert (restated.bars_before, restated.bars_after, restated.removed) == (1, 0, 1)
    assert kept(lake)["open"].to_list() == [1.0]


def test_every_version_of_a_day_is_kept_in_the_order_it_stood(lake: Path) -> None:
    for hours, price in enumerate([1.0, 2.0, 1.0, 3.0]):
        fetched(lake, day([price, 7.0])[[1, 0]], hours)

    assert kept(lake).select("open", "fetched_at", "superseded_at").rows() == [
        row
        for hours, price in enumerate([1.0, 2.0, 1.0])
        for row in ((7.0, at(hours), at(hours + 1)), (price, at(hours), at(hours + 1)))
    ]


def test_bars_from_before_facts_were_kept_are_superseded_without_a_fetch(lake: Path) -> None:
    store(lake, day([1.0]), table=RAW)

    (restated,) = fetched(lake, day([2.0])).restated

    assert restated.fetched_at is None
    assert kept(lake).select("open", "fetched_at", "superseded_at").rows() == [(1.0, None, NOON)]


def test_bars_that_are_replaced_without_a_fetch_are_not_kept(lake: Path) -> None:
    fetched(lake, day([1.0]))

    written = write_bars(lake, MARKET, RAW, empty(), ["AAPL"], [TUESDAY])

    assert written.restated == ()
    assert not (lake / MARKET / SUPERSEDED).exists()


def test_days_of_several_files_are_superseded_in_their_own(lake: Path) -> None:
    both = pl.concat([day([1.0]), day([1.0], FEBRUARY)])
    fetched(lake, both, dates=[TUESDAY, FEBRUARY])

    fetched(lake, both.with_columns(pl.col("close") * 2), 1, [TUESDAY, FEBRUARY])

    assert sorted(path.name for path in path_of(lake, "AAPL", table=SUPERSEDED).parent.iterdir()) == [
        "2024-01.parquet",
        "2024-02.parquet",
    ]


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path

from marketpipe_assets.lake import merge
from marketpipe_assets.lake.facts import Fetch
from marketpipe_assets_tests.lake.rows import MARKET, TUESDAY, bars_of

replace = Path.replace

def until_the_raw_file(temporary, path):
    if merge.RAW in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(temporary, path)

Path.replace = until_the_raw_file
fetch = Fetch(datetime.fromisoformat(sys.argv[2]), "killed", [TUESDAY])
bars = bars_of("AAPL", TUESDAY, [2.0], table=merge.RAW)
merge.write_bars(Path(sys.argv[1]), MARKET, merge.RAW, bars, ["AAPL"], [TUESDAY], fetch)
"""


def killed_before_the_raw_file_is_replaced(lake: Path, hours: int) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(lake), at(hours).isoformat()], check=False)
    assert died.returncode == -signal.SIGKILL


def test_a_kill_between_the_two_files_leaves_one_version_and_its_bars(lake: Path) -> None:
    fetched(lake, day([1.0]))

    killed_before_the_raw_file_is_replaced(lake, 1)
    killed_before_the_raw_file_is_replaced(lake, 2)

    assert kept(lake).height == 1
    for hours in (0, 1, 2, 3):
        assert raw_as_of(lake, MARKET, ["AAPL"], [TUESDAY], at(hours)).equals(day([1.0]))

    assert restatements_in(lake, MARKET, ["AAPL"], [TUESDAY]).is_empty()

    fetched(lake, day([2.0]), 3)

    assert kept(lake).select("open", "fetched_at", "superseded_at").rows() == [(1.0, NOON, at(3))]
    assert raw_as_of(lake, MARKET, ["AAPL"], [TUESDAY], at(2)).equals(day([1.0]))
    assert raw_as_of(lake, MARKET, ["AAPL"], [TUESDAY], at(3)).equals(day([2.0]))


def test_what_a_living_writer_of_versions_has_begun_is_not_swept(lake: Path) -> None:
    from marketpipe_assets.lake.layout import locks_of
    from marketpipe_assets.lake.parquet import locked

    raw = BarFile(MARKET, RAW, "AAPL", "2024-01").below(lake)
    begun = temporary_of(BarFile(MARKET, SUPERSEDED, "AAPL", "2024-01").below(lake))
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"PAR1")

    with locked([raw], locks_of(lake)):
        assert sweep(lake) == 0
    assert sweep(lake) == 1


def test_a_write_that_fails_keeps_no_version(lake: Path) -> None:
    both = pl.concat([day([1.0]), day([1.0]).with_columns(symbol=pl.lit("MSFT"))])
    symbols = ["AAPL", "MSFT"]
    write_bars(lake, MARKET, RAW, both, symbols, [TUESDAY], Fetch(at(0), "first", [TUESDAY]))
    temporary_of(path_of(lake, "MSFT", table=RAW)).mkdir()

    later = both.with_columns(open=pl.lit(2.0))
    with pytest.raises(OSError, match="MSFT"):
        write_bars(lake, MARKET, RAW, later, symbols, [TUESDAY], Fetch(at(1), "second", [TUESDAY]))

    assert raw_as_of(lake, MARKET, symbols, [TUESDAY], at(2)).equals(both)
    assert read_bars(lake, MARKET, SUPERSEDED, symbols, [TUESDAY]).is_empty()


def test_threads_that_restate_days_of_one_month_keep_every_version(lake: Path) -> None:
    days = [TUESDAY + timedelta(days=number) for number in range(12)]
    for hours in (0, 1):
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda of, hours=hours: fetched(lake, day([1.0 + hours], of), hours, [of]), days))

    assert kept(lake, days).select("session_date", "open").rows() == [(of, 1.0) for of in days]


def test_symbols_come_in_the_order_asked(lake: Path) -> None:
    for hours in (0, 1):
        for symbol in ("AAPL", "MSFT"):
            bars = bars_of(symbol, TUESDAY, [1.0 + hours], table=RAW)
            write_bars(lake, MARKET, RAW, bars, [symbol], [TUESDAY], Fetch(at(hours), "run", [TUESDAY]))

    found = raw_as_of(lake, MARKET, ["MSFT", "AAPL"], [TUESDAY], NOON)

    assert found.select("symbol", "open").rows() == [("MSFT", 1.0), ("AAPL", 1.0)]


ANSWERS = st.lists(
    st.dictionaries(st.sampled_from(DAYS), st.lists(st.sampled_from([1.0, 2.0]), max_size=2), min_size=1), max_size=5
)


@settings(max_examples=25)
@given(ANSWERS)
def test_as_of_any_fetch_the_bars_are_those_it_left(
    tmp_path_factory: pytest.TempPathFactory, answers: list[dict[date, list[float]]]
) -> None:
    lake = tmp_path_factory.mktemp("answers") / "lake"
    left = [empty()]
    told: list[Restatement] = []

    for hours, answer in enumerate(answers):
        written = fetched(lake, pl.concat([day(prices, of) for of, prices in answer.items()]), hours, list(answer))
        left.append(read_bars(lake, MARKET, RAW, ["AAPL"], DAYS))
        told += sorted(written.restated)

    for hours, bars in enumerate(left, start=-1):
        assert raw_as_of(lake, MARKET, ["AAPL"], DAYS, at(hours)).equals(bars)
    again = restatements_in(lake, MARKET, ["AAPL"], DAYS)
    assert [Restatement(*row) for row in again.iter_rows()] == [each for each in told if each.bars_before]
    stands = fetches_of(lake, MARKET, ["AAPL"], DAYS)
    assert set(stands["session_date"]) == {of for answer in answers for of in answer}
