"""coverage: what is held of each symbol-day, and why the rest is not. Reasons are judged in bars/reasons.py."""

from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg
import polars as pl

from marketpipe_assets.bars.coverage import covered_share
from marketpipe_assets.bars.reasons import REASONS
from marketpipe_assets.bars.schema import QUARANTINED, RAW, SECOND, VALID
from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.heat_map import MOST_SESSIONS, heat_map
from marketpipe_assets.defs.ledger import account
from marketpipe_assets.defs.metadata import add_output_figures, markdown
from marketpipe_assets.defs.partitions import WHOLE_RANGE, Grid, Selection

NAME = "coverage"
WORST = 20


def coverage_ledger(grid: Grid) -> dg.AssetsDefinition:
    """The asset that writes the market's part of the ledger."""
    market = grid.market

    @dg.asset(
        name=NAME,
        key_prefix=market.name,
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=market.name,
        kinds={"sql"},
        owners=market.owners,
        ins={table: dg.AssetIn([market.name, table]) for table in (RAW, VALID, QUARANTINED)},
        deps=[[market.name, SECOND]] if market.reconcile is not None else [],
        required_resource_keys={"lake", "catalog"},
        check_specs=[
            dg.AssetCheckSpec(
                NAME,
                asset=[market.name, NAME],
                description=f"At least {market.min_coverage:.1%} of the regular minutes of every symbol are there.",
            )
        ],
        description=(
            f"Which regular minutes of {market.name} have a valid bar, and why the others have none: no trade, a halt, "
            "a gap of the vendor's, not yet published, not listed, quarantined. The rows are in the catalogue; "
            "`marketpipe coverage` prints them."
        ),
    )
    def coverage(
        context: dg.AssetExecutionContext,
        raw_bars_1m: pl.DataFrame,
        bars_1m: pl.DataFrame,
        quarantined_bars_1m: pl.DataFrame,
    ) -> Iterator[dg.MaterializeResult[None]]:
        selection = grid.selection(context.partition_keys, context.run)
        bars = {RAW: raw_bars_1m, VALID: bars_1m, QUARANTINED: quarantined_bars_1m}
        catalog: Catalog = context.resources.catalog
        ranges = account(catalog, context.resources.lake, market, selection, context.run.run_id, bars)
        days = symbol_days_of(catalog, market.name, selection.symbols, selection.dates)
        seen = {**_figures(days), **_seen(catalog, market, selection, ranges)}
        add_output_figures(context, context.asset_key, seen)
        yield dg.MaterializeResult(check_results=[_verdict(market, days)])

    return coverage


def _figures(days: pl.DataFrame) -> Mapping[str, dg.MetadataValue]:
    sums = days.select(pl.sum("expected", "received", "valid", "quarantined", "missing", *REASONS[:-1])).row(
        0, named=True
    )
    return {
        "dagster/row_count": dg.MetadataValue.int(days.height),
        "covered_share": dg.MetadataValue.float(covered_share(days)),
        **{name: dg.MetadataValue.int(minutes) for name, minutes in sums.items()},
    }


def _seen(
    catalog: Catalog, market: Market, selection: Selection, ranges: pl.DataFrame
) -> Mapping[str, dg.MetadataValue]:
    """The picture of the market's newest sessions up to these, and the worst holes of the run."""
    dates = [day for day in market.sessions.dates if day <= selection.dates[-1]][-MOST_SESSIONS:]
    days = symbol_days_of(catalog, market.name, market.symbols, dates)
    begun = [day for day in dates if day >= _first(days, selection)]
    worst = ranges.sort("minutes", descending=True).head(WORST)
    return {
        "heat_map": dg.MetadataValue.md(heat_map(days, market.symbols, begun)),
        "worst_holes": dg.MetadataValue.md(markdown(worst)),
    }


def _first(days: pl.DataFrame, selection: Selection) -> date:
    first: date | None = days["session_date"].min()  # type: ignore[assignment]  # a column of dates
    return first or selection.dates[0]


def _verdict(market: Market, days: pl.DataFrame) -> dg.AssetCheckResult:
    shares = {symbol: covered_share(part) for (symbol,), part in days.group_by("symbol", maintain_order=True)}
    least = min(shares.values(), default=1.0)
    holes = days.filter(pl.col("missing") > 0)
    reasons = ("symbol", "session_date", "expected", "valid", "missing", *REASONS[:-1])
    return dg.AssetCheckResult(
        check_name=NAME,
        passed=least >= market.min_coverage,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{covered_share(days):.2%} of {days['expected'].sum():,} regular minutes are there; "
            f"{holes.height:,} of {days.height:,} symbol-days have holes"
        ),
        metadata={
            "least_covered_share": least,
            "holes": dg.MetadataValue.md(markdown(holes.sort("missing", descending=True).select(reasons).head(WORST))),
        },
    )
