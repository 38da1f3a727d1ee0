"""What the catalogue, Dagster's instance and the lake say now, as samples. Counts are of what was committed."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.bars.rules import RULES
from marketpipe_assets.catalog.ledger import count_within
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import (
    ASKABLE,
    MISSING,
    restatements,
    run_counts,
    run_seconds,
    symbol_days,
)
from marketpipe_assets.catalog.tables import asked as tries
from marketpipe_assets.catalog.tables import requests as traffic
from marketpipe_assets.config import Config, Market
from marketpipe_assets.definitions import provider_of
from marketpipe_assets.defs.due import DueSpan, due_spans
from marketpipe_assets.metrics.names import COUNTED, PRUNED, PRUNED_BYTES, Sample, Samples, one
from marketpipe_assets.providers import provider_class
from marketpipe_assets.providers.base import ProviderError
from marketpipe_assets.providers.http import HttpProvider
from marketpipe_assets.providers.quota import quota_left
from marketpipe_assets.providers.traffic import Traffic, Wait

if TYPE_CHECKING:
    import dagster as dg

RECENT = (1, 20)
"""Numbers of last sessions over which coverage is told, beside all."""

EVERYTHING = "all"


def held_samples(config: Config, catalog: Catalog, now: datetime) -> Samples:
    """Freshness, coverage, quarantine and gaps, from the ledger."""
    with catalog.reading() as connection:
        for market in config.markets.values():
            due, spans = due_sessions(market, now), due_spans(catalog, market)
            yield from _freshness(connection, market, due, now)
            yield one("mp_limit_ratio", market.name, "coverage", value=market.min_coverage)
            yield one("mp_limit_ratio", market.name, "quarantined", value=market.max_quarantined_share)
            yield one("mp_gaps", market.name, value=_gaps(connection, market.name))
            for count in RECENT:
                yield from _coverage(connection, market, spans, str(count), due["session_date"].to_list()[-count:])


def history_samples(config: Config, catalog: Catalog, now: datetime) -> Samples:
    """What reads every row there is: sums over all sessions, and of what every run committed."""
    with catalog.reading() as connection:
        for market in config.markets.values():
            dates = due_sessions(market, now)["session_date"].to_list()
            yield from _coverage(connection, market, due_spans(catalog, market), EVERYTHING, dates)
        yield from _counted(connection, config)
        yield from _seconds(connection, config)
        yield from _traffic(connection, config)
        yield from _filled(connection, config)
        restated = sa.select(restatements.c.market, sa.func.count()).group_by(restatements.c.market)
        found = dict.fromkeys(config.markets, 0)
        found.update((name, count) for name, count in connection.execute(restated))
        for name, count in found.items():
            yield one("mp_restated_symbol_days_total", name, value=count)


def due_sessions(market: Market, now: datetime) -> pl.DataFrame:
    """`session_date` and `published` of the sessions that are over, oldest first."""
    table = market.sessions.table
    return table.select("session_date", pl.col("window_end").alias("published")).filter(pl.col("published") <= now)


def _freshness(connection: sa.Connection, market: Market, due: pl.DataFrame, now: datetime) -> Samples:
    columns = symbol_days.c
    newest: date | None = connection.scalar(
        sa.select(sa.func.max(columns.session_date)).where(columns.market == market.name, columns.raw_bars > 0)
    )
    late = due if newest is None else due.filter(pl.col("session_date") > newest)
    since = 0.0 if late.is_empty() else (now - late["published"][0]).total_seconds()
    yield one("mp_freshness_seconds", market.name, value=since)
    yield one("mp_sessions_behind", market.name, value=late.height)
    if newest is not None and not (held := due.filter(pl.col("session_date") <= newest)).is_empty():
        yield one("mp_newest_session_timestamp_seconds", market.name, value=held["published"][-1].timestamp())


def _gaps(connection: sa.Connection, market: str) -> int:
    columns = symbol_days.c
    askable = sum((columns[reason] for reason in ASKABLE[1:]), columns[ASKABLE[0]])
    found = sa.select(sa.func.count()).where(columns.market == market, askable > 0)
    return connection.scalar(found) or 0


MINUTES = ("expected", "received", "valid", "quarantined")
BARS: Mapping[str, str] = {
    "raw_bars": "raw_bars_1m",
    "valid_bars": "bars_1m",
    "quarantined_bars": "quarantined_bars_1m",
}
"""Column of the ledger → the table whose bars it counts."""


def _coverage(
    connection: sa.Connection, market: Market, spans: Mapping[str, DueSpan], sessions: str, dates: Sequence[date]
) -> Samples:
    columns = symbol_days.c
    sums = (sa.func.coalesce(sa.func.sum(columns[name]), 0).label(name) for name in (*MINUTES, *MISSING, *BARS))
    select = sa.select(*sums).where(columns.market == market.name)
    looked_at = () if sessions == EVERYTHING else (columns.session_date.in_(dates),)
    found = connection.execute(select.where(*looked_at)).one()
    row = found._mapping  # noqa: SLF001  # SQLAlchemy's name for a row by its columns
    label = (market.name, sessions)
    yield one("mp_symbol_days", *label, "due", value=sum(len(span.of(dates)) for span in spans.values()))
    fetched = count_within(connection, market.name, spans, *looked_at)
    yield one("mp_symbol_days", *label, "fetched", value=fetched)
    for name in MINUTES:
        yield one("mp_minutes", *label, name, value=row[name])
    for name in MISSING:
        yield one("mp_missing_minutes", *label, name, value=row[name])
    for name, table in BARS.items():
        yield one("mp_bars", *label, table, value=row[name])
    if row["expected"]:
        yield one("mp_coverage_ratio", *label, value=row["received"] / row["expected"])
    if row["raw_bars"]:
        yield one("mp_quarantined_ratio", *label, value=row["quarantined_bars"] / row["raw_bars"])


def _counted(connection: sa.Connection, config: Config) -> Samples:
    columns = run_counts.c
    keys = (columns.operation, columns.provider, columns.feed, columns.name)
    found = Counter(dict.fromkeys(_counted_from_zero(config), 0.0))
    for row in connection.execute(sa.select(*keys, sa.func.sum(columns.value).label("value")).group_by(*keys)):
        if row.operation == PRUNED:
            kind = "bytes" if row.name.startswith(PRUNED_BYTES) else "rows"
            found[f"mp_data_pruned_{kind}_total", ("parquet", row.name.removeprefix(PRUNED_BYTES))] += row.value
        elif row.operation in COUNTED:
            metric, labels = COUNTED[row.operation]
            found[metric, tuple(row._mapping[label] for label in labels)] += row.value  # noqa: SLF001  # as above
    for (metric, values), value in sorted(found.items()):
        yield one(metric, *values, value=value)


def _counted_from_zero(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What runs of this configuration can count. Prometheus sees no increase in the first value of a series."""
    for provider, feed in feeds(config):
        yield "mp_ingest_rows_total", (provider, feed)
        yield from (("mp_backfill_gaps_found_total", (provider, reason)) for reason in MISSING)
    yield from (("mp_validation_errors_total", ("", "", rule)) for rule in RULES)
    frames = {frame for market in config.markets.values() for frame in market.timeframes}
    yield from (("mp_aggregation_rows_total", ("", "", frame)) for frame in frames)


