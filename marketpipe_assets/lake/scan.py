"""Read many files from planned paths, never by listing the tree."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.lake.layout import BarFile, folder_symbol, period_of
from marketpipe_assets.lake.parquet import check_footer, frame_of, read_file


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
    wanted = [name for name in {**schema, "session_date": None} if name != "symbol"]
    found = [
        (file.symbol, bars)
        for file in planned_files(market, table, symbols, dates)
        if (bars := read_file(file.below(lake), wanted, dates)) is not None and bars.num_rows
    ]
    if not found:
        return empty(schema)
    bars = frame_of(pa.concat_tables([part.replace_schema_metadata() for _, part in found]))
    owners = pl.concat([pl.repeat(symbol, part.num_rows, dtype=pl.String, eager=True) for symbol, part in found])
    return (
        bars.with_columns(owners.alias("symbol"))
        .filter(pl.col("session_date").is_in(list(dates)))
        .select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    )


def planned_files(market: str, table: str, symbols: Iterable[str], dates: Iterable[date]) -> Iterator[BarFile]:
    """Every file that may hold these bars, by symbol, then period."""
    periods = sorted({period_of(table, day) for day in dates})
    return (BarFile(market, table, symbol, period) for symbol in symbols for period in periods)


def table_dataset(lake: Path, market: str, table: str) -> pads.Dataset:
    """All files of a table for engines that read Arrow, page checksums verified as they are read, `symbol` as text.

    The one reader that lists a table's files. Raises `DamagedFile` for a footer that is not the one written; a damaged
    page raises `OSError` when it is read.
    """
    folder = lake / market / table
    files = sorted(folder.glob("symbol=*/*.parquet"))
    schema = _arrow_schema(table)
    if not files:
        return pads.dataset(schema.empty_table())
    for file in files:
        check_footer(file)
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
    stored = read_bars(lake, market, table, symbols, dates, columns=("symbol", "session_date"))
    return stored.group_by("symbol", "session_date", maintain_order=True).agg(pl.len().cast(pl.Int64).alias("bars"))


def held(lake: Path, market: str) -> Mapping[str, Sequence[str]]:
    """Table → symbols that have a folder, sorted. The one place that lists the tree: two levels, no files."""
    market_folder = lake / market
    tables = sorted(each.name for each in market_folder.iterdir() if each.is_dir()) if market_folder.is_dir() else []
    return {
        table: sorted(folder_symbol(each.name) for each in (market_folder / table).glob("symbol=*")) for table in tables
    }
