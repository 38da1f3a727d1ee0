"""A run that is killed loses nothing that Dagster calls materialized, and the next run completes it."""

from pathlib import Path

import pytest

from marketpipe_assets_tests.faults import (
    DAYS,
    SYMBOLS,
    Project,
    Reference,
    completion,
    damaged_files,
    finish,
    kill_ingest,
    of_day,
    uninterrupted,
)

KILLS = (0.15, 0.4, 0.6, 0.85)
"""When runs are killed, as shares of the time an uninterrupted one takes."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return uninterrupted(Project.at(tmp_path_factory.mktemp("reference") / "project"))


def test_runs_that_are_killed_lose_nothing_and_the_next_one_completes_them(
    tmp_path: Path, reference: Reference
) -> None:
    project = Project.at(tmp_path / "project")

    kills = [kill_ingest(project, reference, share * reference.seconds) for share in KILLS]

    assert [killed.problems for killed in kills] == [[]] * len(KILLS)
    assert completion(project, reference) == []


def test_two_runs_at_once_on_days_of_one_month_keep_both_days(tmp_path: Path, reference: Reference) -> None:
    project = Project.at(tmp_path / "project")
    symbol, days = SYMBOLS[0], DAYS[:2]

    runs = [project.materialize("--partition", f"{day}|{symbol}") for day in days]
    for run in runs:
        finish(project, run)

    assert damaged_files(project.lake) == []
    stored = project.bars()
    for table, bars in reference.bars.items():
        for day in days:
            assert of_day(stored[table], symbol, day).equals(of_day(bars, symbol, day)), f"{table} of {day}"
