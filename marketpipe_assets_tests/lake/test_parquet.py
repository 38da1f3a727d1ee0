"""One file is replaced whole or not at all, and what is damaged is found rather than read."""

import random
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from marketpipe_assets.lake.layout import BarFile, locks_of
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import (
    MANY,
    ROW_GROUP,
    SEAL,
    DamagedFile,
    damage,
    encoded_size,
    locked,
    read_file,
    replace_file,
    sweep,
    table_of,
    temporary_of,
)
from marketpipe_assets_tests.lake.rows import MARKET, TUESDAY, WEDNESDAY, bars_of, path_of, said_of, store

SAID = said_of("AAPL")
DAYS = [TUESDAY + timedelta(days=number) for number in range(25)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def month(lake: Path) -> Path:
    """A file of 25 days of 390 minutes, in two row groups."""
    prices = [100 + minute / 7 for minute in range(390)]
    store(lake, pl.concat([bars_of("AAPL", day, prices) for day in DAYS]))
    return path_of(lake, "AAPL")


def flip(path: Path, content: bytes, position: int, bit: int) -> None:
    flipped = bytearray(content)
    flipped[position] ^= 1 << bit
    path.write_bytes(flipped)


def footer_of(content: bytes) -> int:
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def seal_of(content: bytes) -> int:
    return footer_of(content) - SEAL.size


def chunks_of(content: bytes, path: Path) -> list[range]:
    """Where the columns of the row groups lie."""
    footer = pq.read_metadata(path)
    columns = [
        footer.row_group(group).column(column)
        for group in range(footer.num_row_groups)
        for column in range(footer.num_columns)
    ]
    starts = sorted(each.dictionary_page_offset or each.data_page_offset for each in columns)
    return [range(start, end) for start, end in zip(starts, [*starts[1:], seal_of(content)], strict=True)]


def test_a_sound_file_has_no_damage(month: Path) -> None:
    assert damage(month, SAID) is None


def test_every_flipped_bit_of_the_pages_is_found(month: Path) -> None:
    content = month.read_bytes()
    seeded = random.Random(1)
    anywhere = seeded.sample(range(seal_of(content)), 200)
    in_each_column = [seeded.choice(chunk) for chunk in chunks_of(content, month)]
    for position in [*anywhere, *in_each_column]:
        flip(month, content, position, seeded.randrange(8))

        assert damage(month, SAID) == "expected the pages that were written, was others"


def test_every_flipped_bit_of_seal_and_footer_is_found(month: Path) -> None:
    content = month.read_bytes()
    seeded = random.Random(2)
    anywhere = seeded.sample(range(footer_of(content), len(content)), 300)
    for position in [*range(seal_of(content), footer_of(content)), *anywhere, len(content) - 8]:
        flip(month, content, position, seeded.randrange(8))

        assert damage(month, SAID) == "expected the footer that was written, was another"


def test_readers_that_know_page_checksums_find_what_changed_in_a_page(month: Path) -> None:
    content = month.read_bytes()
    values = chunks_of(content, month)[2]
    flip(month, content, values.stop - 100, 3)

    with pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.read_table(month, page_checksum_verification=True)


@pytest.mark.parametrize("kept", [0, 3, 11, 12, 100, 0.5, 0.99])
def test_a_truncated_file_is_found(month: Path, kept: float) -> None:
    content = month.read_bytes()
    month.write_bytes(content[: int(kept if kept >= 3 or not kept else kept * len(content))])

    with pytest.raises(DamagedFile, match=str(month)):
        read_file(month)


def test_zeros_in_place_of_a_file_are_found(month: Path) -> None:
    month.write_bytes(bytes(4096))

    assert damage(month, SAID) == "expected the footer that was written, was another"


def test_a_file_in_another_symbols_folder_is_found(lake: Path, month: Path) -> None:
    elsewhere = path_of(lake, "MSFT")
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(month.read_bytes())

    assert damage(elsewhere, said_of("MSFT")) == "expected symbol 'MSFT', was {'symbol': 'AAPL'}"


def test_a_file_under_another_months_name_is_found(lake: Path, month: Path) -> None:
    elsewhere = path_of(lake, "AAPL", "2024-02")
    elsewhere.write_bytes(month.read_bytes())

    assert damage(elsewhere, SAID) == "expected sessions of 2024-02, was 2024-01"


def test_a_file_with_other_columns_is_found(lake: Path) -> None:
    path = path_of(lake, "AAPL")
    replace_file(path, bars_of("AAPL", TUESDAY).drop("symbol", "vwap").to_arrow().replace_schema_metadata(SAID))

    assert str(damage(path, SAID)).startswith("expected columns {'symbol': String")


def test_a_file_without_bars_and_a_file_that_is_gone_are_told(lake: Path) -> None:
    path = path_of(lake, "AAPL")
    assert damage(path, SAID) == "the file is gone"

    replace_file(path, bars_of("AAPL", TUESDAY, []).drop("symbol").to_arrow())

    assert damage(path, SAID) == "expected bars, was an empty file"


def test_a_file_that_may_not_be_opened_is_not_called_damaged(lake: Path) -> None:
    path = path_of(lake, "AAPL")
    path.mkdir(parents=True)

    with pytest.raises(OSError, match=str(path)):
        read_file(path)


def test_a_month_of_bars_has_several_row_groups(month: Path) -> None:
    footer = pq.read_metadata(month)

    assert [footer.row_group(number).num_rows for number in range(2)] == [ROW_GROUP, 390 * len(DAYS) - ROW_GROUP]


def test_a_file_says_what_it_holds(month: Path) -> None:
    assert pq.read_schema(month).metadata == {
        b"schema_version": b"1",
        b"market": b"us_equities",
        b"table": b"bars_1m",
        b"symbol": b"AAPL",
        b"adjustment": b"raw",
        b"label": b"start",
    }


def test_nothing_but_data_files_lies_in_a_table(lake: Path, month: Path) -> None:
    assert [path for path in (lake / MARKET).rglob("*") if path.is_file()] == [month]


def test_the_file_that_was_there_stays_when_the_new_one_cannot_be_written(month: Path) -> None:
    before = month.read_bytes()
    temporary_of(month).mkdir()

    with pytest.raises(OSError, match=r"2024-01\.parquet"):
        replace_file(month, bars_of("AAPL", TUESDAY).drop("symbol").to_arrow())

    assert month.read_bytes() == before


@pytest.mark.parametrize("lacking", [1, 100, 5_000])
def test_a_write_that_ends_short_of_its_last_bytes_is_no_write(month: Path, lacking: int) -> None:
    before = month.read_bytes()
    other = bars_of("AAPL", TUESDAY, [float(minute) for minute in range(20_000)]).drop("symbol").to_arrow()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (encoded_size(other) - lacking, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_file(month, other)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert month.read_bytes() == before
    assert not temporary_of(month).exists()


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        ("raw_bars_1m", "ingest AAPL 2024-01 again"),
        ("second_bars_1m", "run the job us_equities_compare for AAPL 2024-01"),
        ("vendor_bars_1d", "run the job us_equities_compare for AAPL 2024-01"),
        ("bars_5m", "run marketpipe aggregate --symbols AAPL --all"),
        ("superseded_bars_1m", "do without these earlier versions"),
    ],
)
def test_a_damaged_file_says_how_its_bars_come_back(lake: Path, table: str, remedy: str) -> None:
    path = BarFile(MARKET, table, "AAPL", "2024-01").below(lake)

    assert f"remove it and {remedy}" in str(DamagedFile(path, "expected bars, was none"))


