"""bars_1m and quarantined_bars_1m: every raw bar, in exactly one of the two."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from marketpipe_assets.bars.audit import audit
from marketpipe_assets.bars.quarantine import split_by_rules, without_bar
from marketpipe_assets.bars.schema import QUARANTINED, RAW, VALID
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.defs.ledger import begin, count, timed
from marketpipe_assets.defs.metadata import add_output_figures, column_schema, verdict_metadata
from marketpipe_assets.defs.partitions import WHOLE_RANGE, Grid
from marketpipe_assets.reports import write_reports

DESCRIPTIONS = {
    VALID: (
        "1-minute bars that broke no rule of severity ERROR: unique by symbol and minute, sorted by time, on whole "
        "minutes, with finite prices. `flags` names the warnings a bar raised, and whether it was waived or repaired."
    ),
    QUARANTINED: (
        "1-minute bars that broke a rule, as the provider gave them, with `broken_rules`. Nothing is dropped: a raw "
        "bar is here or in bars_1m."
    ),
}


def validated_bars(grid: Grid) -> dg.AssetsDefinition:
    """The asset pair that judges raw bars in one pass."""
    market = grid.market

    @dg.multi_asset(
        name=f"{market.name}_validated",
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=market.name,
        ins={"raw_bars": dg.AssetIn([market.name, RAW])},
        required_resource_keys={"catalog", "reports"},
        outs={
            table: dg.AssetOut(
                key=[market.name, table],
                description=description,
                kinds={"polars", "parquet"},
                owners=market.owners,
                metadata=column_schema(table),
            )
            for table, description in DESCRIPTIONS.items()
        },
    )
    def validated(context: dg.AssetExecutionContext, raw_bars: pl.DataFrame) -> Iterator[dg.Output[pl.DataFrame]]:
        catalog: Catalog = context.resources.catalog
        rule_set, selection = market.rule_set, grid.selection(context.partition_keys, context.run)
        begin(catalog, market, context.run.run_id, selection)
        with timed(catalog, market, context.run.run_id, "validate"):
            split = split_by_rules(raw_bars, rule_set, market.sessions)
        count(catalog, market, context.run.run_id, "validate", split.broken)
        idle = without_bar(split, rule_set.repairs, market.sessions, *selection)
        for repair in idle:
            context.log.warning("no bar for the repair of %s at %s (%s)", repair.symbol, repair.ts, repair.place)
        rows = audit(raw_bars, split, rule_set)
        report = write_reports(context.resources.reports, context.run.run_id, rows, selection.symbols)
        said = verdict_metadata(split, rule_set.rules, idle, report)
        for table, bars in ((VALID, split.valid), (QUARANTINED, split.quarantined)):
            add_output_figures(context, dg.AssetKey([market.name, table]), said)
            yield dg.Output(bars, table)

    return validated
