"""One market → its assets, checks, jobs, schedules and sensors."""

import warnings

import dagster as dg

from marketpipe_assets.config import Market
from marketpipe_assets.defs.asset_checks import asset_checks
from marketpipe_assets.defs.assets.comparison import compared_assets
from marketpipe_assets.defs.assets.coverage import coverage_ledger
from marketpipe_assets.defs.assets.raw import raw_bars
from marketpipe_assets.defs.assets.resampled import resampled_bars
from marketpipe_assets.defs.assets.validated import validated_bars
from marketpipe_assets.defs.comparison_checks import comparison_checks
from marketpipe_assets.defs.freshness import fresh_check
from marketpipe_assets.defs.jobs import (
    compare_job,
    ingest_job,
    integrity_job,
    judge_job,
    prune_for_real,
    prune_job,
)
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.schedules import Weekly, schedules
from marketpipe_assets.defs.sensors import heal_gaps

SUNDAY, SATURDAY = 0, 6


def market_definitions(grid: Grid) -> dg.Definitions:
    """Everything of a market but its provider, which is a resource of the provider's name."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)  # one a backfill policy, on every load
    market = grid.market
    integrity, prune = integrity_job(market), prune_job(market)
    compared = compared_assets(grid)
    return dg.Definitions(
        assets=[
            raw_bars(grid),
            validated_bars(grid),
            resampled_bars(grid),
            coverage_ledger(grid),
            *compared,
        ],
        asset_checks=[*asset_checks(grid), *comparison_checks(grid), fresh_check(market)],
        jobs=[ingest_job(market), judge_job(market), integrity, prune, *([compare_job(market)] if compared else [])],
        schedules=schedules(grid, _weekly(market, integrity, prune)),
        sensors=[heal_gaps(grid)],
    )


def _weekly(market: Market, integrity: dg.JobDefinition, prune: dg.JobDefinition) -> list[Weekly]:
    verify = Weekly(integrity, SUNDAY, "Reads every file with its checksums, on Sundays.")
    remove = Weekly(prune, SATURDAY, "Removes bars past their retention, on Saturdays.", prune_for_real(market))
    return [verify, remove] if market.retention else [verify]
