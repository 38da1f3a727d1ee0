"""Where Dagster's version was not tested, Dagster's own storage is used and the log says so."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from marketpipe_assets.event_storage import BatchedSqliteEventLogStorage
from marketpipe_assets.event_storage.versions import TESTED, is_tested
from marketpipe_assets_tests.event_storage.graph import run_range
from marketpipe_assets_tests.event_storage.logs import BATCHED, STOCK, Home, disagreements

DEFAULT_FOLDER = (
    STOCK + "event_log_storage: {module: marketpipe_assets.event_storage, class: BatchedSqliteEventLogStorage}"
)


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "")
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    is_tested.cache_clear()
    yield
    is_tested.cache_clear()


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dg, "__version__", "1.14.0")


def test_the_version_that_is_installed_was_tested() -> None:
    assert dg.__version__ in TESTED


@pytest.mark.usefixtures("untested")
def test_an_untested_version_gets_dagsters_storage_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    of_tested = f"batches were tested with Dagster {', '.join(TESTED)}"

    for _ in range(2):
        with home.instance() as instance, caplog.at_level(logging.WARNING):
            storage = instance.event_log_storage

    assert type(storage) is SqliteEventLogStorage
    assert [record.getMessage() for record in caplog.records if record.name.startswith("marketpipe_assets")] == [
        f"Events are stored one by one, by Dagster's own storage: {of_tested}, this is 1.14.0"
    ]


@pytest.mark.usefixtures("untested")
def test_an_untested_version_does_not_gather_events(tmp_path: Path) -> None:
    with Home.at(tmp_path / "home", BATCHED).instance():
        assert "DAGSTER_EVENT_BATCH_SIZE" not in os.environ


def test_loading_the_instance_makes_dagster_gather_events(tmp_path: Path) -> None:
    with Home.at(tmp_path / "home", BATCHED).instance():
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "1000"


def test_a_batch_size_that_is_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")

    with Home.at(tmp_path / "home", BATCHED).instance():
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "0"


def test_events_lie_where_dagster_puts_them_unless_a_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path / "home", DEFAULT_FOLDER)
    monkeypatch.setenv("DAGSTER_HOME", str(home.folder))

    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        run_range(instance, 1)

    home.use(STOCK)
    with home.instance() as instance:
        assert len(instance.get_materialized_partitions(dg.AssetKey("bars"))) == 3
    assert disagreements(home) == []


def test_a_folder_that_is_nowhere_told_is_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("MARKETPIPE_TEMPORARY_EVENTS", str(tmp_path / "events"))

    with Home.at(tmp_path / "home", DEFAULT_FOLDER).instance():
        assert (tmp_path / "events" / "index.db").exists()


def test_a_process_that_is_given_the_instance_loads_the_same_storage(tmp_path: Path) -> None:
    with Home.at(tmp_path / "home", BATCHED).instance() as instance:
        reference = instance.get_ref()

    with dg.DagsterInstance.from_ref(reference) as again:
        assert isinstance(again.event_log_storage, BatchedSqliteEventLogStorage)
