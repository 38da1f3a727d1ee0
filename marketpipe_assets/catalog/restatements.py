"""Symbol-days that a provider gave otherwise later. Their earlier bars lie in the lake."""

from collections.abc import Sequence
from datetime import date

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import restatements


def record_restatements(connection: sa.Connection, market: str, restated: pl.DataFrame) -> None:
    """Write down restatements, columns of the table but `market`. One that is written down again counts once."""
    upsert(connection, restatements, restated.with_columns(pl.lit(market).alias("market")))


def restatements_of(
    catalog: Catalog, market: str, symbols: Sequence[str] | None = None, dates: Sequence[date] | None = None
) -> pl.DataFrame:
    """What was restated, newest first. Dates are a span: from the first to the last of them."""
    columns = restatements.c
    select = sa.select(restatements).where(columns.market == market)
    if symbols is not None:
        select = select.where(columns.symbol.in_(symbols))
    if dates is not None:
        select = select.where(columns.session_date.between(min(dates), max(dates)))
    return catalog.frame(select.order_by(columns.superseded_at.desc(), columns.symbol, columns.session_date))
