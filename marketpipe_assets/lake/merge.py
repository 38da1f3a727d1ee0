"""Put the bars of some symbols and sessions into their files, beside what those files hold of other sessions."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from marketpipe_assets.bars.schema import columns_of, conform
from marketpipe_assets.lake.layout import BarFile, locks_of, period_of
from marketpipe_assets.lake.parquet import frame_of, locked, metadata, read_file, replace_file, sweep
from marketpipe_assets.lake.scan import planned_files


class Written(NamedTuple):
    """What a write changed. Files whose bars were equal already are not rewritten."""

    files: int
    unchanged: int
    bytes: int


def write_bars(
    lake: Path, market: str, table: str, bars: pl.DataFrame, symbols: Sequence[str], dates: Sequence[date]
) -> Written:
    """Make `bars` all that the table holds of these symbols on these dates; other dates keep theirs.

    `bars` has the table's columns and only these symbols and dates. Raw bars keep their order within a session;
    every other table is stored sorted by `ts`. Each file is replaced whole under its lock, so that two runs on
    different days of one month lose nothing.
    """
    parts = _parts(table, conform(bars, columns_of(table)), market)
    asked = set(planned_files(market, table, symbols, dates))
    foreign = [f"{file.symbol} {file.period}" for file in sorted(parts.keys() - asked)]
    foreign += [f"{day}" for day in bars["session_date"].unique() if day not in set(dates)]
    if foreign:
        raise ValueError(f"expected bars of {len(symbols)} symbols on {len(dates)} dates, was also {foreign[0]}")
    sweep(lake)
    sizes = [_merge(file, lake, parts.get(file), dates) for file in sorted(asked)]
    written = [size for size in sizes if size is not None]
    return Written(len(written), len(sizes) - len(written), sum(written))


def _parts(table: str, bars: pl.DataFrame, market: str) -> Mapping[BarFile, pa.Table]:
    """The bars of each file, ordered as they are stored."""
    if bars.is_empty():
        return {}
    order = ORDER.get(table, ("symbol", "ts"))
    ordered = bars if _is_sorted(bars, order) else bars.sort(order, maintain_order=True)
    symbol, day = pl.col("symbol"), pl.col("session_date")
    new_day = ((symbol != symbol.shift()) | (day != day.shift())).fill_null(True)
    firsts = ordered.select(pl.row_index(), symbol, day, new_day.alias("new")).filter("new")
    starts: dict[BarFile, int] = {}
    for start, of_symbol, on_day, _ in firsts.iter_rows():
        starts.setdefault(BarFile(market, table, of_symbol, period_of(table, on_day)), start)
    ends = [*list(starts.values())[1:], ordered.height]
    columns = ordered.drop("symbol").to_arrow()
    return {file: columns.slice(start, end - start) for (file, start), end in zip(starts.items(), ends, strict=True)}


ORDER = {"raw_bars_1m": ("symbol", "session_date")}
"""How a table's rows are ordered where it is not by symbol and `ts`; ties keep the order they came in."""


def _is_sorted(bars: pl.DataFrame, order: Sequence[str]) -> bool:
    symbol, then = (pl.col(name) for name in order)
    risen = (symbol > symbol.shift()) | ((symbol == symbol.shift()) & (then >= then.shift()))
    return bool(bars.select(risen.fill_null(True).all()).item())


def _merge(file: BarFile, lake: Path, bars: pa.Table | None, dates: Sequence[date]) -> int | None:
    """Bytes written, None where the file holds these bars already."""
    path = file.below(lake)
    if bars is None and not path.exists():
        return None
    with locked(path, locks_of(lake)):
        stored = read_file(path)
        if stored is None:
            return None if bars is None else _replace(path, file, bars)
        before = frame_of(stored)
        kept = before.filter(~pl.col("session_date").is_in(list(dates)))
        after = kept if bars is None else pl.concat([kept, frame_of(bars)]).sort(_key(file.table), maintain_order=True)
        if after.equals(before):
            return None
        if after.is_empty():
            path.unlink()
            return 0
        return _replace(path, file, after.to_arrow())


def _key(table: str) -> str:
    return ORDER.get(table, ("symbol", "ts"))[1]


def _replace(path: Path, file: BarFile, bars: pa.Table) -> int:
    return replace_file(path, bars.replace_schema_metadata(metadata(file.market, file.table, file.symbol)))
