"""A full disk, several writers at once and a process that dies leave no event lost, doubled or in one file only."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEventBatchMetadata, EngineEventData
from sqlalchemy.exc import DBAPIError, OperationalError

from marketpipe_assets_tests.event_storage.kills import CONTEXT, SIZE, Work, recover, store_batches, store_run
from marketpipe_assets_tests.event_storage.logs import (
    ASSET,
    BATCHED,
    RUN_ID,
    Home,
    batch,
    disagreements,
    entry,
    keys_of,
    materialized,
    started_run,
)

KILOBYTE = 1024
BATCHES = 5  # of each kind, by each of several writers
PACKAGE = "marketpipe_assets.event_storage"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of 1 MB cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def send(instance: dg.DagsterInstance, events: Sequence[dg.EventLogEntry]) -> bool:
    """Store a batch as a run does, with Dagster's own way out of an error. Whether it succeeded."""
    try:
        for number, event in enumerate(events, 1):
            instance.handle_new_event(event, batch_metadata=DagsterEventBatchMetadata("batch", number == len(events)))
    except OperationalError:
        return False
    return True


def fill(disk: Path, free: int) -> Path:
    filler = disk / "filler"
    filler.write_bytes(b"0" * (shutil.disk_usage(disk).free - free))
    return filler


@pytest.mark.parametrize(
    ("free", "stored", "said"),
    [
        pytest.param(8, 0, [], id="neither file can be written"),
        pytest.param(80, 0, [], id="the index can be written in part"),
        pytest.param(176, SIZE, ["database or disk is full"], id="the index can be written and the run's file not"),
        pytest.param(296, SIZE, [], id="both can be written"),
    ],
)
def test_a_full_disk_loses_and_doubles_nothing(
    tmp_path: Path, small_disk: Path, caplog: pytest.LogCaptureFixture, free: int, stored: int, said: list[str]
) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    (home.folder / "history").mkdir()
    (small_disk / "runs").mkdir()
    (home.folder / "history" / "runs").symlink_to(small_disk / "runs")
    with home.instance() as instance:
        started_run(instance)
        send(instance, batch("materialized", 0, SIZE))
    filler = fill(small_disk, free * KILOBYTE)

    with home.instance() as instance:
        succeeded = send(instance, batch("materialized", 1, SIZE))
        filler.unlink()
    recover(home)

    assert succeeded == (stored > 0)
    assert [
        record.getMessage().rsplit(": ", 1)[-1] for record in caplog.records if record.name.startswith(PACKAGE)
    ] == said
    assert disagreements(home) == []
    assert keys_of(home, "materialized", "index").total() == SIZE + stored


@pytest.mark.parametrize("end", ["report_run_failed", "report_run_canceled"])
@pytest.mark.parametrize("kind", ["planned", "materialized"])
def test_events_that_only_the_index_has_are_copied_when_the_run_ends(tmp_path: Path, kind: str, end: str) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    with home.instance() as instance:
        run = started_run(instance)
        instance.event_log_storage.store_event_batch(batch(kind, 0, SIZE))
        instance.event_log_storage.store_event_batch(batch(kind, 1, SIZE))
    with closing(sqlite3.connect(home.database(RUN_ID))) as connection, connection:
        connection.execute("DELETE FROM event_logs WHERE partition LIKE '1|%'")

    with home.instance() as instance:
        getattr(instance, end)(run)

    assert disagreements(home) == []
    assert keys_of(home, kind, RUN_ID).total() == 2 * SIZE