def test_what_killed_writers_left_is_swept_by_the_next_write(lake: Path, month: Path) -> None:
    left = [temporary_of(month), temporary_of(path_of(lake, "BTC%2FUSD"))]
    for path in left:
        path.write_bytes(b"PAR1")

    store(lake, bars_of("MSFT", TUESDAY))

    assert [path for path in left if path.exists()] == []
    assert damage(month, SAID) is None


def test_a_lake_that_was_moved_is_swept_and_written(lake: Path, month: Path) -> None:
    temporary_of(month).write_bytes(b"PAR1")
    moved = lake.rename(lake.with_name("moved"))

    store(moved, bars_of("MSFT", TUESDAY))

    assert list(moved.glob(".writing/*")) == []
    assert damage(path_of(moved, "MSFT"), said_of("MSFT")) is None


def test_what_is_being_written_is_not_swept(lake: Path, month: Path) -> None:
    temporary_of(month).write_bytes(b"PAR1")

    with locked([month], locks_of(lake)):
        assert sweep(lake) == 0
        assert temporary_of(month).exists()

    assert sweep(lake) == 1


def test_files_of_any_symbol_are_written_under_names_of_their_own(lake: Path) -> None:
    files = [
        path_of(lake, folder, period, table)
        for folder in ("A", "A%2BB", "A%2FB", "AAPL")
        for period in ("2024-01", "2024")
        for table in ("bars_1m", "bars_1d")
    ]

    assert len({temporary_of(file) for file in files}) == len(files)
    assert len(temporary_of(path_of(lake, "A" + 31 * "%2F")).name) < 255


def test_locks_are_made_where_their_folder_is_missing_and_do_not_grow(lake: Path) -> None:
    for number in range(100):
        with locked([path_of(lake, f"S{number}")], locks_of(lake)):
            pass

    assert [file.stat().st_size for file in locks_of(lake).iterdir()] == [0]


