"""The gap healing sensor: what it asks for, what it leaves alone, and what it says."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import pruned, symbol_days
from marketpipe_assets.definitions import definitions_of, provider_of
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets_tests.defs.location import MARKET, Location

LONG_AGO = datetime(2024, 6, 1, tzinfo=UTC)
FIRST = "schedules: {after_close: 0}\n    listings: {BOLT: {end: 2024-01-02}}"  # BOLT: no session


def catalog_of(location: Location) -> Catalog:
    return Catalog(location.config.catalog_url)


def sessions_of(location: Location) -> Sequence[date]:
    dates = location.config.markets[MARKET].sessions
    now = datetime.now(UTC)
    return [day for day in dates.dates if dates.published_by(day) <= now]


def record(location: Location, days: Sequence[date], fetched_at: datetime = LONG_AGO, **missing: int) -> None:
    """Ledger rows of ACME, complete but for minutes missing by reason."""
    lost = sum(missing.values())
    zero = dict.fromkeys(
        ("quarantined", "no_trade", "halt", "vendor_gap", "not_yet_published", "not_listed", "quarantined_bars"), 0
    )
    counts = {**dict.fromkeys(("received", "valid", "raw_bars", "valid_bars"), 390 - lost), **zero, **missing}
    facts = {"market": MARKET, "symbol": "ACME", "expected": 390, "missing": lost, "fetched_at": fetched_at, **counts}
    with catalog_of(location).begin() as connection:
        upsert(connection, symbol_days, pl.DataFrame([{"session_date": day, **facts} for day in days]))


def tick(location: Location) -> SensorExecutionData:
    repository = definitions_of(location.config).get_repository_def()
    sensor = repository.get_sensor_def("shares_heal_gaps")
    resources = {key: repository.get_top_level_resources()[key] for key in sensor.required_resource_keys}
    with dg.build_sensor_context(location.instance, repository_def=repository, resources=resources) as context:
        return sensor.evaluate_tick(context)


def asked(location: Location, data: SensorExecutionData) -> list[list[date]]:
    """Sessions of each run, in the order of the runs."""
    grid = Grid(location.config.markets[MARKET])
    return [list(grid.selection(grid.tagged_keys(each.tags)).dates) for each in data.run_requests or ()]


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return Location(tmp_path, more=FIRST)


def test_session_that_was_never_fetched_and_vendor_gap_are_asked_for_newest_first(location: Location) -> None:
    every = sessions_of(location)
    record(location, [*every[:10], *every[11:]])
    record(location, [every[5], every[6], every[20]], vendor_gap=30)

    assert asked(location, tick(location)) == [[every[20]], [every[10]], [every[5], every[6]]]


def test_holes_that_no_provider_can_fill_are_left_alone(location: Location) -> None:
    every = sessions_of(location)
    record(location, every)
    record(location, every[:5], no_trade=10, halt=5, not_listed=3)

    data = tick(location)

    assert not data.run_requests
    assert data.skip_message == "nothing to ask for: no symbol-day is missing"


def test_symbols_are_not_asked_for_outside_their_listing(location: Location) -> None:
    record(location, sessions_of(location)[1:])

    assert asked(location, tick(location)) == [[sessions_of(location)[0]]]


def test_what_a_run_is_fetching_is_not_asked_for_again(location: Location) -> None:
    every = sessions_of(location)
    record(location, every[3:])
    tags = {"dagster/asset_partition_range_start": f"{every[0]}|ACME"}
    tags["dagster/asset_partition_range_end"] = f"{every[1]}|BOLT"
    run_id, status = "00000000-0000-4000-8000-000000000000", dg.DagsterRunStatus.STARTED
    location.instance.add_run(dg.DagsterRun("shares_ingest", run_id, tags=tags, status=status))

    assert asked(location, tick(location)) == [[every[2]]]


def test_hole_that_stays_open_is_asked_for_ever_later(location: Location) -> None:
    every = sessions_of(location)
    record(location, every)
    record(location, [every[4]], vendor_gap=30)

    began, first, ended = datetime.now(UTC), tick(location), datetime.now(UTC)
    second = tick(location)

    assert asked(location, first) == [[every[4]]]
    assert not second.run_requests
    again = (f"{at + timedelta(hours=12):%Y-%m-%d %H:%M} UTC" for at in (began, ended))
    said = "nothing to ask for now; 1 wait for their next try, the first at"
    assert second.skip_message in {f"{said} {each}" for each in again}


def test_hole_that_was_seen_just_now_is_given_time(location: Location) -> None:
    record(location, sessions_of(location))
    record(location, sessions_of(location)[-1:], datetime.now(UTC), not_yet_published=30)

    assert not tick(location).run_requests


def test_what_retention_removed_is_not_fetched_again(location: Location) -> None:
    every = sessions_of(location)
    record(location, every[20:])
    gone = {"market": MARKET, "table_name": "raw_bars_1m", "symbol": "ACME", "period": "2024-01", "rows": 1, "bytes": 1}
    with catalog_of(location).begin() as connection:
        upsert(connection, pruned, pl.DataFrame({**gone, "through": [every[17]], "at": [LONG_AGO]}))

    assert asked(location, tick(location)) == [every[18:20]]


def test_what_retention_would_remove_is_not_fetched_at_all(tmp_path: Path) -> None:
    location = Location(tmp_path, more=FIRST + "\n    retention: {1m: 30d}")

    (fetched,) = asked(location, tick(location))

    assert fetched == [day for day in sessions_of(location) if day >= datetime.now(UTC).date() - timedelta(days=30)]


@pytest.mark.parametrize("a_minute", [2, 4, 40])
def test_tick_stays_within_the_requests_that_the_provider_has_left(tmp_path: Path, a_minute: int) -> None:
    provider = f"{{type: binance, requests_per_minute: {a_minute}, quota_file: {tmp_path}/quota.sqlite}}"
    location = Location(tmp_path, provider=provider, calendar="24/7", more=FIRST)
    settings = location.config.providers["given"]
    left = provider_of("given", settings).remaining_requests()
    assert left is not None

    data = tick(location)

    runs = asked(location, data)
    spent = sum(-(-len(dates) * 1440 // 1000) for dates in runs)  # pages of 1,000 minutes
    assert spent <= left
    assert not runs or (runs[0][-1] == sessions_of(location)[-1] and spent > left / 2)
    assert data.run_requests or "given has no requests left at this moment" in str(data.skip_message)


def test_tick_says_what_it_did_and_why(location: Location) -> None:
    every = sessions_of(location)
    record(location, every[:-1])
    record(location, [every[5]], vendor_gap=30)

    said = str(tick(location).cursor)

    assert said.endswith("2 symbol-days to ask for (1 never fetched, 1 vendor gap): 2 runs started for 2 of them")


@pytest.mark.parametrize(("more", "status"), [("", "STOPPED"), ("schedules: {heal: true}", "RUNNING")])
def test_sensor_is_off_until_the_market_says_so(tmp_path: Path, more: str, status: str) -> None:
    repository = definitions_of(Location(tmp_path, more=more).config).get_repository_def()

    assert repository.get_sensor_def("shares_heal_gaps").default_status.value == status
