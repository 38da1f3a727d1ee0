"""Dagster's SQLite event log, with a batch of events written in one transaction over the index and the run's file."""

import atexit
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import WeakSet

import dagster as dg
from dagster._config import Field, StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, DateTime, Table
from sqlalchemy.exc import DBAPIError

from marketpipe_assets.event_storage.batches import COLUMNS, Batches, Open, numbered, tested_or_stock
from marketpipe_assets.event_storage.files import Files, has_tables
from marketpipe_assets.event_storage.rows import rows_of

LAST_OF_A_RUN = frozenset(
    {dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
)

NEXT_ID = "SELECT coalesce(max(id), 0) + 1 FROM main.event_logs"
HELD = "SELECT 1 FROM main.event_logs WHERE id = ? AND event = ?"
COPIED = ", ".join(COLUMNS[1:])
COPY = f"INSERT INTO run.event_logs ({COPIED}) SELECT {COPIED} FROM main.event_logs AS indexed"  # noqa: S608 - ours
FROM_ID = " WHERE id >= ? ORDER BY id"
MISSING = """
WHERE indexed.run_id = ? AND NOT EXISTS (
    SELECT 1 FROM run.event_logs AS held
    WHERE held.asset_key IS indexed.asset_key
    AND held.dagster_event_type IS indexed.dagster_event_type
    AND held.partition IS indexed.partition
    AND held.event = indexed.event
)
ORDER BY id
"""

log = logging.getLogger(__name__)


class BatchedSqliteEventLogStorage(Batches, SqliteEventLogStorage):
    """Dagster's `SqliteEventLogStorage`, with the same files and tables, for `event_log_storage` in dagster.yaml.

    `base_dir` is by default where Dagster has it, `$DAGSTER_HOME/history/runs`, and temporary without a home.
    An event that both the index and the run's file hold is never in the file alone. Two files in WAL mode do not commit
    as one: the index does so first, and what a process that dies in between leaves out of the run's file is copied when
    the run ends, by itself or through run monitoring.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._open = Open()
        self._behind: set[str] = set()
        self._files = Files(self.path_for_shard)
        super().__init__(base_dir, inst_data)  # connects to the index
        _STORAGES.add(self)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster's own class where this one was not tested
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> SqliteEventLogStorage:
        base_dir = config_value.get("base_dir") or _default_folder()
        return tested_or_stock(lambda: cls(base_dir, inst_data), lambda: SqliteEventLogStorage(base_dir, inst_data))

    def _store(self, events: Sequence[dg.EventLogEntry]) -> None:
        run_id = events[0].run_id
        rows = rows_of(self, events)
        ended = any(event.dagster_event_type in LAST_OF_A_RUN for event in events)
        with self._transaction(run_id) as connection:
            if ended or run_id in self._behind:
                connection.exec_driver_sql(COPY + MISSING, (run_id,))
            first = int(connection.exec_driver_sql(NEXT_ID).scalar_one())
            ids = range(first, first + len(rows))
            self._insert(connection, SqlEventLogStorageTable, COLUMNS, numbered(ids, rows))
            connection.exec_driver_sql(COPY + FROM_ID, (first,))
            self._store_beside(connection, events, rows, ids)
            self._commit(connection, run_id, (ids[-1], rows[-1]["event"]))
        if ended or run_id in self._behind:
            self._let_go()

    def _store_aside(self, event: dg.EventLogEntry) -> None:
        row = self._event_to_row(event)
        with self._of_run(event.run_id) as connection:
            self._insert(connection, SqlEventLogStorageTable, COLUMNS[1:], [[row[name] for name in COLUMNS[1:]]], "run")
            connection.commit()

    def _insert(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        database: str = "main",
    ) -> None:
        [moment] = [place for place, name in enumerate(columns) if isinstance(table.c[name].type, DateTime)]
        values = [(*row[:moment], _moment(row[moment]), *row[moment + 1 :]) for row in rows]
        into, places = f"{database}.{table.name} ({', '.join(columns)})", ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({places})", values)  # noqa: S608 - names of Dagster's

    def _commit(self, connection: Connection, run_id: str, last: tuple[int, str]) -> None:
        try:
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            connection.rollback()
            if connection.exec_driver_sql(HELD, last).first() is None:
                raise
            # Raising would make Dagster store the batch again, beside what the index has committed.
            self._behind.add(run_id)
            log.warning("The log of run %s lacks events until its next one is stored: %s", run_id, error.orig)
        else:
            self._behind.discard(run_id)

    @contextmanager
    def _transaction(self, run_id: str) -> Iterator[Connection]:
        """Holds the write locks of the index (`main`) and of the run's file (`run`). Rolls back unless committed."""
        with self._of_run(run_id) as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._open.connection = connection
            try:
                yield connection
            finally:
                self._open.connection = None

    @contextmanager
    def _of_run(self, run_id: str) -> Iterator[Connection]:
        with self._db_lock:
            self._make_tables(INDEX_SHARD_NAME)
            self._make_tables(run_id)
            with self._files.of_run(run_id) as connection:
                yield connection
            with suppress(OSError):  # who follows the run watches this file, and not that of the WAL
                os.utime(self.path_for_shard(run_id))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            self._make_tables(shard)
            with self._files.connection(shard) as connection, connection.begin():
                yield connection

    def _make_tables(self, shard: str) -> None:
        if shard in self._initialized_dbs and Path(self.path_for_shard(shard)).exists():
            return
        with self._files.connection(shard) as connection:
            made = has_tables(connection)
            connection.rollback()
        if not made:
            with self._files.opening(shard):
                self._initdb(self._files.engine)
        self._initialized_dbs.add(shard)

    def has_table(self, table_name: str) -> bool:
        if self._open.connection:
            return bool(self._open.connection.dialect.has_table(self._open.connection, table_name))
        return self._files.has_table(table_name)

    def wipe(self) -> None:
        self._let_go()
        super().wipe()

    def dispose(self) -> None:
        self._let_go()
        super().dispose()

    def _let_go(self) -> None:
        with self._db_lock:
            self._files.close()


def _let_all_go() -> None:
    """Those that no thread is using."""
    for storage in list(_STORAGES):
        if storage._db_lock.acquire(blocking=False):  # noqa: SLF001 - of this module
            try:
                storage._files.close()  # noqa: SLF001 - the same
            finally:
                storage._db_lock.release()  # noqa: SLF001 - the same


_STORAGES = WeakSet[BatchedSqliteEventLogStorage]()
os.register_at_fork(before=_let_all_go)


def _moment(at: datetime) -> str:
    """As SQLAlchemy stores it in SQLite."""
    return at.isoformat(" ", "microseconds")


TEMPORARY = "MARKETPIPE_TEMPORARY_EVENTS"
"""The variable that tells the processes of a temporary instance where its events are."""


def _default_folder() -> str:
    home = os.environ.get("DAGSTER_HOME")
    return str(Path(home).expanduser() / "history" / "runs") if home else _temporary_folder()


def _temporary_folder() -> str:
    """Of an instance that Dagster makes for one command and does not say where; it goes with the process."""
    if TEMPORARY not in os.environ:
        os.environ[TEMPORARY] = mkdtemp(prefix="marketpipe-events-")
        atexit.register(rmtree, os.environ[TEMPORARY], ignore_errors=True)
    return os.environ[TEMPORARY]
