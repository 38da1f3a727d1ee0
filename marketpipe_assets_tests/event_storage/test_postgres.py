"""On Postgres a batch is stored as Dagster stores it, whole or not at all, whoever dies or waits."""

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from marketpipe_assets.event_storage.postgres import BatchedPostgresEventLogStorage
from marketpipe_assets.event_storage.versions import is_tested
from marketpipe_assets_tests.event_storage.graph import run_range
from marketpipe_assets_tests.event_storage.kills import CONTEXT, SIZE, Work, postgres_home, recover, store_batches
from marketpipe_assets_tests.event_storage.logs import (
    ASSET,
    BATCHED_POSTGRES,
    RUN_ID,
    STOCK_POSTGRES,
    Home,
    batch,
    disagreements,
    keys_of,
    materialized,
    started_run,
)
from marketpipe_assets_tests.event_storage.test_faults import KILOBYTE, fill, write_and_succeed
from marketpipe_assets_tests.event_storage.test_like_stock import answers
from marketpipe_assets_tests.postgres import SERVER_USER, Server

LARGE = 400  # events: more pages than a table has free
SECOND = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture(autouse=True)
def batch_size_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's own storage gathers events as well then, so that ids are given in one order."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")


def test_runs_leave_the_same_rows_and_answers(tmp_path: Path, server: Server) -> None:
    tables, told = [], []
    for name, settings in (("stock", STOCK_POSTGRES), ("batched", BATCHED_POSTGRES)):
        home = postgres_home(server, tmp_path / name, settings)
        with home.instance() as instance:
            assert run_range(instance, 2)
            assert not run_range(instance, 1, "breaking", SECOND)
            instance.report_runless_asset_event(dg.AssetMaterialization("bars", partition="2024-01-02|ACME"))
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=dg.AssetKey("bars"), check_name="complete", passed=True)
            )
            told.append(answers(instance))
        tables.append(home.tables(""))

    assert tables[1] == tables[0]
    assert told[1] == told[0]
    assert len(tables[1]["event_logs ORDER BY id"]) > 50


def test_either_storage_goes_on_with_the_tables_of_the_other(tmp_path: Path, server: Server) -> None:
    home = postgres_home(server, tmp_path / "home", STOCK_POSTGRES)

    for number, settings in enumerate((STOCK_POSTGRES, BATCHED_POSTGRES, STOCK_POSTGRES)):
        home.use(settings)
        with home.instance() as instance:
            assert isinstance(instance.event_log_storage, BatchedPostgresEventLogStorage) == (number == 1)
            assert run_range(instance, 1, run_id=f"{RUN_ID[:-1]}{number}")
            instance.report_runless_asset_event(dg.AssetMaterialization("bars", partition="2024-01-02|ACME"))

    assert [disagreements(home, f"{RUN_ID[:-1]}{number}") for number in range(3)] == [[], [], []]
    ids = [number for (number,) in home.rows("", "SELECT id FROM event_logs ORDER BY id")]
    assert len(set(ids)) == len(ids) > 100


def test_an_untested_version_gets_dagsters_storage(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dg, "__version__", "1.14.0")
    is_tested.cache_clear()

    with postgres_home(server, tmp_path / "home").instance() as instance, caplog.at_level(logging.WARNING):
        storage = instance.event_log_storage
    is_tested.cache_clear()

    assert type(storage) is PostgresEventLogStorage
    assert "this is 1.14.0" in caplog.text


def test_text_of_every_kind_is_stored_as_it_is(tmp_path: Path, server: Server) -> None:
    keys = ["tab\t", "line\nline", "return\r", "back\\slash", "\\N", '"quoted"', "é→日"]
    home = postgres_home(server, tmp_path / "home")

    with home.instance() as instance:
        started_run(instance)
        instance.event_log_storage.store_event_batch([materialized(f"{key}|{key}") for key in keys])
        found = instance.fetch_materializations(ASSET, limit=10, ascending=True).records

    assert [record.partition_key for record in found] == [f"{key}|{key}" for key in keys]


def test_an_error_within_a_batch_leaves_nothing_of_it_and_its_events_are_stored_once(
    tmp_path: Path, server: Server
) -> None:
    home = postgres_home(server, tmp_path / "home")
    with home.instance() as instance:
        started_run(instance)
        execute(home, "ALTER TABLE asset_event_tags ADD CONSTRAINT refuse CHECK (value <> 'S3')")
        with pytest.raises(DBAPIError, match="refuse"):
            instance.event_log_storage.store_event_batch(batch("materialized", 1, SIZE))
        left = home.rows("", "SELECT id FROM event_logs")
        execute(home, "ALTER TABLE asset_event_tags DROP CONSTRAINT refuse")
        for event in batch("materialized", 1, SIZE):
            instance.event_log_storage.store_event(event)

    assert left == []
    assert disagreements(home) == []
    assert keys_of(home, "materialized", "index").total() == SIZE


