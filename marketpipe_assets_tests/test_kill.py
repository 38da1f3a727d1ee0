"""A run that is killed loses nothing that Dagster calls materialized, and the next run completes it."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.defs.ledger import recover
from marketpipe_assets.lake.scan import bar_counts
from marketpipe_assets.metrics.sources import history_samples
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
from marketpipe_assets_tests.lake.rows import MARKET

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


def test_lake_ledger_and_counts_agree_on_what_killed_runs_committed(tmp_path: Path, reference: Reference) -> None:
    project = Project.at(tmp_path / "project")
    config = load_config(project.folder / "marketpipe.yaml")
    catalog = Catalog(config.catalog_url)

    for share in KILLS:
        kill_ingest(project, reference, share * reference.seconds)
        with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
            for run in instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES))):
                instance.report_run_failed(run)  # the daemon's run monitoring does
            recover(catalog, project.lake, config.markets, instance)

        found = {(each.metric, *each.labels): each.value[0] for each in history_samples(config, catalog, now())}
        stored = bar_counts(project.lake, MARKET, "raw_bars_1m", SYMBOLS, DAYS)["bars"].sum()
        assert found["mp_bars", MARKET, "all", "raw_bars_1m"] == stored
        assert found["mp_ingest_rows_total", "synthetic", "synthetic"] == stored


def now() -> datetime:
    return datetime.now(UTC)
