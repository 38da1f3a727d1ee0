"""CPU and wall time of each way to do the work, each in a process of its own."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from marketpipe_assets_tests.bench import functions, script
from marketpipe_assets_tests.bench.case import MARKET, Case


class Cost(NamedTuple):
    """Seconds; CPU is user and system time of the process with all its threads."""

    cpu: float
    wall: float


def best(costs: list[Cost]) -> Cost:
    """The least of each: on a shared machine what is above it is others' work."""
    return Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs))


def own_process() -> ProcessPoolExecutor:
    """A fresh interpreter that does what it is given, one after another."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def timed(work: Callable[[], object]) -> Cost:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


@cache
def held(case_text: str) -> Case:
    """The case, with its sessions and vendor bars in memory: built once in each process, and never timed."""
    case = Case.model_validate_json(case_text)
    _ = case.sessions, case.vendor_bars
    return case


def script_cost(case_text: str, lake: Path) -> Cost:
    case = held(case_text)
    hours = script.hours_of(case.sessions.table, case.sessions.timezone)
    return _into(lake, partial(script.pipeline, case.vendor_bars, hours, lake / MARKET))


def functions_cost(case_text: str, lake: Path) -> Cost:
    return _into(lake, partial(functions.pipeline, held(case_text), lake))


def dagster_cost(case_text: str, lake: Path) -> tuple[Cost, Cost]:
    """Of a run, and of generating its bars, which the run's own cost includes. The first run warms the process up."""
    from marketpipe_assets_tests.bench import in_dagster  # takes seconds, and the others must not have it in memory

    case = Case.model_validate_json(case_text)
    in_dagster.prepare(case, lake)
    runs = [timed(pipeline) for pipeline in in_dagster.pipelines(case, lake)]
    return best(runs[1:]), best([timed(case.generated) for _ in runs])


def _into(lake: Path, work: Callable[[], object]) -> Cost:
    """What an earlier turn made there is moved away: for minutes after a removal ext4 is slow to make as many files."""
    if lake.parent.exists():  # with what lies beside the lake: locks
        lake.parent.rename(lake.parent.with_name(f"{lake.parent.name}-{time.monotonic_ns()}"))
    return timed(work)
