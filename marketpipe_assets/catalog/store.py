"""The database itself: connect, migrate, read as frames. What stands in it is said by tables.py."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl
import sqlalchemy as sa
from filelock import FileLock

from marketpipe_assets.catalog.tables import DAY_TEXT, INSTANT_TEXT, schema_of

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_SECONDS = 30
MIGRATION_LOCK = 7_275_811  # any number, the same for all: Postgres' advisory lock of a migration


class CatalogError(Exception):
    """The database cannot be used as it is; the message says what to do."""


class Catalog:
    """A database of symbol-days: SQLite or Postgres. To make one costs nothing; it connects and migrates when used."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self._lock = Lock()
        self._ready = False

    def __repr__(self) -> str:
        return f"Catalog({self.url.render_as_string(hide_password=True)})"

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @cached_property
    def engine(self) -> sa.Engine:
        """Connections to the database as it is, migrated or not."""
        if not self.is_sqlite:
            return sa.create_engine(self.url, pool_pre_ping=True)
        Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction, committed when the context ends and rolled back where it raises."""
        self.migrate()
        with self.engine.execution_options(writes=True).begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: it waits for nobody, and sees one state of the database."""
        self.migrate()
        with self.engine.connect() as connection:
            yield connection

    def frame(self, select: "sa.Select[Any]") -> pl.DataFrame:
        """The rows of a select, with the columns' types."""
        with self.reading() as connection:
            return frame_of(connection, select)

    def migrate(self) -> None:
        """Bring the database to the present tables. Two processes that meet here wait for one another."""
        with self._lock:
            if self._ready:
                return
            if self.revision() != head():
                with self._alone():
                    _upgrade(self.engine)
            self._ready = True

    def revision(self) -> str | None:
        """The migration the database is at; None for one that is new."""
        with self.engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return found

    def dispose(self) -> None:
        """Close the connections that are kept."""
        self.engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._file_lock() if self.is_sqlite else self._advisory_lock():
            yield

    def _file_lock(self) -> AbstractContextManager[Any]:
        if self.url.database in (None, "", ":memory:"):
            return nullcontext()
        return FileLock(f"{self.url.database}.lock")

    @contextmanager
    def _advisory_lock(self) -> Iterator[None]:
        with self.engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(MIGRATION_LOCK)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(MIGRATION_LOCK)))


def frame_of(connection: sa.Connection, select: "sa.Select[Any]") -> pl.DataFrame:
    """The rows of a select within a transaction, with the columns' types."""
    schema = dict(schema_of(select))
    result = connection.execute(select)
    if connection.dialect.name != "sqlite":
        return pl.DataFrame([tuple(row) for row in result], schema=schema, orient="row")
    rows = result.cursor.fetchall()  # as SQLite has them: SQLAlchemy would convert days and instants one at a time
    stored = {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    return pl.DataFrame(rows, schema=stored, orient="row").with_columns(_read(name, schema[name]) for name in schema)


def _read(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of SQLite's in its type; text where it is a day or an instant."""
    match dtype:
        case pl.Date():
            return pl.col(name).str.to_date(DAY_TEXT)
        case pl.Datetime():
            return pl.col(name).str.to_datetime(INSTANT_TEXT, time_unit="us").dt.replace_time_zone("UTC")
        case _:
            return pl.col(name)


def head() -> str:
    """The newest migration: their files are named in order. To ask Alembic would take a tenth of a second."""
    return max(file.name.split("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _upgrade(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    with engine.execution_options(writes=True).begin() as connection:
        settings.attributes["connection"] = connection
        try:
            command.upgrade(settings, "head")
        except CommandError as error:
            raise CatalogError(
                f"expected a catalogue of this version or an earlier one at {engine.url!r}, was another: {error}"
            ) from error


def _configure_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late for DDL; ours is below
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # with WAL a power cut may lose the last commit, never the file


def _begin_sqlite(connection: sa.Connection) -> None:
    # a reader that turns writer would be refused instead of waiting
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
