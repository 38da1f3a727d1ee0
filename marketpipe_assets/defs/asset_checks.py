"""What is checked of the bars at rest after a run wrote them. Rules for single bars are in bars/rules.py."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import numpy as np
import polars as pl

from marketpipe_assets.bars.order import symbol_day_starts
from marketpipe_assets.bars.quotes import ASK, BID, crossed, pairs
from marketpipe_assets.bars.schema import KEY, QUARANTINED, RAW, VALID
from marketpipe_assets.bars.symbol_days import counted
from marketpipe_assets.bars.timeframes import Timeframe
from marketpipe_assets.catalog.asking import pruned_through
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.resampled import timeframes_of
from marketpipe_assets.defs.metadata import markdown
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.lake.scan import bar_counts, read_bars

MINUTES = (RAW, VALID, QUARANTINED)
SHOWN = 20
RECENT_SESSIONS = 20
VOLUME_TOLERANCE = 1e-9  # sums of the same numbers in another order


def asset_checks(grid: Grid) -> Sequence[dg.AssetChecksDefinition]:
    """The checks of one market. They read the lake for the partitions of the run; a run of checks alone, which has
    none, covers the most recent sessions that were materialized.
    """
    return [_validated_checks(grid), _resampled_checks(grid)]


class Evidence:
    """What the lake holds of a run's partitions; read when first asked for."""

    def __init__(self, lake: Path, catalog: Catalog, market: Market, selection: Selection) -> None:
        self.lake, self.catalog, self.market, self.selection = lake, catalog, market, selection

    @cached_property
    def counts(self) -> pl.DataFrame:
        """`symbol`, `session_date` and the bars of each minute table; 0 where there are none."""
        of_others = {
            table: bar_counts(self.lake, self.market.name, table, self.selection.symbols, self._owned)
            for table in (RAW, QUARANTINED)
        }
        tables = [
            each.with_columns(table=pl.lit(table))
            for table, each in (of_others | {VALID: counted(self._valid)}).items()
        ]
        wide = pl.concat(tables).pivot("table", index=KEY, values="bars", on_columns=MINUTES)
        return wide.with_columns(pl.col(MINUTES).fill_null(0))

    def unexplained(self, off: pl.DataFrame, minutes: str) -> pl.DataFrame:
        """Symbol-days that do not add up, but for those whose `minutes` are none since retention removed them."""
        if off.is_empty():
            return off
        through = pruned_through(self.catalog, self.market.name, (RAW, VALID))
        rows = off.select(*KEY, minutes).iter_rows()
        return off.filter([bool(count) or day > through.get(symbol, date.min) for symbol, day, count in rows])

    @cached_property
    def bars(self) -> pl.DataFrame:
        """The valid minute bars of the sessions."""
        ours = self._valid["session_date"].is_in(list(self.selection.dates))
        return self._valid if ours.all() else self._valid.filter(ours)

    @cached_property
    def _valid(self) -> pl.DataFrame:
        """Those of the closed days before a session as well, which a waiver can let in."""
        return read_bars(self.lake, self.market.name, VALID, self.selection.symbols, self._owned)

    @cached_property
    def _owned(self) -> Sequence[date]:
        return self.market.sessions.owned_dates(self.selection.dates)

    def volumes(self, table: str) -> pl.DataFrame:
        """`symbol`, `session_date` and the volume of `all` bars and of the `regular` ones."""
        columns = ("symbol", "session_date", "volume", "session")
        bars = read_bars(self.lake, self.market.name, table, *self.selection, columns=columns)
        starts = symbol_day_starts(bars)
        volume, regular = bars["volume"].to_numpy(), (bars["session"] == "regular").fill_null(False).to_numpy()
        sums = {"all": volume, "regular": np.where(regular, volume, 0)}
        days = bars.select(KEY)[starts].with_columns(
            pl.Series(name, np.add.reduceat(values, starts) if starts.size else values) for name, values in sums.items()
        )
        return days.group_by(KEY).sum()


