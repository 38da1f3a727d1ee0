"""bars_5m, bars_15m, bars_1h, bars_1d …: longer bars from the valid minutes."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from marketpipe_assets.bars.resample import Anchor, resample
from marketpipe_assets.bars.schema import VALID
from marketpipe_assets.bars.timeframes import TIMEFRAMES, Timeframe
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.ledger import count, timed
from marketpipe_assets.defs.metadata import column_schema
from marketpipe_assets.defs.partitions import WHOLE_RANGE, Grid


def timeframes_of(market: Market) -> list[Timeframe]:
    """The longer bars the market builds, shortest first."""
    return [TIMEFRAMES[label] for label in market.timeframes]


def resampled_bars(grid: Grid) -> dg.AssetsDefinition:
    """The assets of every longer bar, built in one pass."""
    market = grid.market

    @dg.multi_asset(
        name=f"{market.name}_resampled",
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=market.name,
        can_subset=True,
        required_resource_keys={"catalog"},
        ins={"bars_1m": dg.AssetIn([market.name, VALID])},
        outs={
            timeframe.table: dg.AssetOut(
                key=[market.name, timeframe.table],
                is_required=False,
                description=_description(market, timeframe),
                kinds={"polars", "parquet"},
                owners=market.owners,
                metadata=column_schema(timeframe.table),
            )
            for timeframe in timeframes_of(market)
        },
    )
    def resampled(context: dg.AssetExecutionContext, bars_1m: pl.DataFrame) -> Iterator[dg.Output[pl.DataFrame]]:
        asked = context.op_execution_context.selected_output_names
        wanted = [each for each in timeframes_of(market) if each.table in asked]
        catalog: Catalog = context.resources.catalog
        with timed(catalog, market, context.run.run_id, "aggregate"):
            longer = resample(bars_1m, wanted, market.sessions, market.session, Anchor(market.anchor))
        count(
            catalog, market, context.run.run_id, "aggregate", {each.label: longer[each.label].height for each in wanted}
        )
        for timeframe in wanted:
            yield dg.Output(longer[timeframe.label], timeframe.table)

    return resampled


def _description(market: Market, timeframe: Timeframe) -> str:
    if timeframe.label == "1d":
        return "One bar per session from its regular minutes; `ts` is local midnight of the session date."
    where = "the exchange's clock" if market.anchor == "clock" else "the session's open"
    return f"{timeframe.label} bars of the {market.session} minutes in bars_1m, aligned to {where}."
