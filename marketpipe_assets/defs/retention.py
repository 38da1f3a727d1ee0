"""A market's retention: files, catalogue and Dagster's events say the same. Which bars are old is lake/prune.py's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.bars.schema import QUARANTINED, RAW, VALID
from marketpipe_assets.catalog.asking import pruned_through
from marketpipe_assets.catalog.counts import COUNTS, add_counts
from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import pruned
from marketpipe_assets.config import Market
from marketpipe_assets.lake.prune import Cut, Plan, Policy, execute, plan, remove_empty_folders
from marketpipe_assets.lake.scan import bar_counts
from marketpipe_assets.upkeep import MINUTES_KEPT, kept_for

MOST_EVENTS = 20_000
"""Partitions that get an event of their own: one costs some 20 ms. Above, each table gets one for all of them."""


class Tables(NamedTuple):
    """The market's tables: of minutes, and of longer bars, shortest first."""

    minutes: Sequence[str]
    longer: Sequence[str]


def tables_of(market: Market) -> Tables:
    return Tables(MINUTES_KEPT, [f"bars_{label}" for label in market.timeframes])


def policy_of(market: Market, today: date, otherwise: timedelta | None = None) -> Policy:
    """The market's ages and holds on a day. A table without an age of its own has `otherwise`; None: it is kept."""
    tables = [*tables_of(market).minutes, *tables_of(market).longer]
    configured = {table for table in tables if _is_configured(market, table)}
    ages = {table: kept_for(market.retention, table) if table in configured else otherwise for table in tables}
    first = {table: today - age for table, age in ages.items() if age is not None}

    def is_held(symbol: str, day: date) -> bool:
        return any(
            hold.covers(symbol) and (hold.start is None or hold.start <= day) and (hold.end is None or day < hold.end)
            for hold in market.hold
        )

    return Policy(first, is_held)


def _is_configured(market: Market, table: str) -> bool:
    return (
        table in market.retention
        or table.removeprefix("bars_") in market.retention
        or (table in MINUTES_KEPT and "1m" in market.retention)
    )


def consequences(policy: Policy, tables: Tables) -> list[str]:
    """What can no longer be done with what stays, in a sentence each."""
    first = policy.kept_from
    raw, valid = first.get("raw_bars_1m"), first.get("bars_1m")
    said = []
    if raw is not None and raw > (valid or date.min):
        said.append(f"bars_1m before {raw} stay and can no longer be judged again: their raw bars go")
    if valid is not None and (longer := [table for table in tables.longer if first.get(table, date.min) < valid]):
        said.append(f"{', '.join(longer)} before {valid} stay and can no longer be rebuilt: their minutes go")
    if raw is not None and any(first.get(table, date.min) < raw for table in (VALID, *tables.longer)):
        said.append(f"as_of answers for sessions before {raw} with no bar: it builds every table from raw bars")
    superseded = first.get("superseded_bars_1m")
    if superseded is not None and superseded > (raw or date.min):
        said.append(f"as_of answers for sessions before {superseded} with the newest bars: earlier versions go")
    return said


def planned_pruning(lake: Path, market: Market, policy: Policy) -> Plan:
    """What pruning would remove."""
    return plan(lake, market.name, policy, tables_of(market).longer)


def spared(
    catalog: Catalog, lake: Path, market: Market, table: str, symbols: Sequence[str], dates: Sequence[date]
) -> Mapping[str, frozenset[date]]:
    """Symbol-days of a table that no run may replace: retention removed the bars that they were built from.

    None of a table that is not built from others, but asked for.
    """
    source = {VALID: RAW, QUARANTINED: RAW, **dict.fromkeys(tables_of(market).longer, VALID)}.get(table)
    through = pruned_through(catalog, market.name, (RAW, VALID)) if source is not None else {}
    old = {symbol: through[symbol] for symbol in symbols if through.get(symbol, date.min) >= min(dates)}
    if source is None or not old:
        return {}
    held = bar_counts(lake, market.name, source, sorted(old), dates)
    there = frozenset(held.select("symbol", "session_date").iter_rows())
    return {
        symbol: frozenset(day for day in dates if day <= last and (symbol, day) not in there)
        for symbol, last in old.items()
    }


