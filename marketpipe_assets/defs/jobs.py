"""Jobs of a market."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.bars.sessions import today
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.comparison import comparison_group
from marketpipe_assets.defs.assets.coverage import NAME as COVERAGE
from marketpipe_assets.defs.retention import planned_pruning, policy_of, prune
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


def compare_job_name(market: str) -> str:
    return f"{market}_compare"


def compare_job(market: Market) -> UnresolvedAssetJobDefinition:
    """Ask for what the market's bars are compared with, and compare; what is missing is judged again by it."""
    asked = dg.AssetSelection.groups(comparison_group(market.name))
    judged = dg.AssetSelection.assets([market.name, COVERAGE])
    return dg.define_asset_job(
        compare_job_name(market.name),
        selection=asked if market.reconcile is None else asked | judged,
        description=f"Ask for what bars of {market.name} are compared with, and compare.",
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


class PruneConfig(dg.Config):
    """How a run prunes."""

    execute: bool = False
    """Remove what is too old; else only say what that is."""


def prune_job(market: Market) -> dg.JobDefinition:
    """Remove bars that are older than `retention` keeps them, or say which they are."""

    @dg.op(name=f"{market.name}_prune_bars", required_resource_keys={"lake", "catalog"})
    def prune_bars(context: dg.OpExecutionContext, config: PruneConfig) -> None:
        lake, policy = context.resources.lake, policy_of(market, today())
        planned = planned_pruning(lake, market, policy)
        for kept in planned.kept:
            context.log.warning(
                "minutes of %d sessions of %s stay: %s has no bar of them yet", len(kept.dates), kept.symbol, kept.table
            )
        cuts = planned.cuts
        if config.execute:
            cuts = prune(lake, context.resources.catalog, context.instance, market, cuts, context.run_id)
        rows, freed = sum(cut.rows for cut in cuts), sum(cut.bytes for cut in cuts)
        said = "removed" if config.execute else "would be removed; nothing was changed"
        context.log.info("%d rows and %d bytes in %d files %s", rows, freed, len(cuts), said)
        context.add_output_metadata({"rows": rows, "bytes_freed": freed, "files": len(cuts)})

    @dg.job(
        name=f"{market.name}_prune",
        description=f"Remove bars of {market.name} past their retention; a dry run unless told to execute.",
        executor_def=dg.in_process_executor,
    )
    def prune_market() -> None:
        prune_bars()

    return prune_market


def prune_for_real(market: Market) -> dict[str, object]:
    """The run configuration with which the prune job removes bars."""
    return {"ops": {f"{market.name}_prune_bars": {"config": {"execute": True}}}}
