"""Both storages leave the same rows in the same files, and answer the same."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from marketpipe_assets.config import load_config
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.event_storage import BatchedSqliteEventLogStorage
from marketpipe_assets_tests.event_storage.graph import DATES, DEFINITIONS, PARTITIONS, SILENT, SYMBOLS, run_range
from marketpipe_assets_tests.event_storage.logs import BATCHED, RUN_ID, STOCK, Home, Row, disagreements

BARS = dg.AssetKey("bars")
SECOND = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
RUNS = [(days, f"7c9e6679-7425-40de-944b-00000000000{days}") for days in (2, 3, 4, 1)]
CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  synthetic: {seed: 1}
markets:
  us_equities:
    calendar: XNYS
    asset_class: equity
    provider: synthetic
    symbols: [AAPL, MSFT]
    start: 2024-01-02
    timeframes: [5m, 1d]
"""


@pytest.fixture(autouse=True)
def batch_size_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)


def on_both(folder: Path, work: Callable[[dg.DagsterInstance], object]) -> Sequence[Home]:
    """A home of either storage after the work."""
    homes = [Home.at(folder / "stock", STOCK), Home.at(folder / "batched", BATCHED)]
    for home in homes:
        with home.instance() as instance:
            work(instance)
        os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
    return homes


def in_any_order(tables: Mapping[str, list[Row]]) -> Mapping[str, list[Row]]:
    """The events of a run's file without their ids: Dagster holds those of a batch back and stores others meanwhile."""
    return {**tables, "event_logs": sorted((row[1:] for row in tables["event_logs"]), key=str)}


@pytest.mark.parametrize("days", [1, 4])
def test_a_run_leaves_the_same_rows(tmp_path: Path, days: int) -> None:
    stock, batched = on_both(tmp_path, lambda instance: run_range(instance, days))

    assert batched.tables("index") == stock.tables("index")
    assert in_any_order(batched.tables(RUN_ID)) == in_any_order(stock.tables(RUN_ID))
    assert disagreements(batched) == []


def test_runs_that_fail_leave_the_same_rows(tmp_path: Path) -> None:
    def work(instance: dg.DagsterInstance) -> None:
        run_range(instance, 2)
        assert not run_range(instance, 3, "breaking", SECOND)

    stock, batched = on_both(tmp_path, work)

    assert batched.tables("index") == stock.tables("index")
    assert in_any_order(batched.tables(SECOND)) == in_any_order(stock.tables(SECOND))


def test_the_market_leaves_the_same_rows(tmp_path: Path) -> None:
    def work(instance: dg.DagsterInstance) -> None:
        folder = Path(instance.root_directory)
        (folder / "marketpipe.yaml").write_text(CONFIGURATION)
        job = definitions_of(load_config(folder / "marketpipe.yaml")).resolve_job_def("us_equities_ingest")
        keys = {"start": "2024-01-02|AAPL", "end": "2024-01-04|MSFT"}
        tags = {f"dagster/asset_partition_range_{name}": key for name, key in keys.items()}
        assert job.execute_in_process(instance=instance, run_id=RUN_ID, tags=tags, run_config=SILENT).success

    stock, batched = on_both(tmp_path, work)

    assert batched.tables("index") == stock.tables("index")
    assert in_any_order(batched.tables(RUN_ID)) == in_any_order(stock.tables(RUN_ID))
    assert len(batched.rows("index", "SELECT id FROM asset_event_tags")) > 0


def test_freshness_is_judged_and_kept_alike(tmp_path: Path) -> None:
    node = DEFINITIONS.resolve_asset_graph().get(BARS)
    judged = list[object]()

    def work(instance: dg.DagsterInstance) -> None:
        run_range(instance, 1)
        evaluator = TimeWindowFreshnessPolicyEvaluator()
        state = asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node))
        change = FreshnessStateChange(
            key=BARS, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=1.0
        )
        instance.report_runless_asset_event(change)
        judged.append((state, instance.event_log_storage.get_freshness_state_records([BARS]).keys()))

    stock, batched = on_both(tmp_path, work)

    assert judged[1] == judged[0]
    assert judged[0] == (FreshnessState.PASS, {BARS})
    assert batched.tables("index") == stock.tables("index")


