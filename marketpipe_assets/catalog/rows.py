"""Frames into tables, many rows at once."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

INSERTS: Mapping[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Dialect → its INSERT, which can take the place of a row with the same key."""


def upsert(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """Put rows into a table, each in the place of the one with its key. Columns that `rows` lacks keep their values."""
    if rows.is_empty():
        return
    insert = INSERTS[connection.dialect.name](table)
    replaced = {name: insert.excluded[name] for name in rows.columns if name not in table.primary_key.columns}
    statement = insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=replaced)
    connection.execute(statement, rows.to_dicts())
