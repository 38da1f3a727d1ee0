"""What a market asks for by itself beside its schedules: the holes of the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from marketpipe_assets.catalog.asking import note_asked
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.in_flight import backfills_by_hand, in_flight, not_in_flight
from marketpipe_assets.defs.jobs import ingest_job_name
from marketpipe_assets.defs.ledger import recover
from marketpipe_assets.defs.lost_runs import end_lost_runs
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.defs.schedules import WHY_TAG
from marketpipe_assets.defs.wanted import Budget, Planned, due, planned, wanted
from marketpipe_assets.providers.base import BarProvider

MOST_RUNS = 25  # a tick starts; what is left over is looked at again in the next one
TICK_SECONDS = 300


def heal_gaps(grid: Grid) -> dg.SensorDefinition:
    """The sensor that asks again for holes a provider may fill, and for symbol-days that were never fetched."""
    market = grid.market

    @dg.sensor(
        name=f"{market.name}_heal_gaps",
        job_name=ingest_job_name(market.name),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if market.schedules.heal else dg.DefaultSensorStatus.STOPPED,
        required_resource_keys={"catalog", "lake", market.provider},
        description=(
            f"Fetches symbol-days of {market.name} that were never fetched, and asks again for holes that "
            f"{market.provider} may fill: newest first, within its quota, ever later where it keeps not filling them."
        ),
    )
    def heal(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        catalog, provider = context.resources.catalog, getattr(context.resources, market.provider)
        now = datetime.now(UTC)
        if by_hand := backfills_by_hand(context.instance, market):
            return dg.SkipReason(f"backfill {', '.join(by_hand)} is becoming runs: its partitions are not known yet")
        end_lost_runs(context.instance)
        recover(catalog, context.resources.lake, {market.name: market}, context.instance)
        every = wanted(catalog, market, now)
        free = not_in_flight(every, in_flight(context.instance, grid))
        ready = due(free, now)
        if ready.is_empty():
            return dg.SkipReason(_nothing(every, free))
        plan = planned(grid, ready, provider.capabilities, Budget(MOST_RUNS, _left(provider)))
        if not plan.runs:
            return dg.SkipReason(
                f"{_counted(ready)} to ask for, and {market.provider} has no requests left at this moment"
            )
        _note(catalog, market, ready, plan.runs, now)
        said = _started(ready, plan, every.height - free.height, free.height - ready.height)
        context.log.info(said)
        return dg.SensorResult(
            [_request(grid, run, now) for run in plan.runs], cursor=f"{now:%Y-%m-%d %H:%M} UTC: {said}"
        )

    return heal


def _left(provider: BarProvider) -> int | None:
    try:
        return provider.remaining_requests()
    finally:
        provider.teardown_after_execution(None)  # type: ignore[arg-type]  # no context of a run in a tick


def _note(catalog: Catalog, market: Market, ready: pl.DataFrame, runs: Sequence[Selection], now: datetime) -> None:
    asked = pl.concat(
        ready.filter(pl.col("symbol").is_in(list(run.symbols)), pl.col("session_date").is_in(list(run.dates)))
        for run in runs
    )
    with catalog.begin() as connection:
        note_asked(connection, market.name, asked, now)


def _request(grid: Grid, run: Selection, now: datetime) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{run.dates[0]}|{run.symbols[0]}...{run.dates[-1]}|{run.symbols[-1]} {now:%Y-%m-%dT%H:%M:%SZ}",
        tags={**grid.tags(run), WHY_TAG: "healing"},
    )


def _started(ready: pl.DataFrame, plan: Planned, flying: int, waiting: int) -> str:
    reasons = ready.group_by("why").len().sort("why").rows()
    said = f"{_counted(ready)} to ask for ({', '.join(f'{count:,} {why}' for why, count in reasons)}): "
    said += f"{len(plan.runs):,} run{'' if len(plan.runs) == 1 else 's'} started for {plan.symbol_days:,} of them"
    said += f", with at most {plan.requests:,} requests" if plan.requests else ""
    said += f"; {plan.left_over:,} left for later ticks" if plan.left_over else ""
    return said + _others(flying, waiting)


def _nothing(every: pl.DataFrame, free: pl.DataFrame) -> str:
    said = "nothing to ask for now" if not every.is_empty() else "nothing to ask for: no symbol-day is missing"
    said += _others(every.height - free.height, free.height)
    if not free.is_empty():
        first = free.select(pl.col("due_at").min().dt.strftime("%Y-%m-%d %H:%M")).item()
        said += f", the first at {first} UTC"
    return said


def _others(flying: int, waiting: int) -> str:
    said = f"; {flying:,} are being fetched" if flying else ""
    return said + (f"; {waiting:,} wait for their next try" if waiting else "")


def _counted(days: pl.DataFrame) -> str:
    return f"{days.height:,} symbol-day{'' if days.height == 1 else 's'}"
