"""Dagster instances of either storage, events to store in them, and what their databases hold."""

import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    AssetMaterializationPlannedData,
    StepMaterializationData,
)
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

STOCK = "telemetry: {enabled: false}\n"
BATCHED = (
    STOCK
    + """
event_log_storage:
  module: marketpipe_assets.event_storage
  class: BatchedSqliteEventLogStorage
  config:
    base_dir: HOME/history/runs
"""
)

STOCK_POSTGRES = (
    STOCK
    + """
run_storage:
  module: dagster_postgres.run_storage
  class: PostgresRunStorage
  config: {postgres_url: "URL"}
event_log_storage:
  module: dagster_postgres.event_log
  class: PostgresEventLogStorage
  config: {postgres_url: "URL"}
schedule_storage:
  module: dagster_postgres.schedule_storage
  class: PostgresScheduleStorage
  config: {postgres_url: "URL"}
"""
)
BATCHED_POSTGRES = STOCK_POSTGRES.replace(
    "dagster_postgres.event_log\n  class: Postgres",
    "marketpipe_assets.event_storage.postgres\n  class: BatchedPostgres",
)

INDEXED = {each.value for each in {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}}
RUN_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ASSET = dg.AssetKey(["shares", "bars_1d"])
TAGS = ("dagster/partition/", "dagster/data_version")  # those Dagster keeps in a table of their own
VARYING = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?|\b\d{10}\.\d+"  # moments
    r'|(?<="duration_ms": )[\d.]+|(?<= in )[\d.]+m?s\b|(?<=")[\d.]+ms\b'  # durations
    r'|(?<=pid: )\d+|(?<="text": ")\d+(?=")|(?<="log_key": ")\w+'  # processes
)

POSTGRES = {
    "event_logs ORDER BY id": "*",
    "asset_event_tags ORDER BY id": "*",
    "asset_check_executions ORDER BY id": "*",
    # an upsert takes an id whether it needs one or not
    "asset_keys ORDER BY asset_key": "asset_key, last_materialization, last_run_id, last_materialization_timestamp",
    "dynamic_partitions ORDER BY id": "*",
}
"""The tables of the event log, and what is compared of them."""

Row = tuple[Any, ...]


class Home(NamedTuple):
    """A folder with a Dagster instance, and the URL of its database where that is not in the folder."""

    folder: Path
    url: str = ""

    @classmethod
    def at(cls, folder: Path, settings: str, url: str = "") -> "Home":
        folder.mkdir(parents=True, exist_ok=True)
        home = cls(folder, url)
        home.use(settings)
        return home

    def use(self, settings: str) -> None:
        """Write dagster.yaml again, as a user does who changes the storage."""
        text = settings.replace("HOME", str(self.folder)).replace("URL", self.url)
        (self.folder / "dagster.yaml").write_text(text)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            yield instance

    def database(self, shard: str) -> Path:
        return self.folder / "history" / "runs" / f"{shard}.db"

    def rows(self, shard: str, query: str) -> list[Row]:
        """What a query finds in the index or in the file of a run; Postgres has both in one table."""
        if self.url:
            with create_engine(self.url, poolclass=NullPool).connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(query)]
        if not self.database(shard).exists():
            return []
        with closing(sqlite3.connect(self.database(shard))) as connection:
            return connection.execute(query).fetchall()

    def tables(self, shard: str) -> Mapping[str, list[Row]]:
        """Every row of every table in the order of ids, without what differs between two runs of one storage too."""
        if self.url:
            return {name: self._table("index", f"SELECT {chosen} FROM {name}") for name, chosen in POSTGRES.items()}
        names = self.rows(shard, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        return {name: self._table(shard, f"SELECT * FROM {name}") for (name,) in names}

    def _table(self, shard: str, query: str) -> list[Row]:
        return [tuple(self._masked(value) for value in row) for row in self.rows(shard, query)]

    def _masked(self, value: object) -> object:
        if isinstance(value, datetime):
            return "<varies>"
        return VARYING.sub("<varies>", value.replace(str(self.folder), "<home>")) if isinstance(value, str) else value


def started_run(instance: dg.DagsterInstance, run_id: str = RUN_ID) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name="shares", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    return instance.add_run(run)


def entry(event: dg.DagsterEvent, run_id: str = RUN_ID) -> dg.EventLogEntry:
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]  # Dagster's constructor has no types
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        step_key=event.step_key,
        job_name=event.job_name,
        dagster_event=event,
    )


