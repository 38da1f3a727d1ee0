"""What runs that have not ended will fetch, so that nothing is asked for twice at once."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import dagster as dg
import polars as pl
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.raw import TABLE as RAW


class Flight(NamedTuple):
    """The partitions of one run: neighbours from the first to the last symbol on each session from first to last."""

    first_day: date
    last_day: date
    first: str
    last: str

    def holds(self) -> pl.Expr:
        return pl.col("session_date").is_between(self.first_day, self.last_day) & pl.col("symbol").is_between(
            pl.lit(self.first), pl.lit(self.last)
        )


def in_flight(instance: dg.DagsterInstance, market: Market) -> list[Flight]:
    """Of every queued or running run that fetches bars of the market, by whomever it was started."""
    raw = dg.AssetKey([market.name, RAW])
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    fetching = [run for run in runs if run.asset_selection is None or raw in run.asset_selection]
    ours = [run for run in fetching if run.job_name == f"{market.name}_ingest" or run.asset_selection is not None]
    return [flight for run in ours if (flight := _flight(run.tags)) is not None]


def backfills_by_hand(instance: dg.DagsterInstance, market: Market) -> list[str]:
    """Ids of backfills that Dagster still turns into runs of the market's raw bars."""
    raw = dg.AssetKey([market.name, RAW])
    requested = instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    return [each.backfill_id for each in requested if raw in (each.asset_selection or ())]


def not_in_flight(days: pl.DataFrame, flights: Sequence[Flight]) -> pl.DataFrame:
    """Symbol-days that no run is going to fetch."""
    for flight in flights:
        days = days.filter(~flight.holds())
    return days


def _flight(tags: Mapping[str, str]) -> Flight | None:
    if ASSET_PARTITION_RANGE_START_TAG in tags:
        first, last = tags[ASSET_PARTITION_RANGE_START_TAG], tags[ASSET_PARTITION_RANGE_END_TAG]
    elif PARTITION_NAME_TAG in tags:
        first = last = tags[PARTITION_NAME_TAG]
    else:
        return None
    (first_day, first_symbol), (last_day, last_symbol) = (key.split("|", 1) for key in (first, last))
    return Flight(date.fromisoformat(first_day), date.fromisoformat(last_day), first_symbol, last_symbol)