def prune(
    lake: Path, catalog: Catalog, instance: dg.DagsterInstance, market: Market, cuts: Sequence[Cut], run_id: str
) -> list[Cut]:
    """Remove what was planned, and say so in the catalogue and in Dagster. Gives what was removed.

    The catalogue says that a period is pruned before its file goes, and how much it was once it has: a process that is
    killed in between leaves no file that is held and not known, and the next pruning removes it.
    """
    removed = []
    for cut in cuts:
        _say_pruned(catalog, market, cut._replace(rows=0, bytes=0), run_id)
        done = execute(lake, cut)
        _say_pruned(catalog, market, done, run_id)
        removed.append(done)
    remove_empty_folders(lake, market.name, sorted({cut.file.table for cut in cuts}))
    _count(catalog, market, removed, run_id)
    for event in events_of(market, removed):
        instance.report_runless_asset_event(event)
    return removed


def _say_pruned(catalog: Catalog, market: Market, cut: Cut, run_id: str) -> None:
    """One file may be cut several times as its month grows old: rows and bytes add up."""
    key = {
        "market": market.name,
        "table_name": cut.file.table,
        "symbol": cut.file.symbol,
        "period": cut.file.period,
    }
    columns = pruned.c
    with catalog.begin() as connection:
        select = sa.select(columns.rows, columns.bytes, columns.through).where(
            *(columns[name] == value for name, value in key.items())
        )
        rows, size, through = connection.execute(select).one_or_none() or (0, 0, date.min)
        row = {
            **key,
            "through": max(through, *cut.dates),
            "rows": rows + cut.rows,
            "bytes": size + cut.bytes,
            "at": datetime.now(UTC),
            "run_id": run_id,
        }
        upsert(connection, pruned, pl.DataFrame([row]))


def _count(catalog: Catalog, market: Market, removed: Iterable[Cut], run_id: str) -> None:
    counts = Counter[str]()
    for cut in removed:
        counts[cut.file.table] += cut.rows
        counts[f"bytes:{cut.file.table}"] += cut.bytes
    rows = [("", "", name, float(value)) for name, value in sorted(counts.items())]
    with catalog.begin() as connection:
        add_counts(connection, run_id, market.name, "pruned", pl.DataFrame(rows, schema=COUNTS, orient="row"))


def events_of(market: Market, removed: Sequence[Cut]) -> list[dg.AssetMaterialization]:
    """What Dagster is told: it cannot take back that a partition was materialized, so its last event says pruned.

    One for each partition and table; one for each table where there would be more than `MOST_EVENTS`, and where a
    partition holds more than one symbol-day, of which others may stay.
    """
    sessions, symbols = frozenset(market.sessions.dates), frozenset(market.symbols)
    ours = [cut for cut in removed if cut.file.symbol in symbols and cut.file.table != "superseded_bars_1m"]
    keys = [(cut, day) for cut in ours for day in cut.dates if day in sessions]
    is_plain = (market.partition.symbols, market.partition.dates) == (1, "day")
    if len(keys) > MOST_EVENTS or not is_plain:
        return [_of_table(market, table, ours) for table in sorted({cut.file.table for cut in ours})]
    days_of = Counter(cut.file for cut, _ in keys)
    return [
        dg.AssetMaterialization(
            [market.name, cut.file.table],
            partition=f"{day}|{cut.file.symbol}",
            description="Removed by retention.",
            metadata=_metadata(cut.bytes // days_of[cut.file]),
        )
        for cut, day in keys
    ]


def _of_table(market: Market, table: str, removed: Sequence[Cut]) -> dg.AssetMaterialization:
    ours = [cut for cut in removed if cut.file.table == table]
    first, last = min(min(cut.dates) for cut in ours), max(max(cut.dates) for cut in ours)
    symbols = len({cut.file.symbol for cut in ours})
    return dg.AssetMaterialization(
        [market.name, table],
        description=f"Removed by retention: {symbols} symbols, sessions from {first} to {last}.",
        metadata=_metadata(sum(cut.bytes for cut in ours)),
    )


def _metadata(bytes_freed: int) -> Mapping[str, dg.MetadataValue]:
    return {
        "pruned": dg.MetadataValue.bool(True),
        "dagster/row_count": dg.MetadataValue.int(0),
        "rows": dg.MetadataValue.int(0),
        "bytes_freed": dg.MetadataValue.int(bytes_freed),
    }
