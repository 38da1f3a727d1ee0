"""Runs as Celery tasks on several machines, where a worker that dies is noticed. Loaded by dagster-celery.yaml."""

from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

ASKED, PATIENCE = 2, 10  # times, and seconds each: a worker answers while it works, but its machine may be busy


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Dagster's `CeleryRunLauncher`, which also asks the worker of a run whether it has it.

    Celery tells of a task whose worker was killed that it is "started", for ever, and with it Dagster of the run. Run
    monitoring ends a run that no worker has, and run retries start it again.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        health = super().check_run_worker_health(run)
        if health.status != WorkerStatus.RUNNING or self._has_worker(run.tags[DAGSTER_CELERY_TASK_ID_TAG]):
            return health
        told_meanwhile = super().check_run_worker_health(run)
        if told_meanwhile.status != WorkerStatus.RUNNING:
            return told_meanwhile
        return CheckRunHealthResult(WorkerStatus.FAILED, "Expected a Celery worker to have the run, was none.")

    def _has_worker(self, task_id: str) -> bool:
        told: Any = self.celery.AsyncResult(task_id).info  # of a task that has started: where
        if not isinstance(told, dict) or "hostname" not in told:  # it has ended meanwhile, and this is its result
            return False
        for _ in range(ASKED):
            asked = self.celery.control.inspect(destination=[told["hostname"]], timeout=PATIENCE)
            answers = asked.query_task(task_id)
            if answers is not None:
                return any(answers.values())
        return False
