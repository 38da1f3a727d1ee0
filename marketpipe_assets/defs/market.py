"""One market → its assets, checks, jobs, schedules and sensors."""

import warnings

import dagster as dg

from marketpipe_assets.config import Market
from marketpipe_assets.defs.asset_checks import asset_checks
from marketpipe_assets.defs.assets.coverage import coverage_ledger
from marketpipe_assets.defs.assets.raw import raw_bars
from marketpipe_assets.defs.assets.resampled import resampled_bars
from marketpipe_assets.defs.assets.validated import validated_bars
from marketpipe_assets.defs.jobs import ingest_job, integrity_job, judge_job
from marketpipe_assets.defs.partitions import partitions_of
from marketpipe_assets.defs.schedules import Weekly, schedules
from marketpipe_assets.defs.sensors import heal_gaps

SUNDAY = 0


def market_definitions(market: Market) -> dg.Definitions:
    """Everything of a market but its provider, which is a resource of the provider's name."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)  # one a backfill policy, on every load
    partitions = partitions_of(market)
    integrity = integrity_job(market)
    return dg.Definitions(
        assets=[
            raw_bars(market, partitions),
            validated_bars(market, partitions),
            resampled_bars(market, partitions),
            coverage_ledger(market, partitions),
        ],
        asset_checks=asset_checks(market, partitions),
        jobs=[ingest_job(market), judge_job(market), integrity],
        schedules=schedules(market, [Weekly(integrity, SUNDAY, "Reads every file with its checksums, on Sundays.")]),
        sensors=[heal_gaps(market)],
    )
