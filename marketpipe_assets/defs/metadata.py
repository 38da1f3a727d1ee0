"""What the UI shows of a materialization. No arithmetic that a check or a bar depends on."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.execution.context.system import StepExecutionContext

from marketpipe_assets.bars.amendments import Repair
from marketpipe_assets.bars.quarantine import REPAIRED, WAIVED, Split
from marketpipe_assets.bars.rules import Rule
from marketpipe_assets.bars.schema import MEANING, PRICES, TIMESTAMP, columns_of
from marketpipe_assets.lake.merge import Written

PREVIEW_ROWS = 5
SHOWN_SYMBOLS = 20
SHOWN_RESTATEMENTS = 20
FETCHED_AT = "fetched_at"  # on what a provider answered: the instant it was asked, for the IO manager to store
MAY_SHRINK = "may_shrink"  # on what may take the place of a symbol-day with more bars


def add_figures(
    context: StepExecutionContext,
    asset: dg.AssetKey,
    keys: Sequence[str],
    figures: Mapping[str, dg.MetadataValue] | Mapping[str, str],
) -> None:
    """Tell figures of a run on one of its partitions: the last of an output's `keys`, which is stored last, so that
    pages take it for the latest. On each partition they would be most of what Dagster stores and reads.
    """
    context.add_asset_metadata(figures, asset, keys[-1])


def add_output_figures(context: dg.AssetExecutionContext, asset: dg.AssetKey, figures: Mapping[str, Any]) -> None:
    """`add_figures` from within an asset, before it yields the output. Dagster stores the materializations of a run in
    the order of this subset, which is that of a set.
    """
    partitions = context.assets_def.partitions_def
    if partitions is None:
        raise TypeError(f"expected {asset.to_user_string()} to have partitions, had none")
    stored = partitions.empty_subset().with_partition_key_range(partitions, context.partition_key_range)
    add_figures(
        context.op_execution_context.get_step_execution_context(), asset, list(stored.get_partition_keys()), figures
    )


def bars_metadata(
    bars: pl.DataFrame, symbols: Sequence[str], dates: Sequence[date], folder: Path, written: Written
) -> Mapping[str, dg.MetadataValue]:
    """Figures of one output: those of the whole run where it covers several partitions."""
    shown = ", ".join(symbols[:SHOWN_SYMBOLS]) + (" …" if len(symbols) > SHOWN_SYMBOLS else "")
    return {
        "dagster/row_count": dg.MetadataValue.int(bars.height),
        "symbols": dg.MetadataValue.text(f"{len(symbols)}: {shown}"),
        "sessions": dg.MetadataValue.text(f"{len(dates)}: {dates[0]} to {dates[-1]}"),
        **_span(bars),
        "files_written": dg.MetadataValue.int(written.files),
        "files_unchanged": dg.MetadataValue.int(written.unchanged),
        "bytes_written": dg.MetadataValue.int(written.bytes),
        "folder": dg.MetadataValue.path(str(folder)),
        "preview": dg.MetadataValue.md(markdown(bars.head(PREVIEW_ROWS))),
    }


def verdict_metadata(
    split: Split, rules: Mapping[str, Rule], idle: Sequence[Repair], report: Path
) -> Mapping[str, dg.MetadataValue]:
    """What the rules said of a run's bars: a summary, bars by rule they broke with what follows, and the CSV report.

    `idle` are repairs that found no bar.
    """
    counts = {"raw": split.verdict.len(), "valid": split.valid.height, "quarantined": split.quarantined.height}
    marks = {mark: int(split.valid["flags"].list.contains(mark).sum()) for mark in (WAIVED, REPAIRED)}
    said = [", ".join(f"{bars:,} {what}" for what, bars in {**counts, **marks}.items()) + "."]
    said += [f"No bar for the repair of {each.symbol} at {each.ts:%Y-%m-%d %H:%M} UTC ({each.place})." for each in idle]
    return {
        "summary": dg.MetadataValue.md("\n\n".join([*said, _by_rule(split, rules)])),
        "broken_rules": dg.MetadataValue.int(sum(split.broken.values())),
        "report": dg.MetadataValue.path(str(report)),
    }


def _by_rule(split: Split, rules: Mapping[str, Rule]) -> str:
    most_first = sorted(split.broken.items(), key=lambda item: -item[1])
    rows = [
        (name, rules[name].severity.value, bars, split.waived.get(name, 0), rules[name].sentence)
        for name, bars in most_first
    ]
    schema = ["rule", "severity", "bars", "waived", "what a good bar holds"]
    return markdown(pl.DataFrame(rows, schema, orient="row")) if rows else "No rule is broken."


def restated_metadata(restated: pl.DataFrame) -> Mapping[str, dg.MetadataValue]:
    """How the answers of a run differ from what was stored; largest changes first."""
    counts = restated.select("changed", "added", "removed").sum().row(0)
    named = zip(("bars_changed", "bars_added", "bars_removed"), counts, strict=True)
    largest = restated.sort("largest_change", "changed", descending=True, nulls_last=True).head(SHOWN_RESTATEMENTS)
    return {
        "restated_symbol_days": dg.MetadataValue.int(restated.height),
        **{name: dg.MetadataValue.int(count) for name, count in named},
        "largest_change": dg.MetadataValue.float(restated.select(pl.col("largest_change").max().fill_null(0.0)).item()),
        "restatements": dg.MetadataValue.md(markdown(largest.drop("run_id"))),
    }


def column_schema(table: str) -> Mapping[str, dg.MetadataValue]:
    """The table's columns, for the asset's page."""
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(
            dg.TableSchema(
                [dg.TableColumn(name, _type_name(dtype), MEANING[name]) for name, dtype in columns_of(table).items()]
            )
        )
    }


def _span(bars: pl.DataFrame) -> Mapping[str, dg.MetadataValue]:
    if bars.is_empty():
        return {}
    first, last = bars.select(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last")).row(0)
    return {
        "first_ts": dg.MetadataValue.timestamp(first),
        "last_ts": dg.MetadataValue.timestamp(last),
    }


def markdown(frame: pl.DataFrame) -> str:
    """A frame as a table of Markdown; prices keep the digits they have."""
    if frame.is_empty():
        return "no rows"
    shown = frame.with_columns(pl.col(name).round(8) for name in (*PRICES, "vwap") if name in frame.columns)
    rows = [frame.columns, ["---"] * frame.width, *(map(_cell, row) for row in shown.iter_rows())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _type_name(dtype: pl.DataType) -> str:
    return "Datetime(us, UTC)" if dtype == TIMESTAMP else str(dtype)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
