"""The sensor of a drop folder: what it reads when files come, and what it waits for."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs import new_files
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets_tests.defs.location import MARKET, Location, regular_minutes

LONG_AGO = "2020-01-01T00:00:00+00:00"


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setattr(new_files, "SETTLED", new_files.SETTLED * 0)  # a test does not wait for it
    return Location(tmp_path, more="retention: {1m: 10y}")


def tick(location: Location, cursor: str | None = LONG_AGO) -> SensorExecutionData:
    repository = definitions_of(location.config).get_repository_def()
    resources = {"catalog": repository.get_top_level_resources()["catalog"]}
    sensor = repository.get_sensor_def("shares_new_files_of_given")
    with dg.build_sensor_context(
        location.instance, cursor=cursor, repository_def=repository, resources=resources
    ) as context:
        return sensor.evaluate_tick(context)


def read(location: Location, data: SensorExecutionData) -> set[tuple[str, date]]:
    grid = Grid(location.config.markets[MARKET])
    runs = [grid.tagged(each.tags) for each in data.run_requests or ()]
    return {(symbol, day) for run in runs if run is not None for symbol in run.symbols for day in run.dates}


def test_file_with_a_symbol_and_a_date_in_its_path_is_read_for_those(location: Location) -> None:
    folder = location.vendor / "bolt"
    folder.mkdir()
    regular_minutes("2024-01-09").write_parquet(folder / "20240109.parquet")

    assert read(location, tick(location)) == {("BOLT", date(2024, 1, day)) for day in (8, 9, 10)}


def test_file_without_a_date_is_read_for_what_the_ledger_lacks_of_its_symbol(location: Location) -> None:
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")

    days = read(location, tick(location))

    assert {symbol for symbol, _ in days} == {"ACME"}
    assert ("ACME", date(2024, 1, 2)) not in days
    assert ("ACME", date(2024, 1, 3)) in days


def test_session_that_was_fetched_empty_is_read_again_when_its_file_comes(location: Location) -> None:
    location.run("2024-01-02|ACME")
    location.give("ACME", regular_minutes("2024-01-02"))

    assert ("ACME", date(2024, 1, 2)) in read(location, tick(location))


def test_file_is_read_once(location: Location) -> None:
    location.give("ACME", regular_minutes("2024-01-02"))
    first = tick(location)

    second = tick(location, first.cursor)

    assert second.skip_message == "no new file"


def test_file_that_comes_while_a_run_reads_is_read_when_that_has_ended(location: Location) -> None:
    location.give("ACME", regular_minutes("2024-01-02"))
    tags = Grid(location.config.markets[MARKET]).tags(Selection(["ACME"], [date(2024, 1, 2)]))
    run = dg.DagsterRun("shares_ingest", status=dg.DagsterRunStatus.STARTED, tags=dict(tags))
    location.instance.add_run(run)

    waiting = tick(location)
    location.instance.delete_run(run.run_id)

    assert waiting.skip_message == "1 new files wait for runs of 1 of their symbol-days to end"
    assert waiting.cursor == LONG_AGO
    assert ("ACME", date(2024, 1, 2)) in read(location, tick(location, waiting.cursor))


def test_file_that_is_still_being_written_is_waited_for(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    location.give("ACME", regular_minutes("2024-01-02"))

    assert tick(location).skip_message == "1 files are still being written"


def test_market_without_a_folder_of_files_has_no_such_sensor(tmp_path: Path) -> None:
    repository = definitions_of(Location(tmp_path, provider="{type: synthetic}").config).get_repository_def()

    assert not [each for each in repository.sensor_defs if "new_files" in each.name]