def test_locks_of_several_files_are_held_together_and_others_are_free(lake: Path) -> None:
    paths = [path_of(lake, f"S{number}") for number in range(64)]
    for path in (*paths, path_of(lake, "AAPL")):
        temporary_of(path).parent.mkdir(parents=True, exist_ok=True)
        temporary_of(path).write_bytes(b"PAR1")

    with locked(paths, locks_of(lake)):
        assert sweep(lake) == 1

    assert sweep(lake) == 64


def test_writers_of_the_same_files_in_any_order_do_not_wait_for_each_other(lake: Path) -> None:
    paths = [path_of(lake, f"S{number}") for number in range(8)]
    seeded = random.Random(1)
    orders = [seeded.sample(paths, len(paths)) for _ in range(200)]

    def hold(order: list[Path]) -> bool:
        with locked(order, locks_of(lake)):
            return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(hold, orders, timeout=60))


def test_where_one_file_cannot_be_written_the_others_of_a_write_stay(lake: Path, month: Path) -> None:
    store(lake, bars_of("MSFT", TUESDAY))
    before = month.read_bytes()
    both = pl.concat([bars_of("AAPL", TUESDAY, [5.0]), bars_of("MSFT", TUESDAY, [5.0])])
    temporary_of(path_of(lake, "MSFT")).mkdir()

    with pytest.raises(OSError, match="MSFT"):
        store(lake, both)

    assert month.read_bytes() == before
    assert [path.name for path in (lake / ".writing").iterdir()] == [temporary_of(path_of(lake, "MSFT")).name]


def test_one_thread_at_a_time_holds_the_lock_of_a_file(lake: Path) -> None:
    path = path_of(lake, "AAPL")
    holding = threading.Semaphore(1)

    def hold(_: int) -> bool:
        with locked([path], locks_of(lake)):
            alone = holding.acquire(blocking=False)
            time.sleep(0.001)
            if alone:
                holding.release()
            return alone

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(hold, range(40)))


def test_two_lakes_side_by_side_do_not_share_locks(tmp_path: Path) -> None:
    assert locks_of(tmp_path / "lake") != locks_of(tmp_path / "other")


def test_a_lake_that_is_reached_by_a_link_has_the_same_locks(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(tmp_path / "lake")

    assert locks_of(link) == locks_of(tmp_path / "lake")


def test_reading_while_a_file_is_replaced_gives_one_or_the_other(lake: Path) -> None:
    ones, twos = ([value] * 2000 for value in (1.0, 2.0))
    store(lake, bars_of("AAPL", TUESDAY, ones))
    path = path_of(lake, "AAPL")

    def replace(round_: int) -> None:
        write_bars(lake, MARKET, "bars_1m", bars_of("AAPL", TUESDAY, twos if round_ % 2 else ones), ["AAPL"], [TUESDAY])

    with ThreadPoolExecutor(1) as threads:
        writing = threads.map(replace, range(40))
        seen = [frozenset(bars["open"].to_pylist()) for _ in range(60) if (bars := read_file(path)) is not None]
        list(writing)

    assert len(seen) == 60
    assert set(seen) <= {frozenset({1.0}), frozenset({2.0})}


def test_the_dictionary_of_a_column_holds_the_files_own_values(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY, provider="alpaca"), bars_of("AAPL", WEDNESDAY, provider="tiingo"))

    stored = read_file(path_of(lake, "AAPL"))

    assert stored is not None
    assert stored["provider"].unique().to_pylist() == ["alpaca", "tiingo"]


def test_a_large_frame_is_the_arrow_table_that_polars_makes() -> None:
    bars = sample(MANY)
    with_gaps = bars.with_columns(pl.when(pl.col("ts").dt.minute() > 0).then("session").alias("session"))

    for frame in (bars, with_gaps, pl.concat([bars, bars])):
        expected, found = frame.to_arrow(), table_of(frame)
        assert found.schema.equals(expected.schema, check_metadata=True)
        assert found.equals(expected.combine_chunks())


def sample(height: int) -> pl.DataFrame:
    """Bars in runs of three sessions, and categories of others beside theirs."""
    _ = pl.Series(["category", "of", "others"], dtype=pl.Categorical())
    day = bars_of("AAPL", TUESDAY, [100.0] * 390)
    parts = pl.when(pl.int_range(390) < 100).then(pl.lit("pre")).otherwise(pl.lit("regular")).cast(pl.Categorical())
    days = pl.concat([day.with_columns(parts.alias("session"))] * (height // 390 + 1), rechunk=True)
    return days.head(height)
