"""Backfills through a real daemon, on one machine or over Celery workers, of which one may be killed in mid-run.

By hand: `python -m marketpipe_assets_tests.scale_out --workers 2 --kill`; without `--workers` runs are processes of one
machine, as the packaged dagster.yaml has it. Exits 1 where a backfill does not end complete. Needs redis-server and
PostgreSQL's server for workers.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg

import marketpipe_assets
from marketpipe_assets_tests.deployment import (
    TABLES,
    Deployment,
    configure,
    dates_of,
    deployed,
    eventually,
    running,
    symbols_of,
)
from marketpipe_assets_tests.postgres import running_server

PACKAGE = Path(marketpipe_assets.__file__).parent
QUEUE_READY = 60  # seconds
LONGEST = 1800  # seconds for a backfill


class Ended(NamedTuple):
    """How a backfill ended: runs by status, and how many partitions of the last table are there."""

    status: str
    seconds: float
    runs: Mapping[str, int]
    materialized: int
    killed: str | None

    def __str__(self) -> str:
        lost = f", killed {self.killed}" if self.killed else ""
        return f"{self.status} in {self.seconds:.0f} s, runs {dict(self.runs)}, {self.materialized} partitions{lost}"


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The address of a queue of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("redis-server", "--bind", "127.0.0.1", "--port", f"{port}", "--save", "", "--dir", str(folder))
    with running(command, folder, {}):
        eventually(lambda: answers(port), "redis", QUEUE_READY)
        yield f"redis://127.0.0.1:{port}/0"


def answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


@contextmanager
def worker(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """As docs/scale-out.md starts it, with one process for runs."""
    place = folder / name
    place.mkdir()
    command = (
        "dagster-celery",
        "worker",
        "start",
        "-A",
        "dagster_celery.app",
        "-y",
        str(PACKAGE / "celery-worker.yaml"),
    )
    with running((*command, "-n", name, "--", "--concurrency", "1"), place, environment) as process:
        eventually(lambda: b" ready." in (place / "dagster-celery.log").read_bytes(), f"worker {name}")
        yield process


def settings(workers: int, concurrent: int) -> str:
    """The packaged instance, with more haste."""
    text = (PACKAGE / ("dagster-celery.yaml" if workers else "dagster.yaml")).read_text()
    text = text.replace("max_concurrent_runs: 4", f"max_concurrent_runs: {concurrent}")
    return text.replace("default_limit: 2", f"default_limit: {concurrent}").replace(
        "poll_interval_seconds: 30", "poll_interval_seconds: 5"
    )


@contextmanager
def deployment_of(
    folder: Path, symbols: int, workers: int, concurrent: int
) -> Iterator[tuple[Deployment, Mapping[str, str], Sequence[subprocess.Popen[bytes]]]]:
    with ExitStack() as stack:
        environment = dict(configure(folder, symbols, settings(workers, concurrent)))
        if workers:
            server = stack.enter_context(running_server())
            environment["DAGSTER_POSTGRES_URL"] = server.create("dagster")
            environment["DATABASE_URL"] = server.create("catalog")
            environment["REDIS_URL"] = stack.enter_context(redis(folder))
        deployment = stack.enter_context(deployed(folder, environment))
        started = [stack.enter_context(worker(f"worker{n}", folder, environment)) for n in range(workers)]
        yield deployment, environment, started


def backfilled(folder: Path, symbols: int, sessions: int, workers: int, concurrent: int, *, kill: bool) -> Ended:
    with deployment_of(folder, symbols, workers, concurrent) as (deployment, environment, started):
        os.environ.update(environment)
        with dg.DagsterInstance.get() as instance:
            began = time.monotonic()
            backfill = deployment.backfill(symbols_of(symbols), dates_of(sessions))
            killed = kill_in_mid_run(instance, started[0]) if kill else None
            status = eventually(lambda: ended(deployment, backfill), "the end of the backfill", LONGEST)
            seconds = time.monotonic() - began
            runs = Counter(run.status.value for run in instance.get_runs())
        return Ended(status, seconds, runs, deployment.partitions(TABLES[-1])["numMaterialized"], killed)


def ended(deployment: Deployment, backfill: str) -> str:
    status = deployment.status(backfill)
    return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else ""


def kill_in_mid_run(instance: dg.DagsterInstance, worker_process: subprocess.Popen[bytes]) -> str:
    """Kill a worker with all its processes once one of its runs has begun; the id of that run."""
    of_worker = set(children(worker_process.pid))
    run_id = eventually(lambda: begun_in(instance, of_worker), "a run in the worker that is to be killed")
    os.killpg(worker_process.pid, signal.SIGKILL)
    return run_id


def begun_in(instance: dg.DagsterInstance, processes: set[int]) -> str:
    """The id of a run that has begun in one of the processes; none is an empty string."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        told = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
        messages = " ".join(record.event_log_entry.get_dagster_event().message or "" for record in told)
        if any(f"(pid: {process})" in messages for process in processes):
            return run.run_id
    return ""


def children(process: int) -> Iterator[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "-g", f"{process}"], capture_output=True, text=True, check=True)
    yield from map(int, listed.stdout.split())


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--symbols", type=int, default=20)
    arguments.add_argument("--sessions", type=int, default=60)
    arguments.add_argument("--workers", type=int, default=0)
    arguments.add_argument("--concurrent", type=int, default=2)
    arguments.add_argument("--kill", action="store_true")
    arguments.add_argument("--folder", type=Path, help="keeps the logs of a deployment that fails")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        how = backfilled(
            Path(folder), chosen.symbols, chosen.sessions, chosen.workers, chosen.concurrent, kill=chosen.kill
        )
    print(how)
    return 0 if how.status == "COMPLETED_SUCCESS" and how.materialized == chosen.symbols * chosen.sessions else 1


if __name__ == "__main__":
    sys.exit(main())
