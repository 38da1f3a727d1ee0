"""Jobs of a market."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.raw import TABLE as RAW
from marketpipe_assets.lake.verify import damaged, files_of


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


def integrity_job(market: Market) -> dg.JobDefinition:
    """Read every page of every file of the market with its checksum; fails and names the files that are damaged."""

    @dg.op(name=f"{market.name}_verify_files", required_resource_keys={"lake"})
    def verify_files(context: dg.OpExecutionContext) -> None:
        lake = context.resources.lake
        placed, foreign = files_of(lake, lake / market.name)
        bad = list(damaged(lake, placed))
        for path in foreign:
            context.log.warning("%s is no file of the lake", path)
        if bad:
            said = "\n".join(f"{each.path}: {each.reason}" for each in bad)
            raise dg.Failure(f"{len(bad)} of {len(placed)} files are damaged:\n{said}", allow_retries=False)
        context.log.info("%d files verified", len(placed))

    @dg.job(
        name=f"{market.name}_integrity",
        description=f"Read every file of {market.name} with its checksums.",
        executor_def=dg.in_process_executor,
    )
    def integrity() -> None:
        verify_files()

    return integrity