def test_an_error_within_a_batch_leaves_nothing_of_it_and_its_events_are_stored_once(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    with home.instance() as instance:
        started_run(instance)
    trigger = "CREATE TRIGGER refuse BEFORE INSERT ON asset_event_tags BEGIN SELECT RAISE(ABORT, 'no tags'); END"
    with closing(sqlite3.connect(home.database("index"))) as connection:
        connection.execute(trigger)

    with home.instance() as instance:
        with pytest.raises(DBAPIError, match="no tags"):
            instance.event_log_storage.store_event_batch(batch("materialized", 1, SIZE))
        left = [home.rows(shard, "SELECT id FROM event_logs") for shard in ("index", RUN_ID)]
        with closing(sqlite3.connect(home.database("index"))) as connection:
            connection.execute("DROP TRIGGER refuse")
        for event in batch("materialized", 1, SIZE):
            instance.event_log_storage.store_event(event)

    assert left == [[], []]
    assert disagreements(home) == []
    assert keys_of(home, "materialized", "index").total() == SIZE


def test_a_batch_of_several_runs_and_kinds_is_stored_one_by_one(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    began = dg.DagsterEvent(dg.DagsterEventType.ENGINE_EVENT.value, "shares", event_specific_data=EngineEventData())

    with home.instance() as instance:
        instance.event_log_storage.store_event_batch([materialized("0|S0"), materialized("0|S1", OTHER), entry(began)])

    assert [disagreements(home, run_id) for run_id in (RUN_ID, OTHER)] == [[], []]
    assert len(home.rows("index", "SELECT id FROM event_logs")) == 2
    assert len(home.rows(RUN_ID, "SELECT id FROM event_logs")) == 2


@pytest.mark.parametrize("writers", [2, 4])
def test_several_writers_and_a_reader_do_not_lock_each_other_out(tmp_path: Path, writers: int) -> None:
    home = Home.at(tmp_path / "home", BATCHED)
    runs = [f"0f8fad5b-d9cb-469f-a165-00000000000{number}" for number in range(writers)]
    with home.instance() as instance:
        for run_id in runs:
            started_run(instance, run_id)
        processes = [CONTEXT.Process(target=write_and_succeed, args=(home.folder, run_id)) for run_id in runs]
        for process in processes:
            process.start()
        polls = 0
        while any(process.is_alive() for process in processes):
            instance.fetch_materializations(ASSET, limit=50)
            instance.get_records_for_run(runs[polls % writers], limit=50)
            polls += 1

    assert [process.exitcode for process in processes] == [0] * writers
    assert polls > 10
    assert [found for run_id in runs for found in disagreements(home, run_id)] == []
    assert keys_of(home, "materialized", "index").total() == writers * BATCHES * 100


def write_and_succeed(folder: Path, run_id: str) -> None:
    """The target of a process."""
    with Home(folder).instance() as instance:
        for number in range(BATCHES):
            instance.event_log_storage.store_event_batch(batch("planned", number, 100, run_id))
            instance.event_log_storage.store_event_batch(batch("materialized", number, 100, run_id))
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run_id=run_id
        )


MATERIALIZATIONS = Work(store_batches, ("materialized",))
PLANNED = Work(store_batches, ("planned",))


@pytest.mark.skipif(shutil.which("strace") is None, reason="kills before a chosen write need strace")
@pytest.mark.parametrize("work", [PLANNED, MATERIALIZATIONS], ids=["planned", "materialized"])
def test_a_batch_whose_process_is_killed_between_its_files_is_whole_or_not_there(tmp_path: Path, work: Work) -> None:
    files = work.writes(tmp_path / "writes")
    to_run = files.index(f"{RUN_ID}.db-wal") + 1
    after_both = files.index("index.db", to_run) + 1

    killed = {
        write: work.kill_before(tmp_path / f"{write}", write, files[write - 1])
        for write in (to_run - 1, to_run, after_both)
    }

    assert [each.problems for each in killed.values()] == [[]] * 3


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.3])
def test_batches_whose_process_is_killed_at_any_moment_are_whole_or_not_there(tmp_path: Path, seconds: float) -> None:
    killed = Work(store_batches, ("planned", "materialized"), 200).kill_after(tmp_path / "home", seconds)

    assert killed.problems == []


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_a_run_that_is_killed_leaves_both_files_in_agreement(tmp_path: Path, seconds: float) -> None:
    killed = Work(store_run, rounds=31).kill_after(tmp_path / "home", seconds)

    assert killed.problems == []