def _seconds(connection: sa.Connection, config: Config) -> Samples:
    columns = run_seconds.c
    keys = (columns.operation, columns.provider)
    found = {("ingest", market.provider): (0, 0.0) for market in config.markets.values()}
    found |= {("validate", ""): (0, 0.0), ("aggregate", ""): (0, 0.0)}
    for *key, count, seconds in connection.execute(
        sa.select(*keys, sa.func.count(), sa.func.sum(columns.seconds)).group_by(*keys)
    ):
        found[key[0], key[1]] = (count, seconds)
    for labels, value in sorted(found.items()):
        yield Sample("mp_processing_time_seconds", labels, value)


FILLED_WITHIN = (0.5, 1, 2, 5, 10, 30, 60, 120)
"""Upper bounds in seconds."""


def _filled(connection: sa.Connection, config: Config) -> Samples:
    """How long it took from asking for gaps to the bars that filled them."""
    day, last = symbol_days.c, tries.c
    same = (day.market == last.market) & (day.symbol == last.symbol) & (day.session_date == last.session_date)
    filled = sa.and_(day.fetched_at >= last.last_asked_at, day.vendor_gap + day.not_yet_published == 0)
    select = (
        sa.select(day.provider, day.fetched_at, last.last_asked_at).join_from(tries, symbol_days, same).where(filled)
    )
    seconds: dict[str, list[float]] = {market.provider: [] for market in config.markets.values()}
    for provider, fetched_at, asked_at in connection.execute(select):
        seconds.setdefault(provider or "", []).append((fetched_at - asked_at).total_seconds())
    for provider, each in sorted(seconds.items()):
        buckets = [(str(bound), sum(value <= bound for value in each)) for bound in FILLED_WITHIN]
        whole = (*buckets, ("+Inf", len(each)))
        yield Sample("mp_backfill_gap_latency_seconds", (provider,), (whole, sum(each)))


