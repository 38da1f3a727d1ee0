"""What batches of events have in common in every database. How a transaction is made is each storage's own."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import dagster as dg
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.storage.event_log import SqlEventLogStorage
from sqlalchemy import Connection

from marketpipe_assets.event_storage.rows import Row
from marketpipe_assets.event_storage.versions import is_tested

BATCH_SIZE = "1000"  # events: larger batches are no cheaper, and other writers wait for this one
INDEXED = frozenset({*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
TAGGED = frozenset({dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION})

Storage = TypeVar("Storage", bound=SqlEventLogStorage)


class Open(threading.local):
    """The connection of this thread's transaction, while there is one."""

    connection: Connection | None = None


class Batches(SqlEventLogStorage):
    """Stands before a storage of Dagster's in the order of a class's bases; `_store` is that class's own."""

    _open: Open

    def store_event(self, event: dg.EventLogEntry) -> None:
        if is_indexed(event):
            self._store([event])
        else:
            self._store_aside(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """All of the events or, where this raises, none. Events of several runs are stored one by one."""
        if len({event.run_id for event in events}) == 1 and all(map(is_indexed, events)):
            self._store(events)
        else:
            for event in events:
                self.store_event(event)

    def index_connection(self) -> AbstractContextManager[Connection]:
        """Within a transaction of this thread its connection, so that what Dagster writes of a check is part of it."""
        if self._open.connection:
            return nullcontext(self._open.connection)
        return super().index_connection()  # type: ignore[safe-super]  # that of the next base

    def _store(self, events: Sequence[dg.EventLogEntry]) -> None:
        raise NotImplementedError

    def _store_aside(self, event: dg.EventLogEntry) -> None:
        """An event that is asked for in its run only."""
        super().store_event(event)

    def _store_beside(
        self, connection: Connection, events: Sequence[dg.EventLogEntry], rows: Sequence[Row], ids: Sequence[int]
    ) -> None:
        """What is written of events beside their rows: tags, the last event of each asset, evaluations of checks."""
        tagged = [(each, number) for each, number in zip(events, ids, strict=True) if each.dagster_event_type in TAGGED]
        if tagged:
            self._store_asset_event_tags(connection, *map(list, zip(*tagged, strict=True)))
        for place in _last_of_each_asset(rows):
            self._store_asset_event(connection, events[place], ids[place])
        for event, number in zip(events, ids, strict=True):
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, number)


def tested_or_stock(ours: Callable[[], Storage], stock: Callable[[], Storage]) -> Storage:
    """Ours, or Dagster's own where this Dagster was not tested.

    Sets `DAGSTER_EVENT_BATCH_SIZE`, which Dagster reads at every event, where it is not set: every process that stores
    events loads its instance, and with it the storage, first.
    """
    if not is_tested(dg.__version__):
        return stock()
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", BATCH_SIZE)
    return ours()


def is_indexed(event: dg.EventLogEntry) -> bool:
    """Whether the event is asked for across runs."""
    return event.is_dagster_event and event.dagster_event_type in INDEXED


def _last_of_each_asset(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where the last event of each asset and type stands; the earlier ones would be overwritten."""
    last = {(row["asset_key"], row["dagster_event_type"]): place for place, row in enumerate(rows) if row["asset_key"]}
    return sorted(last.values())