@pytest.mark.parametrize("free", [pytest.param(0, id="for none of it"), pytest.param(450, id="for half of it")])
def test_a_disk_with_too_little_room_loses_and_doubles_nothing(
    tmp_path: Path, server: Server, small_disk: Path, free: int
) -> None:
    server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    server.execute("CREATE DATABASE small TABLESPACE small")
    home = Home.at(tmp_path / "home", BATCHED_POSTGRES, server.url("small"))
    try:
        with home.instance() as instance:
            started_run(instance)
            filler = fill(small_disk, free * KILOBYTE)
            with pytest.raises(OperationalError, match="No space left on device"):
                instance.event_log_storage.store_event_batch(batch("materialized", 1, LARGE))
            left = home.rows("", "SELECT id FROM event_logs WHERE asset_key IS NOT NULL")
            filler.unlink()
            instance.event_log_storage.store_event_batch(batch("materialized", 1, LARGE))
        apart, stored = disagreements(home), keys_of(home, "materialized", "index").total()
    finally:
        server.execute("DROP DATABASE small WITH (FORCE)")
        server.execute("DROP TABLESPACE small")

    assert left == []
    assert apart == []
    assert stored == LARGE


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    disk = server.folder / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of 16 MB cannot be mounted here: {mounted.stderr.strip()}")
    shutil.chown(disk, SERVER_USER)
    yield disk
    subprocess.run(["umount", disk], check=True)
    disk.rmdir()


def execute(home: Home, statement: str) -> None:
    with create_engine(home.url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(statement)


def test_several_writers_do_not_hide_events_from_who_asks_for_the_next(tmp_path: Path, server: Server) -> None:
    writers = 3
    home = postgres_home(server, tmp_path / "home")
    runs = [f"0f8fad5b-d9cb-469f-a165-00000000000{number}" for number in range(writers)]
    seen, cursor = list[int](), None
    with home.instance() as instance:
        for run_id in runs:
            started_run(instance, run_id)
        processes = [CONTEXT.Process(target=write_and_succeed, args=(home.folder, run_id)) for run_id in runs]
        for process in processes:
            process.start()
        more = True
        while more or any(process.is_alive() for process in processes):
            page = instance.fetch_materializations(ASSET, limit=50, cursor=cursor, ascending=True)
            seen += [record.storage_id for record in page.records]
            cursor, more = page.cursor, page.has_more or bool(page.records)

    assert [process.exitcode for process in processes] == [0] * writers
    assert [found for run_id in runs for found in disagreements(home, run_id)] == []
    stored = home.rows("", "SELECT id FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id")
    assert seen == [number for (number,) in stored]
    assert len(seen) == keys_of(home, "materialized", "index").total() > 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="kills before a chosen write need strace")
def test_a_batch_whose_process_is_killed_before_it_sends_is_whole_or_not_there(tmp_path: Path, server: Server) -> None:
    work = Work(store_batches, ("planned", "materialized")).on(server)
    sent = len(work.writes(tmp_path / "sent"))

    killed = [work.kill_before(tmp_path / f"{write}", write, "server") for write in (sent // 2, sent - 2, sent - 1)]

    assert [each.problems for each in killed] == [[]] * 3


def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing(tmp_path: Path, server: Server) -> None:
    home = postgres_home(server, tmp_path / "home")
    with home.instance() as instance:
        started_run(instance)
        writer = threading.Thread(target=store_all, args=(instance, [batch("materialized", n, 100) for n in range(20)]))
        writer.start()
        time.sleep(0.2)
        server.kill()
        server.start()
        writer.join()
    recover(home)

    assert disagreements(home) == []
    assert set(keys_of(home, "materialized", "index").values()) == {1}
    assert keys_of(home, "materialized", "index").total() == 2000


def store_all(instance: dg.DagsterInstance, batches: Sequence[Sequence[dg.EventLogEntry]]) -> None:
    """As a run does, which stores the events of a batch one by one after an error."""
    for events in batches:
        try:
            instance.event_log_storage.store_event_batch(events)
        except DBAPIError:
            for event in events:
                instance.event_log_storage.store_event(event)
