"""Dagster's Postgres event log, with a batch of events written in one transaction by COPY."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from marketpipe_assets.event_storage.batches import COLUMNS, Batches, Open, numbered, tested_or_stock
from marketpipe_assets.event_storage.rows import rows_of

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock('event_logs'::regclass::oid::bigint)"
IDS = "SELECT nextval(pg_get_serial_sequence('event_logs', 'id')) FROM generate_series(1, %s)"
NUMBER = "SELECT txid_current()"
STATUS = "SELECT txid_status(%s)"
LOOKS, BETWEEN_LOOKS = 50, 0.2  # seconds


class BatchedPostgresEventLogStorage(Batches, PostgresEventLogStorage):
    """Dagster's `PostgresEventLogStorage`, with the same tables and settings, for `event_log_storage` in dagster.yaml.

    Those who read events across runs ask for ids above the last one they saw, so that an id must not become visible
    after a larger one. A batch takes long enough for that to happen: its writers wait for one another. A transaction
    whose COMMIT got no answer is looked up by its number, once the server can be reached again, since raising would
    make Dagster store its events once more. Where the server is away for longer than Dagster tries to connect, which
    is 6 seconds, the run fails.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._open = Open()
        super().__init__(*arguments, **named)

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster's own class where this one was not tested
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PostgresEventLogStorage:
        """This storage, or Dagster's own on the same tables where this Dagster was not tested."""
        settings = {
            "inst_data": inst_data,
            "postgres_url": pg_url_from_config(config_value),
            "should_autocreate_tables": config_value.get("should_autocreate_tables", True),
            "token_provider": get_token_provider_from_config(config_value),
        }
        return tested_or_stock(lambda: cls(**settings), lambda: PostgresEventLogStorage(**settings))

    def _store(self, events: Sequence[dg.EventLogEntry]) -> None:
        rows = rows_of(self, events)
        with self._transaction() as connection:
            connection.exec_driver_sql(ONE_AT_A_TIME)
            ids = [int(number) for (number,) in connection.exec_driver_sql(IDS, (len(rows),))]
            self._insert(connection, SqlEventLogStorageTable, COLUMNS, numbered(ids, rows))
            self._store_beside(connection, events, rows, ids)
            self._commit(connection)

    def _insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """In COPY's text form: a row a line, columns apart by tabs."""
        copy = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
        lines = "".join(["\t".join(map(_field, row)) + "\n" for row in rows])
        failure = connection.dialect.loaded_dbapi.Error
        try:
            connection.connection.cursor().copy_expert(copy, StringIO(lines))
        except failure as error:
            raise DBAPIError.instance(copy, None, error, failure) from error

    def _commit(self, connection: Connection) -> None:
        number = int(connection.exec_driver_sql(NUMBER).scalar_one())
        try:
            connection.commit()
        except DBAPIError:
            if not self._is_committed(number):
                raise

    def _is_committed(self, number: int) -> bool:
        for _ in range(LOOKS):
            with self._connect() as connection:
                status = connection.exec_driver_sql(STATUS, (number,)).scalar_one()
            if status != "in progress":
                return bool(status == "committed")
            time.sleep(BETWEEN_LOOKS)
        raise TimeoutError(f"expected transaction {number} to end, was in progress for {LOOKS * BETWEEN_LOOKS:.0f} s")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Rolls back unless committed."""
        with self._connect() as connection:
            self._open.connection = connection.execution_options(isolation_level="READ COMMITTED")
            try:
                yield connection
            finally:
                self._open.connection = None


def _field(value: object) -> str:
    if value is None:
        return r"\N"
    return str(value).replace("\\", "\\\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
