"""Run a market's job in this process, on the instance the web UI shows, and tell how it goes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator

from marketpipe_assets.defs.partitions import Selection, range_tags

CODE_LOCATION = "marketpipe_assets.definitions"


class Progress(NamedTuple):
    """A step of a run that began or ended; `failure` is the reason in one line where one failed."""

    run_id: str
    step: str
    ended: bool
    failure: str | None = None


def planned_runs(symbols: Sequence[str], dates: Sequence[date], most_symbol_days: int) -> list[Selection]:
    """Rectangles of at most `most_symbol_days` that together are every symbol on every date, in order.

    Each takes as many symbols as fit with one date, then as many dates as fit with those symbols: month files are
    then merged as few times as can be. `symbols` and `dates` are in partition order.
    """
    wide = max(1, min(len(symbols), most_symbol_days))
    long = max(1, most_symbol_days // wide)
    return [
        Selection(symbols[column : column + wide], dates[row : row + long])
        for row in range(0, len(dates), long)
        for column in range(0, len(symbols), wide)
    ]


def run_job(
    instance: dg.DagsterInstance, job_name: str, selection: Selection, run_config: Mapping[str, object] | None = None
) -> Iterator[Progress]:
    """Run a job over a rectangle of partitions, yielding as steps begin and end.

    The run is in the instance like any other. What a step logs stays in the run's log.
    """
    job = ReconstructableRepository.for_module(CODE_LOCATION, "defs").get_reconstructable_job(job_name)
    definition = job.get_definition()
    run = instance.create_run_for_job(
        job_def=definition,
        run_config=run_config,
        tags=range_tags(selection),
        job_code_origin=job.get_python_origin(),
    )
    failed_checks: list[str] = []
    for event in execute_run_iterator(job, run, instance):
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            failed_checks += _failed_check(event.asset_check_evaluation_data)
        elif event.is_step_start:
            yield Progress(run.run_id, str(event.step_key), ended=False)
        elif event.is_step_success:
            yield Progress(run.run_id, str(event.step_key), ended=True)
        elif event.is_step_failure:
            reason = "; ".join(failed_checks) or _reason(event)
            yield Progress(run.run_id, str(event.step_key), ended=True, failure=reason)


def _failed_check(evaluation: dg.AssetCheckEvaluation) -> list[str]:
    if evaluation.passed or evaluation.severity is not dg.AssetCheckSeverity.ERROR:
        return []
    return [f"{evaluation.asset_key.to_user_string()} {evaluation.check_name}: {evaluation.description}"]


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason given"
