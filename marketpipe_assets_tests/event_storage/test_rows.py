"""The rows of a batch are, to the byte, those Dagster makes of each of its events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData, StepMaterializationData
from dagster._core.storage.event_log import InMemoryEventLogStorage, SqlEventLogStorage

from marketpipe_assets.event_storage.rows import rows_of
from marketpipe_assets_tests.event_storage.logs import ASSET, batch, entry, planned

METADATA = {"rows": dg.MetadataValue.int(390), "note": dg.MetadataValue.text('"quoted" \\ and é \t'), "day": None}
TAGS = {"dagster/data_version": "1", "dagster/partition/date": "2024-01-02", "dagster/partition/symbol": "ACME"}


@pytest.fixture
def storage() -> Iterator[SqlEventLogStorage]:
    log = InMemoryEventLogStorage()
    yield log
    log.dispose()  # type: ignore[no-untyped-call]  # Dagster's


def event(
    partition: str | None = "2024-01-02|ACME",
    metadata: Mapping[str, Any] = METADATA,
    tags: Mapping[str, str] = TAGS,
    description: str | None = None,
) -> dg.EventLogEntry:
    materialization = dg.AssetMaterialization(
        ASSET,
        description,
        metadata,
        partition,
        tags,
    )
    return entry(
        dg.DagsterEvent(
            dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            "shares",
            logging_tags={"op_name": "bars", "resource_name": str(None) + str(ASSET)},  # texts that are made anew
            event_specific_data=StepMaterializationData(materialization),
        )
    )


def renamed(of: dg.EventLogEntry) -> dg.EventLogEntry:
    """With equal logging tags in another order."""
    said = of.get_dagster_event()
    tags = dict(sorted((said.logging_tags or {}).items(), reverse=True))
    return of._replace(dagster_event=said._replace(logging_tags=tags))


def observation() -> dg.EventLogEntry:
    data = AssetObservationData(dg.AssetObservation(ASSET, partition="2024-01-02|ACME", metadata={"rows": 390}))
    return entry(dg.DagsterEvent(dg.DagsterEventType.ASSET_OBSERVATION.value, "shares", event_specific_data=data))


SHARED = {name: dg.MetadataValue.json({"n": value}) for name, value in (("one", 1), ("true", True), ("float", 1.0))}
BATCHES = {
    "planned": batch("planned", 0, 5),
    "materialized": batch("materialized", 0, 5),
    "planned and materialized": [*batch("planned", 0, 2), *batch("materialized", 0, 2), *batch("planned", 1, 2)],
    "odd partitions": [
        event(key, tags={}) for key in ("2024-01-02|ACME", '"\\|é', "\\u0000", "a\nb|\t", "\0000", None, "")
    ],
    "planned without a partition": [planned("2024-01-02|ACME"), planned(""), planned("2024-01-03|ACME")],
    "blanks of ours in the data": [
        event(description="\0001"),
        event(description="\0001"),
        event("\0000", description="\0000"),
    ],
    "metadata that is equal and not the same": [
        event(metadata={"n": SHARED[name]}) for name in ("one", "true", "float")
    ],
    "metadata of one partition": [event(), event(metadata={}), event(metadata={**METADATA, "more": 1}), event()],
    "another order": [
        event(tags=TAGS),
        event(tags=dict(reversed(TAGS.items()))),
        event(metadata=dict(reversed(METADATA.items()))),
    ],
    "another tag": [event(), event(tags={**TAGS, "dagster/data_version": "2"}), event(tags={}), event()],
    "another step": [event(), event()._replace(step_key="other"), event()._replace(user_message="said"), event()],
    "another order of what a step says of itself": [event(), renamed(event()), event()],
    "other kinds between": [event(), observation(), event(), observation(), event()],
    "one": [event()],
    "none": [],
}


@pytest.mark.parametrize("events", BATCHES.values(), ids=BATCHES)
def test_rows_are_those_of_dagster(storage: SqlEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
    assert rows_of(storage, events) == [storage._event_to_row(each) for each in events]


def test_events_that_differ_by_partition_are_serialised_once(
    storage: SqlEventLogStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = {"rows": dg.MetadataValue.int(390)}
    serialised = list[dg.EventLogEntry]()
    stock = storage._event_to_row

    def counted(each: dg.EventLogEntry) -> dict[str, Any]:
        serialised.append(each)
        return stock(each)

    monkeypatch.setattr(storage, "_event_to_row", counted)

    rows = rows_of(storage, [event(f"2024-01-02|S{number}", metadata) for number in range(100)])

    assert len(serialised) == 1
    assert len({row["event"] for row in rows}) == 100
