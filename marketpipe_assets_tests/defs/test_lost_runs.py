"""Runs whose process was killed: who ends them, who starts them again, and which failures are tried again at all."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

from marketpipe_assets.config import INSTANCE
from marketpipe_assets.defs.lost_runs import NO_START, PROCESS_TAG, end_lost_runs, process_tags

RUN_ID = "00000000-0000-4000-8000-00000000000"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """As the packaged settings make it."""
    (tmp_path / "dagster.yaml").write_text(INSTANCE.read_text(encoding="utf-8"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as made:
        yield made


def run(
    instance: dg.DagsterInstance, number: int, status: dg.DagsterRunStatus, tags: dict[str, str] | None = None
) -> dg.DagsterRun:
    return instance.add_run(dg.DagsterRun("shares_ingest", f"{RUN_ID}{number}", status=status, tags=tags))


def tags_of_a_dead_process() -> dict[str, str]:
    script = "from marketpipe_assets.defs.lost_runs import process_tags; print(process_tags()['marketpipe/process'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {PROCESS_TAG: done.stdout.strip()}


def test_run_whose_process_is_gone_is_ended_and_others_are_left_alone(instance: dg.DagsterInstance) -> None:
    lost = run(instance, 1, dg.DagsterRunStatus.STARTED, tags_of_a_dead_process())
    alive = run(instance, 2, dg.DagsterRunStatus.STARTED, dict(process_tags()))
    launched = run(instance, 3, dg.DagsterRunStatus.STARTED)

    assert end_lost_runs(instance) == [lost.run_id]
    statuses = {each.run_id: each.status for each in instance.get_runs()}
    assert statuses == {
        lost.run_id: dg.DagsterRunStatus.FAILURE,
        alive.run_id: dg.DagsterRunStatus.STARTED,
        launched.run_id: dg.DagsterRunStatus.STARTED,
    }
    assert end_lost_runs(instance) == []


def test_run_of_a_process_whose_start_is_not_known_is_left_alone(instance: dg.DagsterInstance) -> None:
    host, number, _ = tags_of_a_dead_process()[PROCESS_TAG].rsplit(" ", 2)
    run(instance, 1, dg.DagsterRunStatus.STARTED, {PROCESS_TAG: f"{host} {number} {NO_START}"})

    assert end_lost_runs(instance) == []


@pytest.mark.parametrize(
    ("reason", "again"),
    [(RunFailureReason.RUN_EXCEPTION, True), (RunFailureReason.UNKNOWN, True), (RunFailureReason.STEP_FAILURE, False)],
)
def test_lost_run_is_started_again_and_one_with_a_failed_step_is_not(
    instance: dg.DagsterInstance, reason: RunFailureReason, *, again: bool
) -> None:
    failed = run(instance, 1, dg.DagsterRunStatus.FAILURE)

    assert auto_reexecution_should_retry_run(instance, failed, reason) is again


def test_run_of_the_command_line_is_left_to_the_next_command(instance: dg.DagsterInstance) -> None:
    failed = run(instance, 1, dg.DagsterRunStatus.FAILURE, dict(process_tags()))

    assert not auto_reexecution_should_retry_run(instance, failed, RunFailureReason.UNKNOWN)
