"""Frames into tables, many rows at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from marketpipe_assets.catalog.tables import DAY_TEXT, INSTANT_TEXT

INSERTS: Mapping[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Dialect → its INSERT, which can take the place of a row with the same key."""


def upsert(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """Put rows into a table, each in the place of the one with its key. Columns that `rows` lacks keep their values."""
    if rows.is_empty():
        return
    naive = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime) and dtype.time_zone is None]
    if naive:
        raise TypeError(f"expected instants with a time zone, was {', '.join(naive)} without one")
    insert = INSERTS[connection.dialect.name](table)
    replaced = {name: insert.excluded[name] for name in rows.columns if name not in table.primary_key.columns}
    statement = insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=replaced)
    if connection.dialect.name == "sqlite":
        compiled = statement.compile(dialect=connection.dialect, column_keys=rows.columns)
        connection.exec_driver_sql(str(compiled), rows.select(_as_stored(rows, compiled.positiontup)).rows())
    else:
        connection.execute(statement, rows.to_dicts())


def _as_stored(rows: pl.DataFrame, order: Sequence[str]) -> Iterator[pl.Expr]:
    """Columns in this order, as SQLite has them."""
    for name in order:
        match rows.schema[name]:
            case pl.Date():
                yield pl.col(name).dt.to_string(DAY_TEXT)
            case pl.Datetime():
                yield pl.col(name).dt.convert_time_zone("UTC").dt.to_string(INSTANT_TEXT)
            case _:
                yield pl.col(name)
