"""The packaged instances differ in where things are stored and run, and in nothing else."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage

import marketpipe_assets
from marketpipe_assets.event_storage import BatchedSqliteEventLogStorage
from marketpipe_assets.event_storage.postgres import BatchedPostgresEventLogStorage
from marketpipe_assets_tests.postgres import HAS_POSTGRES, MISSING, running_server

PACKAGE = Path(marketpipe_assets.__file__).parent
STORAGES = {"run_storage", "event_log_storage", "schedule_storage"}
OF_CELERY = {"run_launcher", "run_monitoring"}


def settings_of(name: str, *without: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((PACKAGE / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in settings.items() if key not in without}


def test_what_is_not_about_places_is_the_same_everywhere() -> None:
    assert settings_of("dagster-postgres", *STORAGES) == settings_of("dagster", *STORAGES)
    assert settings_of("dagster-celery", *STORAGES, *OF_CELERY) == settings_of("dagster", *STORAGES, *OF_CELERY)
    assert {name: settings_of("dagster-celery")[name] for name in STORAGES} == {
        name: settings_of("dagster-postgres")[name] for name in STORAGES
    }


def test_the_instance_of_a_cluster_differs_in_its_launcher_alone() -> None:
    cluster = yaml.safe_load((PACKAGE.parent / "kubernetes" / "dagster.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((PACKAGE.parent / "kubernetes" / "values.yaml").read_text(encoding="utf-8"))

    assert cluster.pop("run_launcher")["class"] == values["runLauncher"]["type"] == "K8sRunLauncher"
    assert cluster == settings_of("dagster-postgres")


def test_the_packaged_instance_stores_events_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text((PACKAGE / "dagster.yaml").read_text(encoding="utf-8"))

    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)


@pytest.mark.skipif(not HAS_POSTGRES, reason=MISSING)
def test_the_instance_of_postgres_stores_everything_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text((PACKAGE / "dagster-postgres.yaml").read_text(encoding="utf-8"))
    with running_server() as server:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.url())

        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
            instance.report_runless_asset_event(dg.AssetMaterialization("bars"))
            found = instance.get_latest_materialization_event(dg.AssetKey("bars"))

    assert list(map(type, storages)) == [PostgresRunStorage, BatchedPostgresEventLogStorage, PostgresScheduleStorage]
    assert found is not None
    assert list(tmp_path.rglob("*.db")) == []
