"""The files of a SQLite event log: connections to them, and the tables of a new one."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sql import get_alembic_config
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, create_engine
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""As alembic makes it."""

Identity = tuple[int, int]


class _Kept(NamedTuple):
    connection: Connection
    run_id: str
    files: tuple[Identity | None, Identity | None]


class Files:
    """Connections to the files of one log.

    One engine opens them all, since an engine keeps the statements it has compiled. One connection is kept, to the
    index (`main`) and to the file of the run that is being stored (`run`): opening it and closing it, which moves what
    SQLite's WAL files hold into the files, takes longer than storing an event. Who uses it holds the storage's lock
    and leaves no transaction open. It is let go when the run ends or another one is stored, after an error, when one
    of its files has been removed, and before this process forks: SQLite's locks do not survive that.
    """

    def __init__(self, path_of: Callable[[str], str]) -> None:
        self._path_of = path_of
        self._opened = threading.local()
        self._kept: _Kept | None = None
        self.engine = create_engine("sqlite://", creator=self._open, poolclass=NullPool)

    @contextmanager
    def opening(self, shard: str) -> Iterator[None]:
        """Within this, what the engine connects to in this thread is the file of the shard."""
        before = getattr(self._opened, "path", None)
        self._opened.path = self._path_of(shard)
        try:
            yield
        finally:
            self._opened.path = before

    @contextmanager
    def connection(self, shard: str) -> Iterator[Connection]:
        """To the file of a shard; a new one unless it is the index and one to it is kept."""
        kept = self._current()
        if kept and shard == INDEX_SHARD_NAME:
            yield kept.connection
        else:
            with self._connected(shard) as connection:
                yield connection

    @contextmanager
    def of_run(self, run_id: str) -> Iterator[Connection]:
        """The kept connection. What is not committed when this ends is rolled back."""
        kept = self._current()
        if kept is None or kept.run_id != run_id:
            self.close()
            kept = self._kept = self._attached(run_id)
        try:
            yield kept.connection
            kept.connection.rollback()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept:
            kept.connection.close()

    def has_table(self, name: str) -> bool:
        """In the index. Needs no lock, for which Dagster does not ask here."""
        with self._connected(INDEX_SHARD_NAME) as connection:
            return bool(connection.dialect.has_table(connection, name))

    def _current(self) -> _Kept | None:
        if self._kept and self._kept.files != self._identities(self._kept.run_id):
            self.close()
        return self._kept

    def _attached(self, run_id: str) -> _Kept:
        connection = self._connected(INDEX_SHARD_NAME)
        try:
            connection.exec_driver_sql("ATTACH DATABASE ? AS run", (self._path_of(run_id),))
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return _Kept(connection, run_id, self._identities(run_id))

    def _identities(self, run_id: str) -> tuple[Identity | None, Identity | None]:
        return _identity(self._path_of(INDEX_SHARD_NAME)), _identity(self._path_of(run_id))

    def _connected(self, shard: str) -> Connection:
        with self.opening(shard):
            return self.engine.connect()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._opened.path, timeout=SQLITE_BUSY_TIMEOUT_SECONDS, check_same_thread=False)


def has_tables(connection: Connection) -> bool:
    """Whether the file has them, with the revision of them. Makes them in a file that holds nothing at all.

    A file in between belongs to another process that makes its tables, or is from an old Dagster.
    """
    names = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
    if names:
        return VERSION.name in names and bool(connection.execute(VERSION.select()).first())
    database = cast("sqlite3.Connection", connection.connection.driver_connection)
    try:
        database.executescript(_script())
    except sqlite3.OperationalError:
        database.rollback()
        return False
    return True


@cache
def _script() -> str:
    """Makes the tables of an event log, as `_initdb` of Dagster's storage does in a hundred times the time."""
    made = list[CreateTable | CreateIndex]()
    for table in (*SqlEventLogStorageMetadata.sorted_tables, VERSION):
        made += [CreateTable(table), *map(CreateIndex, table.indexes)]
    head = ScriptDirectory.from_config(get_alembic_config(sqlite_event_log.__file__)).as_revision_number("head")
    stamp = f"INSERT INTO {VERSION.name} VALUES ('{head}')"  # noqa: S608 - ours
    compiled = [str(each.compile(dialect=dialect())) for each in made]
    return ";\n".join(["PRAGMA journal_mode=WAL", "BEGIN IMMEDIATE", *compiled, stamp, "COMMIT;"])


def _identity(path: str) -> Identity | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
