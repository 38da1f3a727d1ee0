"""The tables of the catalogue. How they came to be is in migrations/, which a test holds to the same."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, stored without a zone: SQLite has none."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002  # theirs
        return value if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002  # theirs
        return value if value is None else value.replace(tzinfo=UTC)


metadata = sa.MetaData()

MARKET, SYMBOL, RUN = sa.String(64), sa.String(32), sa.String(64)

MISSING = ("no_trade", "halt", "vendor_gap", "not_yet_published", "not_listed")
"""Columns of minutes that are missing, by reason; they add up to `missing`."""

ASKABLE = ("vendor_gap", "not_yet_published")
"""Reasons of holes that asking again may fill."""


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, nullable=False)


symbol_days = sa.Table(
    "symbol_days",
    metadata,
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("session_date", sa.Date, primary_key=True),
    sa.Column("symbol", SYMBOL, primary_key=True),
    sa.Column("provider", sa.String(64)),
    sa.Column("feed", sa.String(64)),
    *map(_count, ("expected", "received", "valid", "quarantined", "missing")),
    *map(_count, MISSING),
    *map(_count, ("raw_bars", "valid_bars", "quarantined_bars")),
    sa.Column("holes", sa.Text),
    sa.Column("content_hash", sa.String(16)),
    sa.Column("run_id", RUN),
    sa.Column("fetched_at", Instant),
    sa.Column("settled_at", Instant),
    sqlite_with_rowid=False,
)
"""The coverage ledger: one row per symbol-day that was fetched. Minutes are those of the regular session.

`fetched_at` is since when the content stands; `settled_at` when an answer that came too early had been published, if a
later one was the same.
"""

by_symbol = sa.Index(
    "symbol_days_by_symbol",
    symbol_days.c.market,
    symbol_days.c.symbol,
    symbol_days.c.session_date,
    symbol_days.c.received,
)
"""Finds a symbol's history, and its first bar, without reading the others'."""

HAS_GAPS = symbol_days.c.vendor_gap + symbol_days.c.not_yet_published > sa.literal_column("0")
"""Written as the index has it, so that a query with it is answered by the index."""

with_gaps = sa.Index(
    "symbol_days_with_gaps",
    symbol_days.c.market,
    symbol_days.c.session_date,
    symbol_days.c.symbol,
    sqlite_where=HAS_GAPS,
    postgresql_where=HAS_GAPS,
)
"""Finds what to ask for again without reading what is complete."""


def askable_in(market: str) -> "tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]":
    """Rows of a market whose provider may have more.

    SQLite has no statistics and would read the whole market; with `+ ""` it can only take the index.
    """
    return HAS_GAPS, symbol_days.c.market + "" == market


with_holes = sa.Index(
    "symbol_days_with_holes",
    symbol_days.c.market,
    symbol_days.c.session_date,
    sqlite_where=symbol_days.c.missing > 0,
    postgresql_where=symbol_days.c.missing > 0,
)
"""Finds the rows whose reasons another symbol's bars may change."""

without_bars = sa.Index(
    "symbol_days_without_bars",
    symbol_days.c.market,
    symbol_days.c.symbol,
    symbol_days.c.session_date,
    sqlite_where=symbol_days.c.received == 0,
    postgresql_where=symbol_days.c.received == 0,
)
"""Finds sessions of which nothing was received: whether a symbol was listed then depends on its first bar."""

asked = sa.Table(
    "asked",
    metadata,
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("symbol", SYMBOL, primary_key=True),
    sa.Column("session_date", sa.Date, primary_key=True),
    _count("tries"),
    sa.Column("last_asked_at", Instant, nullable=False),
    sa.Column("outcome", sa.Text),
)
"""How often a hole was asked for again, so that one a provider keeps not filling is asked for ever less."""

intents = sa.Table(
    "intents",
    metadata,
    sa.Column("run_id", RUN, primary_key=True),
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("symbols", sa.Text, nullable=False),
    sa.Column("dates", sa.Text, nullable=False),
    sa.Column("begun_at", Instant, nullable=False),
)
"""What a run is about to write, as JSON lists; gone once the ledger says what it wrote."""

restatements = sa.Table(
    "restatements",
    metadata,
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("symbol", SYMBOL, primary_key=True),
    sa.Column("session_date", sa.Date, primary_key=True),
    sa.Column("superseded_at", Instant, primary_key=True),
    sa.Column("fetched_at", Instant),
    sa.Column("run_id", RUN),
    *map(_count, ("bars_before", "bars_after", "changed", "added", "removed")),
    sa.Column("largest_change", sa.Float),
)
"""Symbol-days a provider gave otherwise later: `fetched_at` is the earlier version's, `largest_change` of a close."""

run_counts = sa.Table(
    "run_counts",
    metadata,
    sa.Column("run_id", RUN, primary_key=True),
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("operation", sa.String(32), primary_key=True),
    sa.Column("provider", sa.String(64), primary_key=True),
    sa.Column("feed", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("at", Instant, nullable=False, index=True),
)
"""What a run committed: rows ingested, bars by broken rule, longer bars by timeframe, missing minutes by reason."""

run_seconds = sa.Table(
    "run_seconds",
    metadata,
    sa.Column("run_id", RUN, primary_key=True),
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("operation", sa.String(32), primary_key=True),
    sa.Column("provider", sa.String(64), primary_key=True),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("at", Instant, nullable=False, index=True),
)
"""How long a run's operations took."""

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("run_id", RUN, primary_key=True),
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("provider", sa.String(64), primary_key=True),
    sa.Column("feed", sa.String(64), primary_key=True),
    _count("requests"),
    sa.Column("errors", sa.Text, nullable=False),
    sa.Column("latency", sa.Text, nullable=False),
    sa.Column("latency_sum", sa.Float, nullable=False),
    sa.Column("waits", sa.Text, nullable=False),
    sa.Column("waited", sa.Float, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False, index=True),
)
"""What providers were asked and answered, per run; `errors`, `latency` and `waits` are JSON objects of counts."""

group_members = sa.Table(
    "group_members",
    metadata,
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("symbol", SYMBOL, primary_key=True),
    _count("group_number"),
    _count("position"),
)
"""Which group of symbols a partition holds. Rows are only added: a symbol never changes its group."""

pruned = sa.Table(
    "pruned",
    metadata,
    sa.Column("market", MARKET, primary_key=True),
    sa.Column("table_name", sa.String(64), primary_key=True),
    sa.Column("symbol", SYMBOL, primary_key=True),
    sa.Column("period", sa.String(16), primary_key=True),
    sa.Column("through", sa.Date, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("run_id", RUN),
)
"""What retention removed, up to and including the session `through`."""

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("sent_at", Instant, nullable=False),
    _count("times"),
)
"""When an alert was last sent, so that one trouble is told once."""

INSTANT = pl.Datetime("us", "UTC")

DAY_TEXT, INSTANT_TEXT = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.6f"
"""How SQLAlchemy writes days and instants into SQLite, one value at a time; frames are converted whole."""

DTYPES: Mapping[type, pl.DataType] = {
    Instant: INSTANT,
    sa.Date: pl.Date(),
    sa.BigInteger: pl.Int64(),
    sa.Integer: pl.Int64(),
    sa.Float: pl.Float64(),
    sa.String: pl.String(),
    sa.Text: pl.String(),
}
"""Type of a column → type in a frame."""


def schema_of(select: "sa.Select[Any]") -> Mapping[str, pl.DataType]:
    """Names and types of a select's columns, as a frame has them."""
    return {name: DTYPES[type(column.type)] for name, column in select.selected_columns.items()}
