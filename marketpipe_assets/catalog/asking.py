"""What is worth asking a provider for: what the ledger lacks, and how often it was asked for already."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import askable_in, asked, pruned, symbol_days


class Held(NamedTuple):
    """Symbols that the ledger has a row of, on one session."""

    session_date: date
    symbols: str

    def names(self) -> list[str]:
        return self.symbols.split(",")  # a symbol has no comma


def held(catalog: Catalog, market: str, first: date, end: date) -> Iterator[Held]:
    """The ledger's symbols by session in `[first, end)`. A million rows come as some thousand texts."""
    columns = symbol_days.c
    select = (
        sa.select(columns.session_date, sa.func.aggregate_strings(columns.symbol, ","))
        .where(columns.market == market, columns.session_date >= first, columns.session_date < end)
        .group_by(columns.session_date)
    )
    with catalog.reading() as connection:
        for day, symbols in connection.execute(select):
            yield Held(day, symbols)


def askable(catalog: Catalog, market: str, first: date, end: date) -> pl.DataFrame:
    """Symbol-days whose provider may have more: `symbol`, `session_date`, `vendor_gap`, `not_yet_published` (minutes),
    `fetched_at`."""
    columns = symbol_days.c
    select = sa.select(
        columns.symbol, columns.session_date, columns.vendor_gap, columns.not_yet_published, columns.fetched_at
    ).where(*askable_in(market), columns.session_date >= first, columns.session_date < end)
    return catalog.frame(select)


def asked_before(catalog: Catalog, market: str) -> pl.DataFrame:
    """`symbol`, `session_date`, `tries`, `last_asked_at`."""
    columns = asked.c
    return catalog.frame(
        sa.select(columns.symbol, columns.session_date, columns.tries, columns.last_asked_at).where(
            columns.market == market
        )
    )


def note_asked(connection: sa.Connection, market: str, days: pl.DataFrame, at: datetime) -> None:
    """Count one more try of each of these symbol-days (`symbol`, `session_date`, `tries` so far, `why`)."""
    rows = days.select(
        pl.lit(market).alias("market"),
        "symbol",
        "session_date",
        (pl.col("tries") + 1).alias("tries"),
        pl.lit(at).alias("last_asked_at"),
        pl.col("why").alias("outcome"),
    )
    upsert(connection, asked, rows)


def pruned_through(catalog: Catalog, market: str, tables: Sequence[str]) -> Mapping[str, date]:
    """Symbol → the last session of which retention removed bars of one of these tables."""
    columns = pruned.c
    select = (
        sa.select(columns.symbol, sa.func.max(columns.through).label("through"))
        .where(columns.market == market, columns.table_name.in_(tables))
        .group_by(columns.symbol)
    )
    with catalog.reading() as connection:
        return {row.symbol: row.through for row in connection.execute(select)}
