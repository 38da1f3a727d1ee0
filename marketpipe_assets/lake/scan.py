"""Read many files from planned paths, never by listing the tree."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from marketpipe_assets.bars.clock import days_of
from marketpipe_assets.bars.schema import KEY, columns_of, empty
from marketpipe_assets.bars.symbol_days import counted
from marketpipe_assets.lake.layout import PERIOD_FILE, BarFile, folder_symbol, period_of
from marketpipe_assets.lake.parquet import Content, DamagedFile, check_footer, content_of

if TYPE_CHECKING:
    import pyarrow.dataset as pads


def read_bars(
    lake: Path,
    market: str,
    table: str,
    symbols: Sequence[str],
    dates: Sequence[date],
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The bars of these symbols whose `session_date` is one of `dates`, symbols in the order asked.

    Columns are the table's, or those named, in the table's order. Within a symbol rows keep the order of the file:
    sorted by `ts`, for raw bars the order of arrival within a session. Files that do not exist hold no bars. Raises
    `DamagedFile`.
    """
    schema = {name: dtype for name, dtype in columns_of(table).items() if columns is None or name in columns}
    found = _found(lake, planned_files(market, table, symbols, dates))
    if not found:
        return empty(schema)
    stored = [name for name in {**schema, "session_date": None} if name != "symbol"]
    bars = _read(found, lake, stored, dates)
    if bars.schema == schema:
        return bars
    return bars.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


ROW = "row of all files"
LARGE = 4096  # rows of a file: to look at dates while reading is dearer for fewer
FEW = 64  # files: threads for fewer cost more than they gain
THREADS = 4  # they wait for the disk, and checksums leave Python to the others
DAYS = {4: 365, 7: 30}  # of a period, by the length of its name


def _found(lake: Path, files: Iterable[BarFile]) -> Mapping[BarFile, Content]:
    """Those of the files that hold bars, verified."""
    planned = list(files)
    paths = [file.below(lake) for file in planned]
    if len(paths) <= FEW:
        contents = list(map(content_of, paths))
    else:
        with ThreadPoolExecutor(THREADS) as threads:
            contents = list(threads.map(content_of, paths))
    return {file: content for file, content in zip(planned, contents, strict=True) if content and content.rows}


def _read(found: Mapping[BarFile, Content], lake: Path, columns: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    """`symbol` and these columns, of these dates.

    polars reads from memory in less time than from paths. To look at dates while reading costs a third more, and pays
    where most rows are left out.
    """
    rows = np.array([content.rows for content in found.values()])
    scan = pl.scan_parquet([content.file for content in found.values()])
    first, last = min(dates), max(dates)
    held = sum(DAYS[len(period)] for period in {file.period for file in found})
    prunes = rows.max() > LARGE and 2 * (last - first).days <= held
    within = pl.col("session_date").is_between(first, last)
    try:
        if not prunes:
            bars = scan.select(columns).collect()
        elif rows.size == 1:
            bars = scan.filter(within).select(columns).collect()
            rows[0] = bars.height
        else:
            bars = scan.with_row_index(ROW).filter(within).select(ROW, *columns).collect()
            rows = np.diff(np.searchsorted(bars.drop_in_place(ROW), rows.cumsum()), prepend=0)
    except pl.exceptions.PolarsError as error:
        raise _culprit(found, lake, columns) or error from error
    placed = bars.insert_column(0, _symbols(found, rows))
    every_day = len(set(dates)) == (last - first).days + 1
    return placed if prunes and every_day else _asked(placed, dates)


def _symbols(found: Iterable[BarFile], rows: "np.typing.NDArray[np.int64]") -> pl.Series:
    """Each file's symbol, as often as it has rows."""
    names = pl.Series("symbol", [file.symbol for file in found], dtype=pl.String)
    if rows.size == 1:
        return names.new_from_index(0, int(rows[0]))
    return names.gather(np.repeat(np.arange(rows.size), rows))


def _culprit(found: Mapping[BarFile, Content], lake: Path, columns: Sequence[str]) -> DamagedFile | None:
    """The first file that is sound but does not hold these columns."""
    for file, content in found.items():
        if missing := ", ".join(sorted(set(columns) - pl.read_parquet_schema(content.file).keys())):
            return DamagedFile(file.below(lake), f"expected columns {', '.join(columns)}, was without {missing}")
    return None


def _asked(bars: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
    day, wanted = days_of(bars["session_date"]), days_of(pl.Series(dates, dtype=pl.Date))
    if not day.size:
        return bars
    first = min(day.min(), wanted.min())
    is_wanted = np.zeros(max(day.max(), wanted.max()) - first + 1, dtype=bool)  # a table, as polars' is_in takes longer
    is_wanted[wanted - first] = True
    asked = is_wanted[day - first]
    return bars if asked.all() else bars.filter(asked)


def planned_files(market: str, table: str, symbols: Iterable[str], dates: Iterable[date]) -> Iterator[BarFile]:
    """Every file that may hold these bars, by symbol, then period."""
    periods = sorted({period_of(table, day) for day in dates})
    return (BarFile(market, table, symbol, period) for symbol in symbols for period in periods)


def table_dataset(lake: Path, market: str, table: str) -> "pads.Dataset":
    """All files of a table for engines that read Arrow, page checksums verified as they are read, `symbol` as text.

    The one reader that lists a table's files. Raises `DamagedFile` for a footer that is not the one written; a damaged
    page raises `OSError` when it is read.
    """
    import pyarrow.dataset as pads  # imports pandas as well

    folder = lake / market / table
    named = sorted(path for path in folder.glob("symbol=*/*") if PERIOD_FILE.fullmatch(path.name))
    files = [file for file in named if check_footer(file)]  # one may be gone since it was listed
    schema = _arrow_schema(table)
    if not files:
        return pads.dataset(schema.empty_table())
    return pads.dataset(
        [str(file) for file in files],
        schema=schema,
        format=pads.ParquetFileFormat(
            default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
        ),
        partitioning=pads.partitioning(pa.schema([("symbol", pa.string())]), flavor="hive"),
        partition_base_dir=str(folder),
    )


def _arrow_schema(table: str) -> pa.Schema:
    """The table's columns, with text where files have dictionaries: those of two files need not agree."""
    fields = empty(columns_of(table)).to_arrow().schema
    return pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in fields])


def bar_counts(lake: Path, market: str, table: str, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    """How many bars are stored: `symbol`, `session_date`, `bars`; no row where there is none."""
    return counted(read_bars(lake, market, table, symbols, dates, columns=KEY))


def held(lake: Path, market: str) -> Mapping[str, Sequence[str]]:
    """Table → symbols that have a folder, sorted. The one place that lists the tree: two levels, no files."""
    market_folder = lake / market
    tables = sorted(each.name for each in market_folder.iterdir() if each.is_dir()) if market_folder.is_dir() else []
    return {
        table: sorted(folder_symbol(each.name) for each in (market_folder / table).glob("symbol=*")) for table in tables
    }
