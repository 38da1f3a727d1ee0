"""Dagster's partition states from the ledger, as they are needed after the size of partitions has changed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import dagster as dg
import polars as pl
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, StepMaterializationData
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID

from marketpipe_assets.bars.schema import KEY, QUARANTINED, RAW, VALID
from marketpipe_assets.bars.sessions import today
from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.coverage import NAME as COVERAGE
from marketpipe_assets.defs.assets.resampled import timeframes_of
from marketpipe_assets.defs.due import listed_span
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.lake.scan import bar_counts

SYMBOLS_AT_ONCE = 50


class Change(NamedTuple):
    """What one asset's states lack, and what they have that is not held; both in the order of partitions."""

    asset: dg.AssetKey
    missing: Sequence[str]
    stale: Sequence[str]
    held: Sequence[str]


def changes(instance: dg.DagsterInstance, grid: Grid, catalog: Catalog, lake: Path) -> list[Change]:
    """Per asset of the market. A partition is held where all its symbols are on every session that is over.

    By the ledger; longer bars also have to be in the lake, since a run may have died before it wrote them. What
    retention has removed since and what was not listed yet count as held.
    """
    market = grid.market
    rows = symbol_days_of(catalog, market.name)
    fetched = rows.select(KEY)
    tables = dict.fromkeys((RAW, VALID, QUARANTINED, COVERAGE), fetched)
    tables |= {each.table: _built(rows, market, lake, each.table) for each in timeframes_of(market)}
    return [_change(instance, grid, dg.AssetKey([market.name, table]), days) for table, days in tables.items()]


def rebuild(instance: dg.DagsterInstance, change: Change, *, replace: bool) -> int:
    """Record a materialization of each missing partition, many at once, and give how many.

    Dagster cannot forget single partitions: with `replace` it forgets all of the asset's events where some are stale,
    and every partition that is held is recorded anew. One that is interrupted is completed by the next.
    """
    if replace and change.stale:
        instance.wipe_assets([change.asset])
    keys = change.held if replace and change.stale else change.missing
    batch = f"{uuid4()}"
    for number, key in enumerate(keys, 1):
        materialization = dg.AssetMaterialization(change.asset, partition=key, metadata={"rebuilt_from": "the ledger"})
        event = DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=RUNLESS_JOB_NAME,
            event_specific_data=StepMaterializationData(materialization, []),
        )
        instance.report_dagster_event(
            event, RUNLESS_RUN_ID, batch_metadata=DagsterEventBatchMetadata(batch, number == len(keys))
        )
    return len(keys)


def held_partitions(grid: Grid, days: pl.DataFrame) -> list[str]:
    """Keys of which every symbol has each session that is over; `days` has `symbol`, `session_date`."""
    column_of = {symbol: column for column, symbols in grid.columns.items() for symbol in symbols}
    row_of = {day: row for row, dates in grid.rows.items() for day in dates}
    row_of = {day: row_of[day] for day in grid.finished(row_of)}
    counts = (
        days.unique()
        .filter(pl.col("symbol").is_in(list(column_of)), pl.col("session_date").is_in(list(row_of)))
        .group_by(_named("session_date", row_of).alias("row"), _named("symbol", column_of).alias("column"))
        .len()
    )
    found = {(row, column): count for row, column, count in counts.iter_rows()}
    wanted = _wanted(grid, row_of)
    return [key for key in grid.definition.get_partition_keys() if _is_held(key, wanted, found)]


def _is_held(key: str, wanted: Mapping[tuple[str, str], int], found: Mapping[tuple[str, str], int]) -> bool:
    row, column = key.split("|", 1)
    return 0 < wanted.get((row, column), 0) <= found.get((row, column), 0)


def _wanted(grid: Grid, row_of: Mapping[date, str]) -> Mapping[tuple[str, str], int]:
    """Symbol-days of each partition that are over, without those of symbols that were not listed."""
    dates: dict[str, list[date]] = {}
    for day, row in row_of.items():
        dates.setdefault(row, []).append(day)
    return {
        (row, column): sum(len(listed_span(grid.market, symbol).of(days)) for symbol in symbols)
        for row, days in dates.items()
        for column, symbols in grid.columns.items()
    }


def _named(column: str, names: Mapping[date, str] | Mapping[str, str]) -> pl.Expr:
    return pl.col(column).replace_strict(dict(names), return_dtype=pl.String())


def _built(rows: pl.DataFrame, market: Market, lake: Path, table: str) -> pl.DataFrame:
    """Symbol-days of which a table of longer bars holds bars, need have none, or has none any more."""
    kept = market.kept_from(table, today()) or date.min
    without = rows.filter((pl.col("valid") == 0) | (pl.col("session_date") < kept)).select(KEY)
    stored = (bar_counts(lake, market.name, table, *part).select(KEY) for part in _parts(rows))
    return pl.concat([without, *(each.join(rows, on=KEY, how="semi") for each in stored)]).unique()


def _parts(rows: pl.DataFrame) -> Iterator[tuple[list[str], list[date]]]:
    symbols, dates = (rows[name].unique().sort().to_list() for name in KEY)
    for first in range(0, len(symbols), SYMBOLS_AT_ONCE):
        yield symbols[first : first + SYMBOLS_AT_ONCE], dates


def _change(instance: dg.DagsterInstance, grid: Grid, asset: dg.AssetKey, days: pl.DataFrame) -> Change:
    held = held_partitions(grid, days)
    materialized = instance.get_materialized_partitions(asset)
    ours = frozenset(held)
    stale = [key for key in grid.definition.get_partition_keys() if key in materialized and key not in ours]
    return Change(asset, [key for key in held if key not in materialized], stale, held)
