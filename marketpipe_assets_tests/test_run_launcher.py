"""A Celery worker that is killed is noticed, with a real queue and real workers."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher

import marketpipe_assets
from marketpipe_assets import run_launcher
from marketpipe_assets.run_launcher import WatchedCeleryRunLauncher
from marketpipe_assets_tests.deployment import eventually
from marketpipe_assets_tests.scale_out import redis, worker
from marketpipe_assets_tests.waiting_job import waiting

PACKAGE = Path(marketpipe_assets.__file__).parent
ON_SQLITE = {"run_storage", "event_log_storage", "schedule_storage"}

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs redis-server (Debian: redis-server)"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An instance with the packaged settings of several machines but for the database."""
    packaged = yaml.safe_load((PACKAGE / "dagster-celery.yaml").read_text())
    settings = {name: value for name, value in packaged.items() if name not in ON_SQLITE}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with redis(tmp_path) as address:
        monkeypatch.setenv("REDIS_URL", address)
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        yield tmp_path


def launched(instance: dg.DagsterInstance, until: Path) -> dg.DagsterRun:
    job = dg.reconstructable(waiting)
    run = instance.create_run_for_job(
        waiting,
        run_config={"ops": {"wait": {"config": {"until": str(until)}}}},
        job_code_origin=job.get_python_origin(),
    )
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    return again(instance, run)


def again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def test_a_run_whose_worker_is_killed_is_found_failed_and_another_worker_takes_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_launcher, "PATIENCE", 3)
    environment = {name: os.environ[name] for name in ("DAGSTER_HOME", "REDIS_URL")}
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, WatchedCeleryRunLauncher)
        with worker("one", home, environment) as process:
            first = launched(instance, home / "never")
            eventually(lambda: again(instance, first).status is dg.DagsterRunStatus.STARTED, "the first run")
            alive = launcher.check_run_worker_health(first)
            os.killpg(process.pid, signal.SIGKILL)
            dead = launcher.check_run_worker_health(first)
            of_celery = CeleryRunLauncher.check_run_worker_health(launcher, first)
        with worker("two", home, environment):
            (home / "now").touch()
            second = launched(instance, home / "now")
            eventually(lambda: again(instance, second).status is dg.DagsterRunStatus.SUCCESS, "the second run")
            ended = eventually(
                lambda: launcher.check_run_worker_health(second).status is WorkerStatus.SUCCESS, "its end"
            )

    assert alive.status is WorkerStatus.RUNNING
    assert (dead.status, dead.msg) == (WorkerStatus.FAILED, "Expected a Celery worker to have the run, was none.")
    assert of_celery.status is WorkerStatus.RUNNING
    assert ended
