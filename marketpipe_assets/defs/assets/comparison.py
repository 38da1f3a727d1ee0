"""vendor_bars_1d and second_bars_1m: what a market's bars are compared with. No bar of ours comes from here."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from marketpipe_assets.bars.schema import SECOND, VENDOR_DAYS
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.defs.assets.raw import answered, check_published, fetch
from marketpipe_assets.defs.metadata import FETCHED_AT, column_schema
from marketpipe_assets.defs.partitions import WHOLE_RANGE, Grid, check_size
from marketpipe_assets.defs.traffic import traffic_recorded
from marketpipe_assets.providers.base import BarProvider


def comparison_group(market: str) -> str:
    """The group of what is compared, apart from the market's own: a vendor that is away stops no ingest."""
    return f"{market}_comparison"


def compared_assets(grid: Grid) -> Sequence[dg.AssetsDefinition]:
    """What the market's configuration compares its bars with, if anything."""
    market = grid.market
    days = [vendor_days(grid, market.tie_out.provider)] if market.tie_out is not None else []
    minutes = [second_bars(grid, market.reconcile.provider)] if market.reconcile is not None else []
    return [*days, *minutes]


def vendor_days(grid: Grid, provider: str) -> dg.AssetsDefinition:
    """The asset that asks for daily bars."""
    market = grid.market

    @dg.asset(
        name=VENDOR_DAYS,
        key_prefix=market.name,
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=comparison_group(market.name),
        kinds={"polars", "parquet", provider},
        owners=market.owners,
        metadata=column_schema(VENDOR_DAYS),
        required_resource_keys={provider, "catalog"},
        pool=provider,
        description=(
            f"Daily bars as {provider} gives them, unadjusted: not built from minutes. They are what bars_1d is "
            "compared with. `ts` is local midnight of the session date."
        ),
    )
    def vendor_bars_1d(context: dg.AssetExecutionContext) -> pl.DataFrame:
        selection = grid.selection(context.partition_keys, context.run)
        check_size(market, selection, "ingest")
        check_published(market, market.sessions, selection)
        asked: BarProvider = getattr(context.resources, provider)
        catalog: Catalog = context.resources.catalog
        with traffic_recorded(catalog, context.run.run_id, market.name, {provider: asked}):
            days = answered(lambda: asked.daily_bars(*selection))
        return market.sessions.day_bars(days)

    return vendor_bars_1d


def second_bars(grid: Grid, provider: str) -> dg.AssetsDefinition:
    """The asset that asks the second provider for minutes."""
    market = grid.market

    @dg.asset(
        name=SECOND,
        key_prefix=market.name,
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=comparison_group(market.name),
        kinds={"polars", "parquet", provider},
        owners=market.owners,
        metadata=column_schema(SECOND),
        required_resource_keys={provider, "catalog"},
        pool=provider,
        description=(
            f"1-minute bars of the same symbols as {provider} gives them, unjudged. They are what bars_1m is compared "
            "with, and evidence for what a missing minute means; no other table is built from them."
        ),
    )
    def second_bars_1m(context: dg.AssetExecutionContext) -> dg.Output[pl.DataFrame]:
        selection = grid.selection(context.partition_keys, context.run)
        check_size(market, selection, "ingest")
        check_published(market, market.sessions, selection)
        providers = {provider: getattr(context.resources, provider)}
        catalog: Catalog = context.resources.catalog
        asked_at = datetime.now(UTC)
        with traffic_recorded(catalog, context.run.run_id, market.name, providers):
            found = fetch(providers, market.sessions, selection)
        return dg.Output(found.bars, metadata={**found.said, FETCHED_AT: dg.MetadataValue.timestamp(asked_at)})

    return second_bars_1m
