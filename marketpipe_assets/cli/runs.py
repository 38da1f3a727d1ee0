"""Plan runs over symbol-days, run them on the instance of the web UI, and show how far they are."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

from marketpipe_assets.cli.config_check import usable
from marketpipe_assets.cli.display import console, counted, span
from marketpipe_assets.cli.outcome import RunTimeError, UserError, catalogue, file_access, lake_access, one_line, say
from marketpipe_assets.config import Config, Market, export_dagster_home

if TYPE_CHECKING:
    import dagster as dg
    from rich.progress import Progress as Bar

    from marketpipe_assets.defs.launch import Progress
    from marketpipe_assets.defs.partitions import Grid, Selection

INTERRUPTED = "DagsterExecutionInterruptedError"

QUIET: Mapping[str, object] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration that keeps events out of the terminal. They are in the instance, and failures come with reasons."""


class Plan(NamedTuple):
    """One run to start; `tags` say its selection to Dagster."""

    market: str
    job: str
    selection: "Selection"
    tags: Mapping[str, str]
    run_config: Mapping[str, object] = {}

    def __str__(self) -> str:
        symbols, dates = self.selection
        return f"{self.market}: {_names(symbols)}, {span(dates)}"


class Failed(NamedTuple):
    """A run that did not succeed, and why in one line."""

    plan: Plan
    run_id: str
    reason: str

    def __str__(self) -> str:
        return f"run {self.run_id or 'without an id'} ({self.plan}): {self.reason}"


def market_grid(config: Config, market: Market) -> "Grid":
    """The market's partitions."""
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.partitions import grid_of

    with catalogue():
        return grid_of(market, Catalog(config.catalog_url))


def run_each(config: Config, plans: Sequence[Plan]) -> list[Failed]:
    """Run one after the other, and go on after one that failed."""
    usable(config)  # a configuration that cannot be loaded is said in a line before Dagster says it in a page
    with instance_of(config) as instance:
        with _progress(len(plans)) as bar:
            failed = [failed for plan in plans if (failed := _run(instance, plan, bar)) is not None]
        if failed:
            _account_for_stored(config, instance)
        return failed


def _account_for_stored(config: Config, instance: "dg.DagsterInstance") -> None:
    """Make the ledger know the bars that runs had stored when they failed; where that fails too, it is said."""
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.ledger import recover

    try:
        with lake_access(), catalogue():
            recover(Catalog(config.catalog_url), config.lake, config.markets, instance)
    except RunTimeError as error:
        say(str(error), 1)


@contextmanager
def instance_of(config: Config) -> Iterator["dg.DagsterInstance"]:
    """The instance of the web UI. Raises `UserError` where its folder cannot be one."""
    import dagster as dg

    with file_access():
        home = export_dagster_home(config)
    if not (home.is_absolute() and home.is_dir()):
        raise UserError(f"expected DAGSTER_HOME to be a folder with its whole path, was {home}")
    with dg.DagsterInstance.get() as instance:
        yield instance


def _run(instance: "dg.DagsterInstance", plan: Plan, bar: "RunBar") -> Failed | None:
    from marketpipe_assets.defs.launch import run_job

    run_id, steps, reasons = "", 0, list[str]()
    bar.begin(plan)
    for step in run_job(instance, plan.job, plan.tags, {**QUIET, **plan.run_config}):
        run_id = step.run_id
        steps = steps or _step_count(instance, run_id)
        bar.show(step, steps)
        reasons += [step.failure] if step.failure is not None else []
    run = instance.get_run_by_id(run_id) if run_id else None
    succeeded = run is not None and run.is_success
    bar.end("done" if succeeded else "failed")
    if any(INTERRUPTED in reason for reason in reasons):
        raise KeyboardInterrupt  # Dagster ends the run and goes on; who pressed Ctrl-C meant all of them
    return None if succeeded else Failed(plan, run_id, _reason(reasons))


def _reason(reasons: Sequence[str]) -> str:
    """What failed, with the names of exceptions but not those of their modules."""
    named = (re.sub(r"^(?:\w+\.)+(?=\w+: )", "", reason) for reason in reasons)
    return one_line("; ".join(named)) or "no step of it failed: its log in the web UI tells more"


def _step_count(instance: "dg.DagsterInstance", run_id: str) -> int:
    run = instance.get_run_by_id(run_id)
    if run is None or run.execution_plan_snapshot_id is None:
        raise RunTimeError(f"expected run {run_id} to be in the Dagster instance, was deleted while it ran")
    return len(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


class RunBar:
    """A bar over all runs in a terminal; a line per run where there is none."""

    def __init__(self, bar: "Bar", runs: int) -> None:
        self._bar, self._runs, self._number = bar, runs, 0
        self._task = bar.add_task("", total=runs)
        self._label, self._began = "", 0.0

    def begin(self, plan: Plan) -> None:
        self._number += 1
        self._label, self._began = str(plan), time.monotonic()
        self._bar.update(self._task, description=f"{self._position}  {plan.market}")

    def show(self, step: "Progress", steps: int) -> None:
        self._bar.update(
            self._task,
            description=f"{self._position}  {step.step}",
            advance=1 / steps if step.ended else 0,
        )

    def end(self, outcome: str) -> None:
        took = time.monotonic() - self._began
        self._bar.update(self._task, completed=self._number)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{self._position}: {outcome} in {took:.1f} s  ({self._label})")

    @property
    def _position(self) -> str:
        return f"run {self._number} of {self._runs}"


@contextmanager
def _progress(runs: int) -> Iterator[RunBar]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with _own_stderr() as stderr:
        out = console(stderr)
        with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
            yield RunBar(bar, runs)


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """A terminal under a descriptor of its own: Dagster points the process's to a file while a step runs."""
    if not sys.stderr.isatty():
        yield sys.stderr
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stderr:
        yield stderr


def _names(symbols: Sequence[str]) -> str:
    return ", ".join(symbols) if len(symbols) <= 5 else counted(len(symbols), "symbol")
