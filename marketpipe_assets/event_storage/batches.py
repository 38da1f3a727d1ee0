"""What batches of events have in common in every database. How a transaction is made is each storage's own."""

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeVar

import dagster as dg
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    AssetObservationData,
    StepMaterializationData,
)
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetEventTagsTable
from sqlalchemy import Connection, Table

from marketpipe_assets.event_storage.rows import Row
from marketpipe_assets.event_storage.versions import is_tested

BATCH_SIZE = "1000"  # events: larger batches are no cheaper, and other writers wait for this one
INDEXED = frozenset({*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
COLUMNS = ("id", "run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition")
TAG_COLUMNS = ("event_id", "asset_key", "key", "value", "event_timestamp")

Storage = TypeVar("Storage", bound=SqlEventLogStorage)


class Open(threading.local):
    """The connection of this thread's transaction, while there is one."""

    connection: Connection | None = None


class Batches(SqlEventLogStorage):
    """Stands before a storage of Dagster's in the order of a class's bases; what is abstract is that class's own."""

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

    @abstractmethod
    def _store(self, events: Sequence[dg.EventLogEntry]) -> None:
        """All of the events of one run, or none."""

    @abstractmethod
    def _insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Rows whose values are in the order of these columns."""

    def _store_aside(self, event: dg.EventLogEntry) -> None:
        """An event that is asked for in its run only."""
        super().store_event(event)

    def _store_beside(
        self, connection: Connection, events: Sequence[dg.EventLogEntry], rows: Sequence[Row], ids: Sequence[int]
    ) -> None:
        """What is written of events beside their rows: tags, the last event of each asset, evaluations of checks."""
        tags = self._tags(events, rows, ids)
        if tags and self._has_tags:
            self._insert(connection, AssetEventTagsTable, TAG_COLUMNS, tags)
        for place in _last_of_each_asset(rows):
            self._store_asset_event(connection, events[place], ids[place])
        for event, number in zip(events, ids, strict=True):
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, number)

    def _tags(
        self, events: Sequence[dg.EventLogEntry], rows: Sequence[Row], ids: Sequence[int]
    ) -> Sequence[Sequence[object]]:
        """Values of `TAG_COLUMNS`. Dagster asks each event for its key and its type again for each tag."""
        indexed: dict[tuple[str, ...], Sequence[str]] = {}
        stored = []
        for event, row, number in zip(events, rows, ids, strict=True):
            tags = _tags_of(event)
            names = tuple(tags)
            if names not in indexed:
                wanted = self.get_asset_tags_to_index(set(names))
                indexed[names] = [name for name in names if name in wanted]
            stored += [(number, row["asset_key"], name, tags[name], row["timestamp"]) for name in indexed[names]]
        return stored

    @cached_property
    def _has_tags(self) -> bool:
        """An instance that was not migrated since 2022 has no table of tags."""
        return self.has_table(AssetEventTagsTable.name)


def _tags_of(event: dg.EventLogEntry) -> Mapping[str, str]:
    data = event.get_dagster_event().event_specific_data
    if isinstance(data, StepMaterializationData):
        return data.materialization.tags or {}
    return data.asset_observation.tags or {} if isinstance(data, AssetObservationData) else {}


def tested_or_stock(ours: Callable[[], Storage], stock: Callable[[], Storage]) -> Storage:
    """Ours, or Dagster's own where this Dagster was not tested.

    Sets `DAGSTER_EVENT_BATCH_SIZE`, which Dagster reads at every event, where it is not set: every process that stores
    events loads its instance, and with it the storage, first.
    """
    if not is_tested(dg.__version__):
        return stock()
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", BATCH_SIZE)
    return ours()


def numbered(ids: Sequence[int], rows: Sequence[Row]) -> Sequence[Sequence[Any]]:
    """Values of `COLUMNS`."""
    values = itemgetter(*COLUMNS[1:])
    return [(number, *values(row)) for number, row in zip(ids, rows, strict=True)]


def is_indexed(event: dg.EventLogEntry) -> bool:
    """Whether the event is asked for across runs."""
    return event.is_dagster_event and event.dagster_event_type in INDEXED


def _last_of_each_asset(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where the last event of each asset and type stands; the earlier ones would be overwritten."""
    last = {(row["asset_key"], row["dagster_event_type"]): place for place, row in enumerate(rows) if row["asset_key"]}
    return sorted(last.values())
