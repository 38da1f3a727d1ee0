"""What runs that have not ended will fetch, so that nothing is asked for twice at once."""

from collections.abc import Collection, Sequence

import dagster as dg
import polars as pl
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Grid, Selection


def in_flight(instance: dg.DagsterInstance, grid: Grid, gone: Collection[str] = ()) -> list[Selection]:
    """Of every queued or running run that fetches bars of the market, by whomever it was started.

    `gone` are ids of runs that only seem to run.
    """
    market = grid.market
    raw = dg.AssetKey([market.name, RAW])
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    alive = [run for run in runs if run.run_id not in gone]
    fetching = [run for run in alive if run.asset_selection is None or raw in run.asset_selection]
    ours = [run for run in fetching if run.job_name == f"{market.name}_ingest" or run.asset_selection is not None]
    return [flight for run in ours if (flight := grid.tagged(run.tags)) is not None]


def backfills_by_hand(instance: dg.DagsterInstance, market: Market) -> list[str]:
    """Ids of backfills that Dagster still turns into runs of the market's raw bars."""
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus  # takes a while to import

    raw = dg.AssetKey([market.name, RAW])
    requested = instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    return [each.backfill_id for each in requested if raw in (each.asset_selection or ())]


def not_in_flight(days: pl.DataFrame, flights: Sequence[Selection]) -> pl.DataFrame:
    """Symbol-days that no run is going to fetch."""
    for symbols, dates in flights:
        flying = pl.col("session_date").is_between(dates[0], dates[-1]) & pl.col("symbol").is_in(list(symbols))
        days = days.filter(~flying)
    return days
