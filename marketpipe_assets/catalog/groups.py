"""In which order symbols came into a market whose partitions hold groups of them. The order is only added to."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import group_members


def order_of(catalog: Catalog, market: str, symbols: Sequence[str]) -> list[str]:
    """Every symbol in its place: those that are kept there, retired ones among them, then the new ones by name.

    Only reads, and only what is there: a code location loads before there is a catalogue. Processes with the same
    configuration agree, whether or not one of them has kept the order yet.
    """
    kept = _kept(catalog, market)
    known = frozenset(kept)
    return [*kept, *sorted(symbol for symbol in symbols if symbol not in known)]


def keep_order(catalog: Catalog, market: str, order: Sequence[str], size: int) -> None:
    """Keep the places of those that have none yet, in groups of `size`; raises `ValueError` where one is taken.

    It is taken where another process kept other symbols meanwhile, from another configuration.
    """
    places = [(symbol, place, place // size) for place, symbol in enumerate(order)]
    with catalog.begin() as connection:
        kept = [(row.symbol, row.position, row.group_number) for row in connection.execute(_in_order(market))]
        if [symbol for symbol, *_ in kept] != list(order[: len(kept)]):
            raise ValueError(
                f"expected groups of {market} that begin with {', '.join(symbol for symbol, *_ in kept)}, was "
                f"{', '.join(order[: len(kept)])}: another process added symbols meanwhile; load the configuration "
                "again"
            )
        if kept != places:
            schema = {"symbol": pl.String(), "position": pl.Int64(), "group_number": pl.Int64()}
            rows = pl.DataFrame(places, schema=schema, orient="row")
            upsert(connection, group_members, rows.with_columns(pl.lit(market).alias("market")))


def _kept(catalog: Catalog, market: str) -> Sequence[str]:
    if catalog.is_sqlite and not Path(catalog.url.database or "").exists():
        return ()
    with catalog.engine.connect() as connection:
        if not sa.inspect(connection).has_table(group_members.name):
            return ()
        return [row.symbol for row in connection.execute(_in_order(market))]


def _in_order(market: str) -> sa.Select[tuple[str, int, int]]:
    columns = group_members.c
    return (
        sa.select(columns.symbol, columns.position, columns.group_number)
        .where(columns.market == market)
        .order_by(columns.position)
    )
