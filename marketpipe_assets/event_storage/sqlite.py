"""Dagster's SQLite event log, with a batch of events written in one transaction over the index and the run's file."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._config import Field, StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from marketpipe_assets.event_storage.batches import Batches, Open, tested_or_stock
from marketpipe_assets.event_storage.rows import rows_of

LAST_OF_A_RUN = frozenset(
    {dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
)

COLUMNS = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
NEXT_ID = "SELECT coalesce(max(id), 0) + 1 FROM main.event_logs"
HELD = "SELECT 1 FROM main.event_logs WHERE id = ? AND event = ?"
COPY = f"INSERT INTO run.event_logs ({COLUMNS}) SELECT {COLUMNS} FROM main.event_logs AS indexed"  # noqa: S608 - ours
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

    `base_dir` is by default where Dagster has it, `$DAGSTER_HOME/history/runs`. An event that both the index and the
    run's file hold is never in the file alone. Two files in WAL mode do not commit as one: the index does so first,
    and what a process that dies in between leaves out of the run's file is copied when the run ends, by itself or
    through run monitoring.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._open = Open()
        self._behind: set[str] = set()
        super().__init__(base_dir, inst_data)  # connects to the index

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
        with self._transaction(run_id) as connection:
            if run_id in self._behind or any(event.dagster_event_type in LAST_OF_A_RUN for event in events):
                connection.exec_driver_sql(COPY + MISSING, (run_id,))
            first = int(connection.exec_driver_sql(NEXT_ID).scalar_one())
            ids = range(first, first + len(rows))
            numbered = [{"id": number, **row} for number, row in zip(ids, rows, strict=True)]
            connection.execute(SqlEventLogStorageTable.insert(), numbered)
            connection.exec_driver_sql(COPY + FROM_ID, (first,))
            self._store_beside(connection, events, rows, ids)
            self._commit(connection, run_id, (ids[-1], rows[-1]["event"]))

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
        self._create_tables(run_id)
        with self._db_lock, self._index.connect() as connection:
            connection.exec_driver_sql("ATTACH DATABASE ? AS run", (self.path_for_shard(run_id),))
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._open.connection = connection
            try:
                yield connection
            finally:
                self._open.connection = None

    def _create_tables(self, run_id: str) -> None:
        for shard in (INDEX_SHARD_NAME, run_id):
            if shard not in self._initialized_dbs:
                with self._connect(shard):
                    pass

    @cached_property
    def _index(self) -> Engine:
        """Kept, since making one takes longer than connecting. Its connections leave BEGIN and COMMIT to us."""
        return create_engine(
            self.conn_string_for_shard(INDEX_SHARD_NAME),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )


def _default_folder() -> str:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ValueError("expected base_dir below event_log_storage.config or DAGSTER_HOME, was neither")
    return str(Path(home).expanduser() / "history" / "runs")