class Verdict(NamedTuple):
    passed: bool
    description: str
    metadata: Mapping[str, int | float | dg.MetadataValue]


def _validated_checks(grid: Grid) -> dg.AssetChecksDefinition:
    market = grid.market
    specs = [
        dg.AssetCheckSpec(
            check.name,
            asset=[market.name, check.table],
            additional_deps=[[market.name, other] for other in (VALID, QUARANTINED) if other != check.table],
            blocking=check.severity is dg.AssetCheckSeverity.ERROR,
            description=check.promise.format(market=market),
        )
        for check in CHECKS.values()
        if check.applies(market)
    ]

    @dg.multi_asset_check(
        name=f"{market.name}_validated_checks", required_resource_keys={"lake", "catalog"}, can_subset=True, specs=specs
    )
    def validated_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        evidence = Evidence(context.resources.lake, context.resources.catalog, market, run_selection(context, grid))
        for key in sorted(context.selected_asset_check_keys):
            check = CHECKS[key.name]
            yield _result(key, check.judge(evidence), check.severity)

    return validated_checks


def _resampled_checks(grid: Grid) -> dg.AssetChecksDefinition:
    market = grid.market
    timeframes = {f"{market.name}/{each.table}": each for each in timeframes_of(market)}

    @dg.multi_asset_check(
        name=f"{market.name}_resampled_checks",
        required_resource_keys={"lake", "catalog"},
        can_subset=True,
        specs=[
            dg.AssetCheckSpec(
                "volume_conserved",
                asset=[market.name, each.table],
                additional_deps=[[market.name, VALID]],
                description="The volume of a session is that of the minutes it was built from.",
            )
            for each in timeframes.values()
        ],
    )
    def resampled_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        evidence = Evidence(context.resources.lake, context.resources.catalog, market, run_selection(context, grid))
        minutes = evidence.volumes(VALID)
        for key in sorted(context.selected_asset_check_keys):
            timeframe = timeframes[key.asset_key.to_user_string()]
            yield _result(key, _volume_conserved(evidence, timeframe, minutes))

    return resampled_checks


def _result(
    key: dg.AssetCheckKey, verdict: Verdict, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=key.name,
        asset_key=key.asset_key,
        passed=verdict.passed,
        severity=severity,
        description=verdict.description,
        metadata=verdict.metadata,
    )


def run_selection(context: dg.AssetCheckExecutionContext, grid: Grid) -> Selection:
    """The run's partitions; of a run of checks alone the most recent sessions."""
    keys, market = grid.tagged_keys(context.run.tags), grid.market
    if keys:
        return grid.selection(keys, context.run)
    materialized = context.instance.get_materialized_partitions(dg.AssetKey([market.name, VALID]))
    if not materialized:
        raise dg.Failure(f"expected bars of {market.name} to check, was no partition materialized yet")
    rows = {key.split("|", 1)[0] for key in materialized}
    dates = grid.finished(day for row, days in grid.rows.items() if row in rows for day in days)
    return Selection(market.symbols, dates[-RECENT_SESSIONS:])


def _rows_conserved(evidence: Evidence) -> Verdict:
    counts = evidence.counts
    lost = evidence.unexplained(counts.filter(pl.col(RAW) != pl.col(VALID) + pl.col(QUARANTINED)), RAW)
    totals = {table: int(counts[table].sum()) for table in MINUTES}
    added = f"{totals[RAW]:,} raw = {totals[VALID]:,} valid + {totals[QUARANTINED]:,} quarantined"
    return Verdict(
        lost.is_empty(),
        added if lost.is_empty() else f"{lost.height:,} symbol-days do not add up",
        {**totals, "symbol_days": _table(lost)},
    )


def _contract(evidence: Evidence) -> Verdict:
    from marketpipe_assets.bars.contract import breaches  # pandera takes two seconds to import

    broken = breaches(evidence.bars)
    bars = evidence.bars.height
    return Verdict(not broken, "; ".join(broken) or f"{bars:,} bars hold the contract", {"bars": bars})


