"""What the metrics say is what the catalogue, the instance, the quota and the lake hold."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import asked
from marketpipe_assets.config import Config
from marketpipe_assets.metrics.names import METRICS, Sample, families
from marketpipe_assets.metrics.sources import (
    held_samples,
    history_samples,
    lake_samples,
    quota_samples,
    run_samples,
)
from marketpipe_assets.providers.base import Rate
from marketpipe_assets.providers.quota import Bucket, quota_left
from marketpipe_assets_tests.metrics.ledger import (
    CONFIGURATION,
    ask,
    catalog_of,
    commit,
    configured,
    hold,
    note_pruned,
    spend,
)

FRIDAY_EVENING = datetime(2024, 1, 5, 22, tzinfo=UTC)
THURSDAY, FRIDAY = date(2024, 1, 4), date(2024, 1, 5)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


@pytest.fixture
def catalog(config: Config) -> Catalog:
    return catalog_of(config)


Values = dict[tuple[str, ...], Any]


def values(samples: Iterable[Sample]) -> Values:
    """Name and labels → value."""
    return {
        (each.metric, *each.labels): each.value[0] if len(each.value) == 1 else each.value for each in list(samples)
    }


def test_a_market_that_holds_its_newest_session_is_fresh(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", FRIDAY)

    found = values(held_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_freshness_seconds", "shares"] == 0
    assert found["mp_sessions_behind", "shares"] == 0
    assert found["mp_newest_session_timestamp_seconds", "shares"] == datetime(2024, 1, 5, 21, tzinfo=UTC).timestamp()


def test_a_market_is_late_since_its_oldest_session_that_is_due(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", date(2024, 1, 3))

    found = values(held_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_freshness_seconds", "shares"] == 25 * 3600
    assert found["mp_sessions_behind", "shares"] == 2


def test_a_session_of_which_nothing_came_is_not_held(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", date(2024, 1, 3))
    hold(catalog, "ACME", FRIDAY, received=0, valid=0, missing=390, raw_bars=0, valid_bars=0)

    assert values(held_samples(config, catalog, FRIDAY_EVENING))["mp_sessions_behind", "shares"] == 2


def test_a_session_that_is_not_over_is_not_due(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", THURSDAY)

    assert (
        values(held_samples(config, catalog, datetime(2024, 1, 5, 15, tzinfo=UTC)))["mp_sessions_behind", "shares"] == 0
    )


def test_coverage_is_of_what_was_fetched_and_names_what_was_not(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", THURSDAY)
    hold(catalog, "ACME", FRIDAY, received=351, valid=351, missing=39, no_trade=30, vendor_gap=9)

    found = values(held_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_coverage_ratio", "shares", "1"] == 0.9
    assert found["mp_coverage_ratio", "shares", "20"] == 0.95
    assert found["mp_missing_minutes", "shares", "20", "no_trade"] == 30
    assert found["mp_missing_minutes", "shares", "20", "vendor_gap"] == 9
    assert found["mp_symbol_days", "shares", "20", "due"] == 8
    assert found["mp_symbol_days", "shares", "20", "fetched"] == 2
    assert found["mp_gaps", "shares"] == 1
    assert found["mp_limit_ratio", "shares", "coverage"] == 0.9


def test_sessions_out_of_a_listing_and_pruned_ones_are_not_due(tmp_path: Path) -> None:
    config = configured(tmp_path, f"{CONFIGURATION}    listings: {{BOLT: {{end: 2024-01-04}}}}\n")
    catalog = catalog_of(config)
    note_pruned(catalog, "ACME", date(2024, 1, 2))
    for symbol, day in (("ACME", date(2024, 1, 2)), ("ACME", FRIDAY), ("BOLT", FRIDAY)):
        hold(catalog, symbol, day)

    found = values([*held_samples(config, catalog, FRIDAY_EVENING), *history_samples(config, catalog, FRIDAY_EVENING)])

    days = {key[2:]: value for key, value in found.items() if key[0] == "mp_symbol_days"}
    assert {sessions: (days[sessions, "due"], days[sessions, "fetched"]) for sessions in ("1", "20", "all")} == {
        "1": (1, 1),
        "20": (5, 1),
        "all": (5, 1),
    }


def test_quarantined_share_is_of_raw_bars(config: Config, catalog: Catalog) -> None:
    hold(catalog, "ACME", FRIDAY, valid_bars=390, quarantined_bars=10)

    found = values(held_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_quarantined_ratio", "shares", "20"] == 0.025
    assert found["mp_bars", "shares", "1", "quarantined_bars_1m"] == 10


def test_an_empty_ledger_has_no_ratio_and_everything_is_due(config: Config, catalog: Catalog) -> None:
    found = values(held_samples(config, catalog, FRIDAY_EVENING))

    assert ("mp_coverage_ratio", "shares", "20") not in found
    assert found["mp_sessions_behind", "shares"] == 4


def test_a_gap_that_was_asked_for_and_filled_counts_with_its_seconds(config: Config, catalog: Catalog) -> None:
    ask_again(catalog, "ACME", FRIDAY, FRIDAY_EVENING)
    hold(catalog, "ACME", FRIDAY, fetched_at=FRIDAY_EVENING + timedelta(seconds=7))
    ask_again(catalog, "ACME", THURSDAY, FRIDAY_EVENING)
    hold(catalog, "ACME", THURSDAY, fetched_at=FRIDAY_EVENING + timedelta(seconds=7), vendor_gap=9)
    ask_again(catalog, "BOLT", FRIDAY, FRIDAY_EVENING)
    hold(catalog, "BOLT", FRIDAY, fetched_at=FRIDAY_EVENING - timedelta(seconds=7))

    buckets, seconds = values(history_samples(config, catalog, FRIDAY_EVENING))[
        "mp_backfill_gap_latency_seconds", "given"
    ]

    assert seconds == 7
    assert dict(buckets) == {"0.5": 0, "1": 0, "2": 0, "5": 0, "10": 1, "30": 1, "60": 1, "120": 1, "+Inf": 1}


def ask_again(catalog: Catalog, symbol: str, day: date, at: datetime) -> None:
    row = {"market": "shares", "symbol": symbol, "session_date": day, "tries": 1, "last_asked_at": at, "outcome": "gap"}
    with catalog.begin() as connection:
        upsert(connection, asked, pl.DataFrame([row]))


def test_counts_are_sums_of_what_runs_committed(config: Config, catalog: Catalog) -> None:
    for run in ("a", "b"):
        commit(catalog, run, "ingest", ("given", "iex", "rows", 400))
        commit(catalog, run, "validate", ("given", "iex", "ohlc_logic", 2), ("given", "iex", "price_jump", 1))
        commit(catalog, run, "aggregate", ("given", "iex", "5m", 78))
        commit(catalog, run, "gaps", ("given", "", "vendor_gap", 9))
        commit(catalog, run, "pruned", ("", "", "bars_1m", 1000), ("", "", "bytes:bars_1m", 5000))

    found = values(history_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_ingest_rows_total", "given", "iex"] == 800
    assert found["mp_validation_errors_total", "given", "iex", "ohlc_logic"] == 4
    assert found["mp_aggregation_rows_total", "given", "iex", "5m"] == 156
    assert found["mp_backfill_gaps_found_total", "given", "vendor_gap"] == 18
    assert found["mp_data_pruned_rows_total", "parquet", "bars_1m"] == 2000
    assert found["mp_data_pruned_bytes_total", "parquet", "bars_1m"] == 10000


def test_a_step_that_ran_twice_counts_once(config: Config, catalog: Catalog) -> None:
    for _ in range(2):
        commit(catalog, "a", "ingest", ("given", "iex", "rows", 400))
        ask(catalog, "a")

    found = values(history_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_ingest_rows_total", "given", "iex"] == 400
    assert found["mp_requests_total", "alpaca", "given", "iex"] == 3


def test_requests_are_told_by_vendor_provider_and_feed(config: Config, catalog: Catalog) -> None:
    ask(catalog, "a")
    ask(catalog, "b", requests=5)

    found = values(history_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_requests_total", "alpaca", "given", "iex"] == 8
    assert found["mp_errors_total", "alpaca", "given", "iex", "Transient"] == 2
    assert found["mp_rate_limiter_waits_total", "given", "retry_after"] == 2
    buckets, seconds = found["mp_request_latency_seconds", "alpaca", "given", "iex"]
    assert dict(buckets)["0.25"] == 0
    assert dict(buckets)["0.5"] == 2
    assert dict(buckets)["1"] == dict(buckets)["+Inf"] == 8
    assert seconds == pytest.approx(0.8 + 6 * 0.9)


def test_a_provider_that_was_never_asked_counts_from_zero(config: Config, catalog: Catalog) -> None:
    found = values(history_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_requests_total", "alpaca", "given", "iex"] == 0
    assert found["mp_ingest_rows_total", "given", "iex"] == 0
    assert found["mp_ingest_rows_total", "other", "synthetic"] == 0
    assert found["mp_validation_errors_total", "", "", "ohlc_logic"] == 0
    assert found["mp_processing_time_seconds", "ingest", "given"] == (0, 0.0)
    assert found["mp_rate_limiter_waits_total", "given", "async"] == 0


def test_seconds_are_counted_and_summed_by_operation(config: Config, catalog: Catalog) -> None:
    spend(catalog, "a", "ingest", 2.0)
    spend(catalog, "b", "ingest", 4.0)

    found = values(history_samples(config, catalog, FRIDAY_EVENING))

    assert found["mp_processing_time_seconds", "ingest", "given"] == (2, 6.0)


def test_runs_are_counted_by_state() -> None:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def job() -> None:
        nothing()

    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)

        found = values(run_samples(instance))

    assert found["mp_runs", "SUCCESS"] == 1
    assert found["mp_runs", "STARTED"] == 1
    assert found["mp_runs", "FAILURE"] == 0
    assert found["mp_backlog_jobs",] == 0


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "quota.sqlite"


def quota_of(folder: Path, file: Path) -> Config:
    return configured(folder, CONFIGURATION.replace("feed: iex", f"feed: iex, quota_file: {file}"))


def test_quota_left_is_what_any_process_left_of_it(tmp_path: Path, shared: Path) -> None:
    bucket = Bucket(shared, "AlpacaProvider  7f", [Rate(200, 60)])
    with bucket.request(3, time.time() + 5):
        pass

    assert values(quota_samples(quota_of(tmp_path, shared))) == {("mp_quota_left", "given", "60s"): 197}


def test_quota_nobody_used_is_whole(tmp_path: Path, shared: Path) -> None:
    assert values(quota_samples(quota_of(tmp_path, shared))) == {("mp_quota_left", "given", "60s"): 200}


def test_nothing_is_left_in_a_pause(shared: Path) -> None:
    now = time.time()
    Bucket(shared, "AlpacaProvider  7f", [Rate(200, 60)]).pause(now + 30)

    assert quota_left(shared, "AlpacaProvider", [Rate(200, 60)], now) == {Rate(200, 60): 0}
    assert quota_left(shared, "AlpacaProvider", [Rate(200, 60)], now + 31) == {Rate(200, 60): 200}


def test_lake_is_told_by_market_and_table(tmp_path: Path) -> None:
    folder = tmp_path / "shares" / "bars_1m" / "symbol=ACME"
    folder.mkdir(parents=True)
    (folder / "2024-01.parquet").write_bytes(b"12345")
    (folder / "2024-02.parquet").write_bytes(b"123")
    (tmp_path / ".writing").mkdir()

    found = values(lake_samples(tmp_path))

    assert found["mp_lake_files", "shares", "bars_1m"] == 2
    assert found["mp_lake_bytes", "shares", "bars_1m"] == 8
    assert found["mp_lake_free_bytes",] > 0


def test_a_lake_that_is_not_there_yet_has_nothing_to_tell(tmp_path: Path) -> None:
    assert values(lake_samples(tmp_path / "none")) == {}


CONTRACT: dict[str, tuple[str, tuple[str, ...]]] = {
    "mp_requests_total": ("counter", ("source", "provider", "feed")),
    "mp_errors_total": ("counter", ("source", "provider", "feed", "code")),
    "mp_request_latency_seconds": ("histogram", ("source", "provider", "feed")),
    "mp_ingest_rows_total": ("counter", ("provider", "feed")),
    "mp_validation_errors_total": ("counter", ("provider", "feed", "error_type")),
    "mp_aggregation_rows_total": ("counter", ("provider", "feed", "frame")),
    "mp_processing_time_seconds": ("summary", ("operation", "provider")),
    "mp_backlog_jobs": ("gauge", ()),
    "mp_rate_limiter_waits_total": ("counter", ("provider", "mode")),
    "mp_backfill_gaps_found_total": ("counter", ("provider", "reason")),
    "mp_data_pruned_bytes_total": ("counter", ("type", "frame")),
    "mp_data_pruned_rows_total": ("counter", ("type", "frame")),
}
"""Names, types and labels that dashboards of the earlier systems know."""


@pytest.mark.parametrize("name", CONTRACT)
def test_inherited_metrics_keep_their_names_types_and_labels(name: str) -> None:
    kind = METRICS[name]
    value: dict[str, tuple[object, ...]] = {"histogram": ([("+Inf", 1)], 1.0), "summary": (1, 1.0)}
    expected, labels = CONTRACT[name]

    (family,) = families([Sample(name, labels, value.get(expected, (1,)))])

    assert family.type == expected
    assert kind.labels == labels


def test_every_metric_says_what_it_means() -> None:
    assert [name for name, kind in METRICS.items() if not kind.text.endswith(".")] == []


SOURCES: dict[str, Callable[[Config, Catalog], Iterable[Sample]]] = {
    "held": lambda config, catalog: held_samples(config, catalog, FRIDAY_EVENING),
    "history": lambda config, catalog: history_samples(config, catalog, FRIDAY_EVENING),
    "quota": lambda config, _: quota_samples(config),
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_sample_is_given_twice_and_labels_are_those_of_the_metric(
    config: Config, catalog: Catalog, source: str
) -> None:
    hold(catalog, "ACME", FRIDAY)
    commit(catalog, "a", "ingest", ("given", "iex", "rows", 400))
    ask(catalog, "a")

    samples = list(SOURCES[source](config, catalog))

    assert len({(each.metric, each.labels) for each in samples}) == len(samples)
    assert [each for each in samples if len(each.labels) != len(METRICS[each.metric].labels)] == []
