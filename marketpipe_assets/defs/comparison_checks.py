"""Checks of a market's bars against another source. They warn: neither side is right by itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import dagster as dg
import polars as pl

from marketpipe_assets.bars.reconciliation import agreement
from marketpipe_assets.bars.schema import PRICES, SECOND, VALID, VENDOR_DAYS
from marketpipe_assets.bars.tie_out import FIELDS, tie_out
from marketpipe_assets.config import Market, Reconcile, TieOut
from marketpipe_assets.defs.asset_checks import Verdict, run_selection
from marketpipe_assets.defs.metadata import markdown
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.lake.scan import read_bars

SHOWN = 30
DAYS = "bars_1d"

Read = Callable[[str, Sequence[str]], pl.DataFrame]
"""Table and columns → the run's bars of it."""


class Comparison(NamedTuple):
    """A check of a table that was asked for, against the one the market built."""

    name: str
    table: str
    against: str
    promise: str
    judge: Callable[[Read], Verdict]


def comparisons(market: Market) -> Sequence[Comparison]:
    """The checks that the market's configuration asks for."""
    found = []
    if (days := market.tie_out) is not None:
        found.append(
            Comparison(
                "tie_out",
                VENDOR_DAYS,
                DAYS,
                f"bars_1d is the day {days.provider} gives: {_stated(days)}.",
                lambda read: tie_out_verdict(read, days),
            )
        )
    if (minutes := market.reconcile) is not None:
        found.append(
            Comparison(
                "agreement",
                SECOND,
                VALID,
                f"At least {minutes.min_agreement:.1%} of the minutes are those of {minutes.provider}, "
                f"at prices within {minutes.tolerance:.3%}.",
                lambda read: agreement_verdict(read, minutes),
            )
        )
    return found


def comparison_checks(grid: Grid) -> Sequence[dg.AssetChecksDefinition]:
    """One definition for each comparison."""
    return [_check(grid, each) for each in comparisons(grid.market)]


def _check(grid: Grid, comparison: Comparison) -> dg.AssetChecksDefinition:
    market = grid.market

    @dg.multi_asset_check(
        name=f"{market.name}_{comparison.name}_check",
        required_resource_keys={"lake"},
        specs=[
            dg.AssetCheckSpec(
                comparison.name,
                asset=[market.name, comparison.table],
                additional_deps=[[market.name, comparison.against]],
                description=comparison.promise,
            )
        ],
    )
    def compared(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selection = run_selection(context, grid)

        def read(table: str, columns: Sequence[str]) -> pl.DataFrame:
            return read_bars(context.resources.lake, market.name, table, *selection, columns=columns)

        verdict = comparison.judge(read)
        yield dg.AssetCheckResult(
            check_name=comparison.name,
            asset_key=[market.name, comparison.table],
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=verdict.description,
            metadata=verdict.metadata,
        )

    return compared


def tie_out_verdict(read: Read, setting: TieOut) -> Verdict:
    """Passes where days were compared, none differs by more than is stated, and ours lack none the vendor has."""
    columns = ("symbol", "session_date", *FIELDS)
    found = tie_out(read(DAYS, columns), read(VENDOR_DAYS, columns), setting.limits)
    apart = found.differences.select("symbol", "session_date").unique().height
    return Verdict(
        found.compared > 0 and not apart and found.only_vendor.is_empty(),
        f"{found.compared - apart:,} of {found.compared:,} days tie out with {setting.provider}; "
        f"{found.only_vendor.height:,} only it has, {found.only_ours.height:,} only we have",
        {
            "compared_days": found.compared,
            "differing_days": apart,
            "differences": _table(found.differences),
            "only_vendor": _table(found.only_vendor),
            "only_ours": _table(found.only_ours),
            "tolerances": dg.MetadataValue.json(dict(setting.limits)),
        },
    )


def agreement_verdict(read: Read, setting: Reconcile) -> Verdict:
    """Passes where both have minutes and agree in as many as is stated."""
    columns = ("symbol", "session_date", "ts", *PRICES)
    found = agreement(read(VALID, columns), read(SECOND, columns), setting.tolerance)
    totals = found.symbol_days.select("both", "only_first", "only_second", "differing").sum().row(0, named=True)
    worst = found.symbol_days.sort("only_second", "only_first", "differing", descending=True)
    return Verdict(
        totals["both"] > 0 and found.share >= setting.min_agreement,
        f"{found.share:.2%} of the minutes that either has agree; {totals['only_second']:,} only "
        f"{setting.provider} has, {totals['only_first']:,} only we have; {totals['differing']:,} at other prices",
        {
            "share": found.share,
            **totals,
            "symbol_days": _table(worst),
            "differences": _table(found.differences),
        },
    )


def _stated(setting: TieOut) -> str:
    limits = setting.limits.items()
    return ", ".join(f"{name} within {limit:.3%}" if limit else f"{name} exact" for name, limit in limits)


def _table(frame: pl.DataFrame) -> dg.MetadataValue:
    return dg.MetadataValue.md(markdown(frame.head(SHOWN)))