def test_events_reported_outside_a_run_leave_the_same_rows(tmp_path: Path) -> None:
    def work(instance: dg.DagsterInstance) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization("bars", partition="2024-01-02|ACME"))
        instance.report_runless_asset_event(dg.AssetObservation("bars", partition="2024-01-02|ACME"))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey("bars"), check_name="complete", passed=True)
        )

    stock, batched = on_both(tmp_path, work)

    assert batched.tables("index") == stock.tables("index")
    assert batched.tables("") == stock.tables("")


@dg.asset_sensor(asset_key=BARS, job_name="reporting", default_status=dg.DefaultSensorStatus.RUNNING)
def bars_sensor(context: dg.SensorEvaluationContext, event: dg.EventLogEntry) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{context.cursor} {event.get_dagster_event().partition}")


def answers(instance: dg.DagsterInstance) -> Mapping[str, object]:
    """What sensors, schedules, checks, freshness and the UI ask of the log."""
    log = instance.event_log_storage
    (record,) = instance.get_asset_records([BARS])
    last = record.asset_entry.last_materialization_record
    key = dg.AssetRecordsFilter(BARS, asset_partitions=[f"{DATES[0]}|{SYMBOLS[0]}"])
    cache = get_and_update_asset_status_cache_value(instance, BARS, PARTITIONS)
    sensed = bars_sensor.evaluate_tick(dg.build_sensor_context(instance, definitions=DEFINITIONS))
    observed = instance.fetch_observations(dg.AssetKey("raw"), limit=100).records
    succeeded = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=10)
    checks = log.get_asset_check_execution_history(dg.AssetCheckKey(BARS, "fresh"), limit=5)
    return {
        "pages of materializations": list(pages(instance)),
        "materializations of one key": [
            each.storage_id for each in instance.fetch_materializations(key, limit=9).records
        ],
        "keys": instance.get_materialized_partitions(BARS),
        "last": last and (last.storage_id, last.partition_key, last.run_id),
        "status cache": cache and cache._replace(partitions_def_id=None),
        "sensor": ([each.run_key for each in sensed.run_requests or []], sensed.cursor),
        "observations": [(each.storage_id, each.partition_key) for each in observed],
        "runs that succeeded": ([(each.storage_id, each.run_id) for each in succeeded.records], succeeded.cursor),
        "checks": [(each.status, each.run_id) for each in checks],
        "steps": [(each.step_key, each.status) for each in instance.get_run_step_stats(RUN_ID)],
        "planned": log.get_latest_planned_materialization_info(BARS, f"{DATES[1]}|{SYMBOLS[1]}"),
        "failed and in progress": log.get_latest_asset_partition_materialization_attempts_without_materializations(
            BARS
        ),
    }


def pages(instance: dg.DagsterInstance) -> Iterator[list[int]]:
    cursor: str | None = None
    more = True
    while more:
        page = instance.fetch_materializations(BARS, limit=5, cursor=cursor, ascending=True)
        cursor, more = page.cursor, page.has_more
        yield [each.storage_id for each in page.records]


def test_what_sensors_checks_and_the_ui_ask_is_answered_alike(tmp_path: Path) -> None:
    told = list[Mapping[str, object]]()

    def work(instance: dg.DagsterInstance) -> None:
        run_range(instance, 4)
        told.append(answers(instance))

    on_both(tmp_path, work)

    stock, batched = told
    assert batched == stock
    assert len(stock["pages of materializations"]) == 3  # type: ignore[arg-type]  # a list


def test_either_storage_goes_on_with_the_files_of_the_other(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home", STOCK)
    stock, _ = on_both(tmp_path, lambda instance: [run_range(instance, days, run_id=run) for days, run in RUNS])

    for (days, run_id), settings in zip(RUNS, (STOCK, BATCHED, STOCK, BATCHED), strict=True):
        home.use(settings)
        with home.instance() as instance:
            assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage) == (settings == BATCHED)
            run_range(instance, days, run_id=run_id)

    assert home.tables("index") == stock.tables("index")
    assert [found for _, run_id in RUNS for found in disagreements(home, run_id)] == []