def planned(key: str, run_id: str = RUN_ID) -> dg.EventLogEntry:
    data = AssetMaterializationPlannedData(ASSET, partition=key)
    return entry(dg.DagsterEvent.build_asset_materialization_planned_event("shares", "bars", data), run_id)


def materialized(key: str, run_id: str = RUN_ID) -> dg.EventLogEntry:
    """With the two tags that Dagster indexes for a partition of two dimensions."""
    day, symbol = key.split("|")
    materialization = dg.AssetMaterialization(
        ASSET, partition=key, tags={"dagster/partition/date": day, "dagster/partition/symbol": symbol}
    )
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="shares",
        step_key="bars",
        event_specific_data=StepMaterializationData(materialization),
    )
    return entry(event, run_id)


STORED = {"planned": planned, "materialized": materialized}
"""What a batch is made of."""


def batch(kind: str, number: int, size: int, run_id: str = RUN_ID) -> Sequence[dg.EventLogEntry]:
    """Events whose keys are of this batch only."""
    return [STORED[kind](f"{number}|S{each}", run_id) for each in range(size)]


def disagreements(home: Home, run_id: str = RUN_ID) -> list[str]:
    """What is wrong between and within the index and the file of a run; none is good."""
    columns = "SELECT dagster_event_type, asset_key, partition, event FROM event_logs"
    of_run = f"{columns} WHERE run_id = '{run_id}'"
    index = Counter(row for row in home.rows("index", of_run) if row[0] in INDEXED)
    held = Counter(row for row in home.rows(run_id, of_run) if row[0] in INDEXED)
    return [
        *(
            f"{shard} is damaged"
            for shard in ("index", run_id)
            if not home.url and home.rows(shard, "PRAGMA integrity_check") not in ([], [("ok",)])
        ),
        *(f"only in the index: {row[:3]}" for row in index - held),
        *(f"only in the run's file: {row[:3]}" for row in held - index),
        *(f"{count} times in the index: {row[:3]}" for row, count in index.items() if count > 1),
        *(f"expected tags of event {row[0]} to be {row[1]}, was {row[2]}" for row in _wrong_tags(home)),
        *_wrong_assets(home),
    ]


def _wrong_tags(home: Home) -> list[Row]:
    """Id, tags that should be there and tags that are, of each event where they differ."""
    stored: dict[int, int] = dict(home.rows("index", "SELECT event_id, count(*) FROM asset_event_tags GROUP BY 1"))
    expected = {
        number: sum(
            1
            for tag in json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]["tags"] or ()
            if tag.startswith(TAGS)
        )
        for number, event in home.rows(
            "index", "SELECT id, event FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
    }
    return [
        (number, expected.get(number, 0), stored.get(number, 0))
        for number in expected | stored
        if expected.get(number, 0) != stored.get(number, 0)
    ]


def _wrong_assets(home: Home) -> list[str]:
    last: dict[str, int] = dict(
        home.rows(
            "index",
            "SELECT asset_key, max(id) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1",
        )
    )
    stored: dict[str, str | None] = dict(home.rows("index", "SELECT asset_key, last_materialization FROM asset_keys"))
    told = {key: json.loads(record)["storage_id"] for key, record in stored.items() if record}
    return [] if told == last else [f"expected the last materializations to be {last}, was {told}"]


def keys_of(home: Home, kind: str, shard: str) -> Counter[str]:
    """How often each key was planned or materialized, as a file tells it."""
    event = {"planned": "ASSET_MATERIALIZATION_PLANNED", "materialized": "ASSET_MATERIALIZATION"}[kind]
    rows = home.rows(shard, f"SELECT partition FROM event_logs WHERE dagster_event_type = '{event}'")
    return Counter(key for (key,) in rows)
