"""Bars are read from planned files, and the tree can be read by others as it is."""

from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from polars.testing import assert_frame_equal

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import DamagedFile, replace_file, temporary_of
from marketpipe_assets.lake.scan import FEW, bar_counts, held, read_bars, table_dataset
from marketpipe_assets_tests.lake.rows import FEBRUARY, MARKET, TUESDAY, WEDNESDAY, bars_of, path_of, store

SYMBOLS = ["BTC/USD", "0700", "BRK.B"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lake = tmp_path / "lake"
    store(lake, *(bars_of(symbol, day) for symbol in SYMBOLS for day in (TUESDAY, WEDNESDAY, FEBRUARY)))
    return lake


def test_bars_come_by_symbol_in_the_order_asked_and_then_by_time(lake: Path) -> None:
    bars = read_bars(lake, MARKET, "bars_1m", SYMBOLS, [FEBRUARY, TUESDAY])

    expected = [bars_of(symbol, day) for symbol in SYMBOLS for day in (TUESDAY, FEBRUARY)]
    assert_frame_equal(bars, pl.concat(expected))


def test_columns_come_in_the_order_of_the_table(lake: Path) -> None:
    bars = read_bars(lake, MARKET, "bars_1m", ["0700"], [TUESDAY], columns=("close", "symbol", "ts"))

    assert_frame_equal(bars, bars_of("0700", TUESDAY).select("symbol", "ts", "close"))


@pytest.mark.parametrize("table", ["raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_1d"])
def test_where_nothing_is_stored_there_are_no_bars_of_the_tables_columns(tmp_path: Path, table: str) -> None:
    bars = read_bars(tmp_path / "lake", MARKET, table, ["AAPL"], [TUESDAY])

    assert_frame_equal(bars, empty(columns_of(table)))


def test_symbols_and_dates_without_bars_have_no_rows(lake: Path) -> None:
    bars = read_bars(lake, MARKET, "bars_1m", ["MSFT", "0700"], [TUESDAY + timedelta(days=7), TUESDAY])

    assert_frame_equal(bars, bars_of("0700", TUESDAY))


@pytest.mark.parametrize("number", [0, 21, 23])
def test_a_day_of_a_large_file_is_read_whole_also_where_two_row_groups_share_it(tmp_path: Path, number: int) -> None:
    days = [TUESDAY + timedelta(days=number) for number in range(25)]
    prices = [100 + minute / 7 for minute in range(390)]
    symbols = ["AAPL", "MSFT"]
    store(tmp_path, *(pl.concat([bars_of(symbol, day, prices) for day in days]) for symbol in symbols))

    bars = read_bars(tmp_path, MARKET, "bars_1m", symbols, [days[number]])

    assert_frame_equal(bars, pl.concat([bars_of(symbol, days[number], prices) for symbol in symbols]))


@pytest.mark.parametrize("numbers", [(3, 5), (3, 5, 5), (3, 4, 5)])
def test_of_a_large_file_only_the_days_asked_are_read(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    days = [TUESDAY + timedelta(days=number) for number in range(25)]
    prices = [100 + minute / 7 for minute in range(390)]
    store(tmp_path, pl.concat([bars_of("AAPL", day, prices) for day in days]))

    bars = read_bars(tmp_path, MARKET, "bars_1m", ["AAPL"], [days[number] for number in numbers])

    assert_frame_equal(bars, pl.concat([bars_of("AAPL", days[number], prices) for number in sorted({*numbers})]))


def test_a_flipped_bit_is_found_rather_than_read(lake: Path) -> None:
    path = path_of(lake, "0700")
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    path.write_bytes(content)

    with pytest.raises(DamagedFile, match=r"symbol=0700/2024-01\.parquet is damaged: expected the pages that were"):
        read_bars(lake, MARKET, "bars_1m", SYMBOLS, [TUESDAY])


def test_a_file_without_a_column_of_its_table_is_named(lake: Path) -> None:
    narrower = bars_of("0700", TUESDAY).drop("symbol", "vwap").to_arrow()
    replace_file(path_of(lake, "0700"), narrower)

    with pytest.raises(DamagedFile, match=r"symbol=0700/2024-01\.parquet is damaged: expected columns .* without vwap"):
        read_bars(lake, MARKET, "bars_1m", SYMBOLS, [TUESDAY])


def test_files_without_rows_hold_no_bars(lake: Path) -> None:
    replace_file(path_of(lake, "0700"), bars_of("0700", TUESDAY, []).drop("symbol").to_arrow())

    bars = read_bars(lake, MARKET, "bars_1m", SYMBOLS[:2], [TUESDAY])

    assert_frame_equal(bars, bars_of("BTC/USD", TUESDAY))


def test_more_files_than_one_thread_reads_come_in_the_order_asked(tmp_path: Path) -> None:
    symbols = [f"S{number}" for number in range(FEW + 1)]
    store(tmp_path, pl.concat([bars_of(symbol, TUESDAY, [float(len(symbol))]) for symbol in symbols]))

    bars = read_bars(tmp_path, MARKET, "bars_1m", symbols, [TUESDAY])

    assert bars["symbol"].to_list() == symbols


def test_bars_are_counted_by_symbol_and_session(lake: Path) -> None:
    counts = bar_counts(lake, MARKET, "bars_1m", ["0700", "MSFT"], [TUESDAY, FEBRUARY])

    assert counts.rows() == [("0700", TUESDAY, 3), ("0700", FEBRUARY, 3)]


def test_a_damaged_file_is_named_rather_than_read(lake: Path) -> None:
    path = path_of(lake, "0700")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DamagedFile, match=r"symbol=0700/2024-01\.parquet is damaged: .*; remove it and run"):
        read_bars(lake, MARKET, "bars_1m", SYMBOLS, [TUESDAY])


def test_a_damaged_file_is_not_merged_into(lake: Path) -> None:
    path = path_of(lake, "0700")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DamagedFile):
        write_bars(lake, MARKET, "bars_1m", bars_of("0700", TUESDAY), ["0700"], [TUESDAY])


