"""The files of a run and of the index: made as Dagster makes them, and held open no longer than the run is stored."""

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import dagster as dg
import pytest

from marketpipe_assets_tests.event_storage.graph import run_range
from marketpipe_assets_tests.event_storage.kills import PATIENCE
from marketpipe_assets_tests.event_storage.logs import (
    BATCHED,
    RUN_ID,
    STOCK,
    Home,
    batch,
    disagreements,
    entry,
    keys_of,
    materialized,
    started_run,
)
from marketpipe_assets_tests.event_storage.test_like_stock import answers

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
OPEN = Path("/proc/self/fd")
SEES_OPEN_FILES = pytest.mark.skipif(not OPEN.exists(), reason="what a process has open is told by /proc only")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home", BATCHED)


def open_files(home: Home) -> list[str]:
    """The databases below the home that this process has open."""
    return sorted(set(_open_files(home.folder / "history" / "runs")))


def _open_files(folder: Path) -> Iterator[str]:
    for each in OPEN.iterdir():
        if each.is_symlink() and (path := each.readlink()).is_relative_to(folder):
            yield path.name


def test_the_file_of_a_run_has_the_tables_of_dagster(tmp_path: Path) -> None:
    made = []
    for name, settings in (("stock", STOCK), ("batched", BATCHED)):
        home = Home.at(tmp_path / name, settings)
        with home.instance() as instance:
            started_run(instance)
            instance.event_log_storage.store_event(materialized("0|S0"))
        queries = (SCHEMA, "SELECT * FROM alembic_version", "PRAGMA journal_mode", "PRAGMA user_version")
        made.append([home.rows(RUN_ID, query) for query in queries])

    assert made[1] == made[0]
    assert len(made[0][0]) > 20


def test_a_file_whose_tables_were_left_unfinished_is_finished(home: Home) -> None:
    with home.instance() as instance:
        started_run(instance)
        with closing(sqlite3.connect(home.database(RUN_ID))) as connection, connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        instance.event_log_storage.store_event(materialized("0|S0"))

    assert disagreements(home) == []
    assert len(home.rows(RUN_ID, "SELECT * FROM alembic_version")) == 1


def test_between_events_no_transaction_is_open(home: Home) -> None:
    with home.instance() as instance:
        started_run(instance)
        instance.event_log_storage.store_event_batch(batch("materialized", 0, 5))
        instance.event_log_storage.get_asset_records()
        run_range(instance, 1, run_id="7c9e6679-7425-40de-944b-e07fc1f90ae7")
        instance.event_log_storage.store_event_batch(batch("planned", 0, 5))
        instance.event_log_storage.store_event(entry(failure()))
        instance.all_asset_keys()
        moved = [home.rows(shard, "PRAGMA wal_checkpoint(TRUNCATE)") for shard in ("index", RUN_ID)]

    assert moved == [[(0, 0, 0)], [(0, 0, 0)]]


def failure() -> dg.DagsterEvent:
    return dg.DagsterEvent(dg.DagsterEventType.STEP_UP_FOR_RETRY.value, "shares", step_key="bars")


@SEES_OPEN_FILES
def test_files_are_let_go_when_their_run_ends_and_with_the_instance(home: Home) -> None:
    with home.instance() as instance:
        run = started_run(instance)
        instance.event_log_storage.store_event_batch(batch("planned", 0, 5))
        during = open_files(home)
        instance.report_run_failed(run)
        ended = open_files(home)
        for each in range(9):
            instance.event_log_storage.store_event(materialized("0|S0", f"{RUN_ID[:-1]}{each}"))
            answers_of_index = instance.get_materialized_partitions(dg.AssetKey(["shares", "bars_1d"]))
        last = open_files(home)
    after = open_files(home)

    names = ["index.db", "index.db-shm", "index.db-wal"]
    assert during == sorted([*names, *(f"{RUN_ID}.db{end}" for end in ("", "-shm", "-wal"))])
    assert last == sorted([*names, *(f"{RUN_ID[:-1]}8.db{end}" for end in ("", "-shm", "-wal"))])
    assert (ended, after) == ([], [])
    assert answers_of_index == {"0|S0"}


@SEES_OPEN_FILES
def test_a_process_that_forks_leaves_its_child_no_open_file(home: Home) -> None:
    forking = multiprocessing.get_context("fork")
    told: SimpleQueue[list[str]] = forking.SimpleQueue()
    with home.instance() as instance:
        started_run(instance)
        instance.event_log_storage.store_event_batch(batch("planned", 0, 5))
        assert open_files(home)
        child = forking.Process(target=lambda: told.put(open_files(home)))
        child.start()
        child.join(PATIENCE)
        instance.event_log_storage.store_event_batch(batch("planned", 1, 5))

    assert told.get() == []
    assert keys_of(home, "planned", "index").total() == 10
    assert disagreements(home) == []


def test_files_that_are_removed_meanwhile_are_made_anew(home: Home) -> None:
    with home.instance() as instance:
        started_run(instance)
        instance.event_log_storage.store_event_batch(batch("materialized", 0, 5))
        for path in home.database(RUN_ID).parent.glob("*"):
            path.unlink()
        instance.event_log_storage.store_event_batch(batch("materialized", 1, 5))

    assert keys_of(home, "materialized", "index") == keys_of(home, "materialized", RUN_ID)
    assert keys_of(home, "materialized", "index").total() == 5


def test_a_wiped_log_can_be_written_again(home: Home) -> None:
    with home.instance() as instance:
        started_run(instance)
        instance.event_log_storage.store_event_batch(batch("materialized", 0, 5))
        instance.event_log_storage.delete_events(RUN_ID)
        instance.event_log_storage.store_event_batch(batch("materialized", 1, 5))
        instance.event_log_storage.wipe()
        assert not home.database(RUN_ID).exists()
        instance.event_log_storage.store_event_batch(batch("materialized", 2, 5))

    assert set(keys_of(home, "materialized", "index")) == {f"2|S{each}" for each in range(5)}
    assert disagreements(home) == []


def test_who_follows_a_run_is_told_of_its_events_before_it_ends(home: Home) -> None:
    told = list[str | None]()
    with home.instance() as writer, home.instance() as reader:
        started_run(writer)
        writer.event_log_storage.store_event(materialized("0|S0"))
        reader.event_log_storage.watch(RUN_ID, None, lambda event, _: told.append(event.get_dagster_event().partition))
        writer.event_log_storage.store_event(materialized("0|S1"))
        deadline = time.monotonic() + PATIENCE
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

    assert told == ["0|S0", "0|S1"]


def test_what_is_asked_while_a_run_is_stored_is_answered_from_all_of_it(home: Home) -> None:
    with home.instance() as instance:
        assert run_range(instance, 2)
        ended = answers(instance)
        instance.event_log_storage.store_event(entry(failure()))  # from here on the files are held
        assert answers(instance) == ended