def _quarantined_share(evidence: Evidence) -> Verdict:
    counts, limit = evidence.counts, evidence.market.max_quarantined_share
    raw, quarantined = int(counts[RAW].sum()), int(counts[QUARANTINED].sum())
    share = quarantined / raw if raw else 0.0
    worst = counts.filter(pl.col(QUARANTINED) > 0).sort(QUARANTINED, descending=True)
    return Verdict(
        share <= limit,
        f"{quarantined:,} of {raw:,} bars, {share:.3%}, are quarantined; the limit is {limit:.1%}",
        {"share": share, "worst": _table(worst)},
    )


def _volume_conserved(evidence: Evidence, timeframe: Timeframe, minutes: pl.DataFrame) -> Verdict:
    counted = "regular" if evidence.market.session == "regular" or timeframe.label == "1d" else "all"
    longer = evidence.volumes(timeframe.table).select(*KEY, pl.col("all").alias("longer"))
    both = minutes.select(*KEY, pl.col(counted).alias("minutes")).join(longer, on=KEY, how="full", coalesce=True)
    apart = (pl.col("minutes").fill_null(0) - pl.col("longer").fill_null(0)).abs()
    off = both.filter(apart > VOLUME_TOLERANCE * pl.col("minutes").fill_null(0).abs())
    off = evidence.unexplained(off, "minutes")
    return Verdict(
        off.is_empty(),
        f"{off.height:,} of {both.height:,} symbol-days differ from their minutes",
        {"symbol_days": _table(off)},
    )


def _quotes_not_crossed(evidence: Evidence) -> Verdict:
    asked = set(evidence.selection.symbols)
    sides = [(f"{each}{BID}", f"{each}{ASK}") for each in pairs(evidence.market.symbols)]
    symbols = [symbol for pair in sides if asked & set(pair) for symbol in pair]
    columns = ("symbol", "ts", "session_date", "close")
    market, dates = evidence.market, evidence.selection.dates
    quoted = crossed(read_bars(evidence.lake, market.name, VALID, symbols, dates, columns=columns))
    bad = quoted.filter(pl.col("crossed") > 0).sort("crossed", descending=True)
    total, minutes = int(quoted["crossed"].sum()), int(quoted["minutes"].sum())
    return Verdict(
        total == 0,
        f"in {total:,} of {minutes:,} minutes the ask closes below the bid",
        {"crossed": total, "days": _table(bad)},
    )


def _table(frame: pl.DataFrame) -> dg.MetadataValue:
    return dg.MetadataValue.md(markdown(frame.head(SHOWN)))


class Check(NamedTuple):
    """A check of a minute table: what it promises and who judges it. Longer bars wait for those of severity ERROR."""

    name: str
    table: str
    judge: Callable[[Evidence], Verdict]
    severity: dg.AssetCheckSeverity
    promise: str
    applies: Callable[[Market], bool] = lambda _: True


CHECKS = {
    check.name: check
    for check in (
        Check(
            "rows_conserved",
            VALID,
            _rows_conserved,
            dg.AssetCheckSeverity.ERROR,
            "Raw bars = valid bars + quarantined bars, for every symbol-day.",
        ),
        Check(
            "contract",
            VALID,
            _contract,
            dg.AssetCheckSeverity.ERROR,
            "Stored bars have the columns, order and bounds that longer bars rest on.",
        ),
        Check(
            "quarantined_share",
            QUARANTINED,
            _quarantined_share,
            dg.AssetCheckSeverity.ERROR,
            "At most {market.max_quarantined_share:.1%} of the raw bars are quarantined.",
        ),
        Check(
            "quotes_not_crossed",
            VALID,
            _quotes_not_crossed,
            dg.AssetCheckSeverity.WARN,
            "Of symbols that are the two sides of a quote, as EURUSD.bid and EURUSD.ask, the ask does not close below "
            "the bid.",
            lambda market: bool(pairs(market.symbols)),
        ),
    )
}
