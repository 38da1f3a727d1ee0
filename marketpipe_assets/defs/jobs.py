"""Jobs of a market."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.raw import TABLE as RAW


def ingest_job_name(market: str) -> str:
    return f"{market}_ingest"


def ingest_job(market: Market) -> UnresolvedAssetJobDefinition:
    """Fetch, judge, resample and check, for any symbols and sessions of the market."""
    return dg.define_asset_job(
        ingest_job_name(market.name),
        selection=dg.AssetSelection.groups(market.name),
        description=f"Fetch, judge, resample and check bars of {market.name}.",
        executor_def=dg.in_process_executor,  # a process per step costs more than the steps
    )


def judge_job_name(market: str) -> str:
    return f"{market}_judge"


def judge_job(market: Market) -> UnresolvedAssetJobDefinition:
    """Judge stored raw bars again and rebuild what follows; the provider is not asked."""
    return dg.define_asset_job(
        judge_job_name(market.name),
        selection=dg.AssetSelection.groups(market.name) - dg.AssetSelection.assets([market.name, RAW]),
        description=f"Judge the stored raw bars of {market.name} again and rebuild the longer bars.",
        executor_def=dg.in_process_executor,
    )