def test_symbols_that_have_a_folder_are_held(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY, table="bars_1h"), table="bars_1h")

    assert held(lake, MARKET) == {"bars_1h": ["AAPL"], "bars_1m": ["0700", "BRK.B", "BTC/USD"]}
    assert held(lake, "crypto") == {}


def expected_rows() -> list[tuple[str, int]]:
    return [("0700", 9), ("BRK.B", 9), ("BTC/USD", 9)]


def test_polars_scans_the_tree(lake: Path) -> None:
    bars = pl.scan_parquet(lake / MARKET / "bars_1m", hive_schema={"symbol": pl.String}).collect()

    assert bars.group_by("symbol").agg(pl.len().cast(pl.Int64)).sort("symbol").rows() == expected_rows()
    restored = bars.filter(symbol="0700").select(*columns_of("bars_1m")).sort("ts")
    assert_frame_equal(restored[:3], bars_of("0700", TUESDAY))


def test_polars_scans_the_tree_while_a_file_is_being_written(lake: Path) -> None:
    temporary = temporary_of(path_of(lake, "0700"))
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_bytes(b"PAR1")

    bars = pl.scan_parquet(lake / MARKET / "bars_1m", hive_schema={"symbol": pl.String}).collect()

    assert bars.height == 27


def test_a_table_is_its_own_files_alone(lake: Path) -> None:
    path = path_of(lake, "0700")
    rows = table_dataset(lake, MARKET, "bars_1m").count_rows()
    for name in ("2024-01 (copy).parquet", "2024-13.parquet"):
        path.with_name(name).write_bytes(path.read_bytes())
    path.with_name("2024-03.parquet").symlink_to(path.with_name("gone"))  # as one removed since it was listed

    assert table_dataset(lake, MARKET, "bars_1m").count_rows() == rows


def test_duckdb_reads_the_tree(lake: Path) -> None:
    files = f"'{lake}/{MARKET}/bars_1m/*/*.parquet', hive_partitioning = true, hive_types = {{'symbol': VARCHAR}}"

    rows = (
        duckdb.connect()
        .execute(
            f"SELECT symbol, count(*), min(feed), min(provider), max(len(flags)) "
            f"FROM read_parquet({files}) WHERE session_date < '2024-02-01' GROUP BY symbol ORDER BY symbol"
        )
        .fetchall()
    )

    assert rows == [(symbol, 6, None, "synthetic", 1) for symbol in sorted(SYMBOLS)]


def test_pyarrow_reads_the_tree(lake: Path) -> None:
    text = ds.partitioning(pa.schema([("symbol", pa.string())]), flavor="hive")

    bars = ds.dataset(lake / MARKET / "bars_1m", partitioning=text).to_table()

    counts = bars.group_by("symbol").aggregate([("ts", "count")]).sort_by("symbol").to_pylist()
    assert [(row["symbol"], row["ts_count"]) for row in counts] == expected_rows()
