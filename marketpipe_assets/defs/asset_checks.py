"""What is checked of the bars at rest after a run wrote them. Rules for single bars are in bars/rules.py."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import dagster as dg
import polars as pl

from marketpipe_assets.bars.coverage import coverage, covered_share
from marketpipe_assets.bars.timeframes import Timeframe
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.raw import TABLE as RAW
from marketpipe_assets.defs.assets.resampled import timeframes_of
from marketpipe_assets.defs.assets.validated import QUARANTINED, VALID
from marketpipe_assets.defs.metadata import markdown
from marketpipe_assets.defs.partitions import Selection, selection_of, tagged_keys
from marketpipe_assets.lake.scan import bar_counts, read_bars

KEY = ("symbol", "session_date")
SHOWN = 20
RECENT_SESSIONS = 20
VOLUME_TOLERANCE = 1e-9  # sums of the same numbers in another order


def asset_checks(market: Market, partitions: dg.PartitionsDefinition[str]) -> Sequence[dg.AssetChecksDefinition]:
    """The checks of one market. They read the lake for the partitions of the run; a run of checks alone, which has
    none, covers the most recent sessions.
    """
    return [_validated_checks(market, partitions), _resampled_checks(market, partitions)]


def _validated_checks(market: Market, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    valid, quarantined = dg.AssetKey([market.name, VALID]), dg.AssetKey([market.name, QUARANTINED])

    @dg.multi_asset_check(
        name=f"{market.name}_validated_checks",
        required_resource_keys={"lake"},
        specs=[
            dg.AssetCheckSpec(
                "rows_conserved",
                asset=valid,
                additional_deps=[quarantined],
                blocking=True,
                description="Raw bars = valid bars + quarantined bars, for every symbol-day.",
            ),
            dg.AssetCheckSpec(
                "contract",
                asset=valid,
                blocking=True,
                description="Stored bars have the columns, order and bounds that longer bars rest on.",
            ),
            dg.AssetCheckSpec(
                "quarantined_share",
                asset=quarantined,
                additional_deps=[valid],
                blocking=True,
                description=f"At most {market.max_quarantined_share:.1%} of the raw bars are quarantined.",
            ),
            dg.AssetCheckSpec(
                "coverage",
                asset=valid,
                description=f"At least {market.min_coverage:.1%} of the regular minutes of every symbol are there.",
            ),
        ],
    )
    def validated_checks(context: dg.AssetCheckExecutionContext) -> Iterable[dg.AssetCheckResult]:
        lake, selection = context.resources.lake, _selection(context, market, partitions)
        counts = _bar_counts(lake, market, selection)
        bars = read_bars(lake, market.name, VALID, *selection)
        yield _conserved(counts, valid)
        yield _contract(bars, valid)
        yield _share(counts, market, quarantined)
        yield _coverage(bars, market, selection, valid)

    return validated_checks


def _resampled_checks(market: Market, partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    timeframes = {f"{market.name}/{each.table}": each for each in timeframes_of(market)}

    @dg.multi_asset_check(
        name=f"{market.name}_resampled_checks",
        required_resource_keys={"lake"},
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
    def resampled_checks(context: dg.AssetCheckExecutionContext) -> Iterable[dg.AssetCheckResult]:
        lake, selection = context.resources.lake, _selection(context, market, partitions)
        minutes = _volumes(lake, market, VALID, selection)
        for key in context.selected_asset_check_keys:
            timeframe = timeframes[key.asset_key.to_user_string()]
            yield _volume_result(lake, market, timeframe, selection, minutes, key.asset_key)

    return resampled_checks


def _selection(
    context: dg.AssetCheckExecutionContext, market: Market, partitions: dg.PartitionsDefinition[str]
) -> Selection:
    keys = tagged_keys(context.run.tags, partitions)
    if keys:
        return selection_of(keys)
    last = partitions.get_last_partition_key()
    end = selection_of([last]).dates[0] if last else market.sessions.dates[-1]
    return Selection(market.symbols, market.sessions.between(market.start, end)[-RECENT_SESSIONS:])


def _bar_counts(lake: Path, market: Market, selection: Selection) -> pl.DataFrame:
    """`symbol`, `session_date` and the bars of each minute table; 0 where there are none."""
    owned = market.sessions.owned_dates(selection.dates)
    tables = (
        bar_counts(lake, market.name, table, selection.symbols, owned).with_columns(pl.lit(table).alias("table"))
        for table in (RAW, VALID, QUARANTINED)
    )
    wide = pl.concat(tables).pivot("table", index=KEY, values="bars", on_columns=[RAW, VALID, QUARANTINED])
    return wide.with_columns(pl.col(RAW, VALID, QUARANTINED).fill_null(0))


def _conserved(counts: pl.DataFrame, asset: dg.AssetKey) -> dg.AssetCheckResult:
    lost = counts.filter(pl.col(RAW) != pl.col(VALID) + pl.col(QUARANTINED))
    totals = {table: int(counts[table].sum()) for table in (RAW, VALID, QUARANTINED)}
    return dg.AssetCheckResult(
        check_name="rows_conserved",
        asset_key=asset,
        passed=lost.is_empty(),
        description=f"{totals[RAW]} raw = {totals[VALID]} valid + {totals[QUARANTINED]} quarantined"
        if lost.is_empty()
        else f"{lost.height} symbol-days do not add up",
        metadata={**totals, "symbol_days": dg.MetadataValue.md(markdown(lost.head(SHOWN)))},
    )


def _contract(bars: pl.DataFrame, asset: dg.AssetKey) -> dg.AssetCheckResult:
    from marketpipe_assets.bars.contract import breaches  # pandera takes two seconds to import

    broken = breaches(bars)
    return dg.AssetCheckResult(
        check_name="contract",
        asset_key=asset,
        passed=not broken,
        description="; ".join(broken) or f"{bars.height} bars hold the contract",
    )


def _share(counts: pl.DataFrame, market: Market, asset: dg.AssetKey) -> dg.AssetCheckResult:
    raw, quarantined = int(counts[RAW].sum()), int(counts[QUARANTINED].sum())
    share = quarantined / raw if raw else 0.0
    worst = counts.filter(pl.col(QUARANTINED) > 0).sort(QUARANTINED, descending=True).head(SHOWN)
    return dg.AssetCheckResult(
        check_name="quarantined_share",
        asset_key=asset,
        passed=share <= market.max_quarantined_share,
        description=f"{quarantined} of {raw} bars, {share:.3%}, at most {market.max_quarantined_share:.1%}",
        metadata={"share": share, "worst": dg.MetadataValue.md(markdown(worst))},
    )


def _coverage(
    bars: pl.DataFrame, market: Market, selection: Selection, asset: dg.AssetKey
) -> dg.AssetCheckResult:
    rows = coverage(bars, market.sessions, *selection)
    by_symbol = rows.group_by("symbol", maintain_order=True).agg(
        pl.col("expected_minutes", "received_minutes").sum()
    )
    shares = {symbol: covered_share(part) for (symbol,), part in by_symbol.group_by("symbol", maintain_order=True)}
    least = min(shares.values(), default=1.0)
    holes = rows.filter(pl.col("missing_minutes") > 0).sort("missing_minutes", descending=True)
    return dg.AssetCheckResult(
        check_name="coverage",
        asset_key=asset,
        passed=least >= market.min_coverage,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{covered_share(rows):.2%} of {rows['expected_minutes'].sum()} regular minutes are there; "
        f"{holes.height} of {rows.height} symbol-days have holes",
        metadata={"least_covered_symbol": least, "holes": dg.MetadataValue.md(markdown(holes.head(SHOWN)))},
    )


def _volumes(lake: Path, market: Market, table: str, selection: Selection) -> pl.DataFrame:
    bars = read_bars(lake, market.name, table, *selection, columns=("symbol", "session_date", "volume", "session"))
    regular = bars.filter(pl.col("session") == "regular").group_by(KEY).agg(pl.col("volume").sum().alias("regular"))
    return bars.group_by(KEY).agg(pl.col("volume").sum().alias("all")).join(regular, on=KEY, how="left")


def _volume_result(
    lake: Path, market: Market, timeframe: Timeframe, selection: Selection, minutes: pl.DataFrame, asset: dg.AssetKey
) -> dg.AssetCheckResult:
    counted = "regular" if market.session == "regular" or timeframe.label == "1d" else "all"
    longer = _volumes(lake, market, timeframe.table, selection).select(*KEY, pl.col("all").alias("longer"))
    both = minutes.select(*KEY, pl.col(counted).alias("minutes")).filter(pl.col("minutes").is_not_null())
    off = both.join(longer, on=KEY, how="full", coalesce=True).filter(
        ((pl.col("minutes") - pl.col("longer")).abs() > VOLUME_TOLERANCE * pl.col("minutes").abs()).fill_null(True)
    )
    return dg.AssetCheckResult(
        check_name="volume_conserved",
        asset_key=asset,
        passed=off.is_empty(),
        description=f"{off.height} of {both.height} symbol-days differ from their minutes",
        metadata={"symbol_days": dg.MetadataValue.md(markdown(off.head(SHOWN)))},
    )
