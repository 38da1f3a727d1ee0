"""Runs of the command line whose process is gone. Those that a daemon launched are the daemon's run monitoring's.

A run that is killed leaves files that no event tells of, and perhaps longer bars that are not there: it stays lost
until it is made good.
"""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import MAX_RETRIES_TAG, PARTITION_NAME_TAG

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.lake.facts import fetches_of

PROCESS_TAG = "marketpipe/process"
"""The run tag that says which process executes a run: host, process id, and when the process began."""

LOST_TAG = "marketpipe/lost"
LOST, MADE_GOOD = "yes", "made good"

NO_START = "0"
"""Of a process on a system that does not say when one started: whether it is still there cannot be told."""


def process_tags() -> Mapping[str, str]:
    """The tags of this process's runs. The daemon does not start one again that is lost: the next command does."""
    return {PROCESS_TAG: _of(os.getpid()) or f"{socket.gethostname()} {os.getpid()} {NO_START}", MAX_RETRIES_TAG: "0"}


def gone_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Every unfinished run of this host whose process is gone."""
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    return [run for run in unfinished if PROCESS_TAG in run.tags and _is_gone(run.tags[PROCESS_TAG])]


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report as failed the runs that are gone, and give their ids.

    Nobody else does: Dagster would show them as started for ever, and their partitions as being fetched.
    """
    lost = gone_runs(instance)
    for run in lost:
        instance.add_run_tags(run.run_id, {LOST_TAG: LOST})  # first: one that is killed here finds it again
        instance.report_run_failed(run, message="Its process was killed, or its machine restarted.")
    return [run.run_id for run in lost]


def lost_runs(instance: dg.DagsterInstance, grid: Grid, gone: Sequence[dg.DagsterRun] = ()) -> Mapping[str, Selection]:
    """Run id → symbols and sessions, of the market's runs that were lost and are not made good, and of those `gone`."""
    found = [*instance.get_runs(filters=dg.RunsFilter(tags={LOST_TAG: LOST})), *gone]
    ours = [run for run in found if run.job_name in (f"{grid.market.name}_ingest", f"{grid.market.name}_judge")]
    return {run.run_id: selection for run in ours if (selection := grid.tagged(run.tags)) is not None}


def tell_stored(instance: dg.DagsterInstance, grid: Grid, lake: Path, selections: Iterable[Selection]) -> int:
    """Tell Dagster of raw bars that are stored and of which it knows no partition; gives how many partitions."""
    raw = dg.AssetKey([grid.market.name, RAW])
    known = instance.get_materialized_partitions(raw)
    told = 0
    for symbols, dates in selections:
        stored = {*fetches_of(lake, grid.market.name, symbols, dates).select("symbol", "session_date").iter_rows()}
        for key in {*grid.tagged_keys(grid.tags(Selection(symbols, dates)))} - known:
            held = grid.tagged({PARTITION_NAME_TAG: key})
            if held is not None and any((symbol, day) in stored for symbol in held.symbols for day in held.dates):
                said = "Stored by a run that was killed before it could say so."
                instance.report_runless_asset_event(dg.AssetMaterialization(raw, partition=key, description=said))
                told += 1
    return told


def make_good(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> None:
    """Say that nothing is left to do for these runs."""
    for run_id in run_ids:
        instance.add_run_tags(run_id, {LOST_TAG: MADE_GOOD})


def _is_gone(process: str) -> bool:
    host, number, start = process.rsplit(" ", 2)
    if start == NO_START:
        return False
    return host == socket.gethostname() and _of(int(number)) != process


def _of(number: int) -> str | None:
    """Host, process id and start of a living process: a number alone may be another process's by now."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{socket.gethostname()} {number} {fields[19]}"  # the 22nd of all: ticks from boot to start