def feeds(config: Config) -> list[tuple[str, str]]:
    """Provider and feed of every block."""
    providers = {name: provider_of(name, block) for name, block in config.providers.items()}
    return [(name, each.feed_asked) for name, each in providers.items()]


def _traffic(connection: sa.Connection, config: Config) -> Samples:
    kinds = {name: block.type for name, block in config.providers.items()}
    asked = {key: _Asked() for key in feeds(config) if issubclass(provider_class(kinds[key[0]]), HttpProvider)}
    for row in connection.execute(sa.select(traffic)):
        asked.setdefault((row.provider, row.feed), _Asked()).add(row)
    waits = Counter[tuple[str, str]]()
    for (provider, feed), each in sorted(asked.items()):
        labels = (kinds.get(provider, provider), provider, feed)
        yield one("mp_requests_total", *labels, value=each.requests)
        for code, count in sorted(each.errors.items()):
            yield one("mp_errors_total", *labels, code, value=count)
        buckets = sorted(each.latency.items(), key=lambda item: float(item[0]))
        yield Sample("mp_request_latency_seconds", labels, (buckets, each.seconds))
        waits.update({(provider, mode): count for mode, count in each.waits.items()})
    for (provider, mode), count in sorted(waits.items()):
        yield one("mp_rate_limiter_waits_total", provider, mode, value=count)


class _Asked:
    """Sums of the rows of one provider and feed, from 0."""

    def __init__(self) -> None:
        self.requests, self.seconds = 0, 0.0
        self.errors = Counter(dict.fromkeys((each.__name__ for each in ProviderError.__subclasses__()), 0))
        self.latency, self.waits = Counter(Traffic().histogram), Counter(dict.fromkeys(map(str, Wait), 0))

    def add(self, row: "sa.Row[Any]") -> None:
        self.requests += row.requests
        self.seconds += row.latency_sum
        self.errors.update(json.loads(row.errors))
        self.latency.update(json.loads(row.latency))
        self.waits.update(json.loads(row.waits))


def run_samples(instance: "dg.DagsterInstance") -> Samples:
    """Runs by state, the queue, and which daemons are alive."""
    import dagster as dg

    for status in dg.DagsterRunStatus:
        count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        yield one("mp_runs", status.value, value=count)
        if status is dg.DagsterRunStatus.QUEUED:
            yield one("mp_backlog_jobs", value=count)
    for daemon, beat in sorted(instance.get_daemon_heartbeats().items()):
        yield one("mp_daemon_heartbeat_timestamp_seconds", daemon, value=beat.timestamp)


def quota_samples(config: Config) -> Samples:
    """What is left of the quota of every provider that has one, whichever process used it."""
    for name, block in config.providers.items():
        provider = provider_of(name, block)
        if isinstance(provider, HttpProvider):
            left = quota_left(Path(provider.quota_file), type(provider).__name__, provider.rates, time.time())
            for rate, requests_left in left.items():
                yield one("mp_quota_left", name, f"{rate.seconds:g}s", value=requests_left)


def lake_samples(lake: Path) -> Samples:
    """Bytes and files by table, and what is free. The files are listed, which takes seconds where they are many."""
    files, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for table in _folders(lake, depth=2):
        key = (table.parent.name, table.name)
        for symbol in _folders(table, depth=1):
            with os.scandir(symbol) as entries:
                found = [entry.stat().st_size for entry in entries if entry.name.endswith(".parquet")]
            files[key] += len(found)
            sizes[key] += sum(found)
    for key in sorted(files):
        yield one("mp_lake_files", *key, value=files[key])
        yield one("mp_lake_bytes", *key, value=sizes[key])
    if lake.is_dir():
        yield one("mp_lake_free_bytes", value=shutil.disk_usage(lake).free)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        yield folder
    elif folder.is_dir():
        for each in folder.iterdir():
            if each.is_dir() and not each.name.startswith("."):
                yield from _folders(each, depth - 1)
