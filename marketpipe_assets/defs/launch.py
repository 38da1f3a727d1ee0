"""Run a market's job in this process, on the instance the web UI shows, and tell how it goes."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.plan.objects import UserFailureData
from dagster._core.utils import make_new_run_id
from dagster_shared.error import SerializableErrorInfo

from marketpipe_assets.defs.lost_runs import process_tags

CODE_LOCATION = "marketpipe_assets.definitions"


class Progress(NamedTuple):
    """A step of a run that began or ended; `failure` is the reason in one line where one failed."""

    run_id: str
    step: str
    ended: bool
    failure: str | None = None


def run_job(
    instance: dg.DagsterInstance, job_name: str, tags: Mapping[str, str], run_config: Mapping[str, object] | None = None
) -> Iterator[Progress]:
    """Run a job over the partitions that its tags select, yielding as steps begin and end.

    The run is in the instance like any other. What a step logs stays in the run's log.
    """
    job = ReconstructableRepository.for_module(CODE_LOCATION, "defs").get_reconstructable_job(job_name)
    run = _created(instance, job, tags, run_config)
    failures: list[str] = []
    for event in execute_run_iterator(job, run, instance):
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            failures += _failed_check(event.asset_check_evaluation_data)
        elif event.is_step_start:
            yield Progress(run.run_id, str(event.step_key), ended=False)
        elif event.is_step_success:
            yield Progress(run.run_id, str(event.step_key), ended=True)
        elif event.is_step_failure:
            failures = failures or [_reason(event.step_failure_data.user_failure_data, event.step_failure_data.error)]
            yield Progress(run.run_id, str(event.step_key), ended=True, failure="; ".join(failures))
        elif event.is_run_failure and not failures:
            yield Progress(run.run_id, run.job_name, ended=True, failure=_reason(None, event.job_failure_data.error))


def _created(
    instance: dg.DagsterInstance,
    job: ReconstructableJob,
    tags: Mapping[str, str],
    run_config: Mapping[str, object] | None,
) -> dg.DagsterRun:
    """A run of the instance; one that is interrupted while its partitions are written is reported as cancelled."""
    run_id = make_new_run_id()
    try:
        return instance.create_run_for_job(
            job_def=job.get_definition(),
            run_id=run_id,
            run_config=run_config,
            tags={**tags, **process_tags()},
            job_code_origin=job.get_python_origin(),
        )
    except BaseException:
        if (begun := instance.get_run_by_id(run_id)) is not None:
            instance.report_run_canceled(begun)
        raise


def _failed_check(evaluation: dg.AssetCheckEvaluation) -> list[str]:
    if evaluation.passed or evaluation.severity is not dg.AssetCheckSeverity.ERROR:
        return []
    return [f"{evaluation.asset_key.to_user_string()} {evaluation.check_name}: {evaluation.description}"]


def _reason(said: UserFailureData | None, error: SerializableErrorInfo | None) -> str:
    if said is not None and said.description:
        return said.description
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason given"
