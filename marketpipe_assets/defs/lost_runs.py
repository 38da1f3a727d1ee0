"""Runs of the command line whose process is gone. Those that a daemon launched are the daemon's run monitoring's."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

PROCESS_TAG = "marketpipe/process"
"""The run tag that says which process executes a run: host, process id, and when the process began."""


def process_tags() -> Mapping[str, str]:
    """The tag of this process."""
    return {PROCESS_TAG: _of(os.getpid()) or f"{socket.gethostname()} {os.getpid()} 0"}


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report as failed every unfinished run of this host whose process is gone, and give their ids.

    Nobody else does: Dagster would show them as started for ever, and their partitions as being fetched.
    """
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    lost = [run for run in unfinished if PROCESS_TAG in run.tags and _is_gone(run.tags[PROCESS_TAG])]
    for run in lost:
        instance.report_run_failed(run, message="Its process was killed, or its machine restarted.")
    return [run.run_id for run in lost]


def _is_gone(process: str) -> bool:
    host, number, _ = process.rsplit(" ", 2)
    return host == socket.gethostname() and _of(int(number)) != process


def _of(number: int) -> str | None:
    """Host, process id and start of a living process: a number alone may be another process's by now."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{socket.gethostname()} {number} {fields[19]}"  # the 22nd of all: ticks from boot to start
