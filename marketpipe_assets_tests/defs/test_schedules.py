"""Schedules by the exchange's calendar: what a tick starts at an instant, and what it says where it starts nothing."""

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData

from marketpipe_assets.config import Market
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.schedules import due_again
from marketpipe_assets.upkeep import Schedules
from marketpipe_assets_tests.defs.location import Location

NEW_YORK = ZoneInfo("America/New_York")


def market(calendar: str = "XNYS", **more: object) -> Market:
    return Market.model_validate(
        {
            "name": "shares",
            "calendar": calendar,
            "asset_class": "equity",
            "provider": "given",
            "symbols": ("ACME", "BOLT"),
            "start": date(2024, 1, 2),
            **more,
        }
    )


def tick(location: Location, name: str, at: datetime) -> ScheduleExecutionData:
    repository = definitions_of(location.config).get_repository_def()
    schedule = repository.get_schedule_def(name)
    with dg.build_schedule_context(location.instance, at, repository_def=repository) as context:
        return schedule.evaluate_tick(context)


def started(data: ScheduleExecutionData, of: Market) -> list[tuple[str, date]]:
    """Symbol and session of everything a tick's runs fetch."""
    grid = Grid(of)
    keys = [grid.selection(grid.tagged_keys(request.tags)) for request in data.run_requests or ()]
    return sorted((symbol, day) for each in keys for day in each.dates for symbol in each.symbols)


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (datetime(2026, 11, 25, 16, 15, tzinfo=NEW_YORK), date(2026, 11, 25)),
        (datetime(2026, 11, 27, 13, 15, tzinfo=NEW_YORK), date(2026, 11, 27)),  # the day after Thanksgiving ends at one
        (datetime(2026, 10, 30, 20, 15, tzinfo=UTC), date(2026, 10, 30)),  # summer time
        (datetime(2026, 11, 2, 21, 15, tzinfo=UTC), date(2026, 11, 2)),
    ],
)
def test_session_is_fetched_for_every_symbol_a_quarter_of_an_hour_after_its_close(
    tmp_path: Path, at: datetime, day: date
) -> None:
    location = Location(tmp_path)
    shares = location.config.markets["shares"]

    data = tick(location, "shares_after_close", at)

    assert started(data, shares) == [("ACME", day), ("BOLT", day)]
    assert f"{day}|ACME" in Grid(shares).definition.get_partition_keys(current_time=at.astimezone(UTC))


@pytest.mark.parametrize(
    ("morning", "compared"),
    [
        (date(2026, 11, 25), [date(2026, 11, 24)]),
        (date(2026, 11, 28), [date(2026, 11, 27)]),  # Saturday
        (date(2026, 11, 27), []),  # the day after Thanksgiving
    ],
)
def test_session_is_compared_with_other_sources_the_morning_after(
    tmp_path: Path, morning: date, compared: list[date]
) -> None:
    location = Location(tmp_path, "tie_out: {provider: other}")
    shares = location.config.markets["shares"]
    hour = shares.schedules.morning

    data = tick(location, "shares_comparison", datetime.combine(morning, hour, NEW_YORK))

    assert started(data, shares) == [(symbol, day) for symbol in ("ACME", "BOLT") for day in compared]
    assert bool(data.skip_message) == (not compared)


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 26, 16, 15, tzinfo=NEW_YORK),  # Thanksgiving
        datetime(2026, 11, 27, 16, 15, tzinfo=NEW_YORK),  # the usual close of a half day
        datetime(2026, 11, 25, 13, 15, tzinfo=NEW_YORK),  # the close of a half day on a whole one
        datetime(2026, 11, 28, 16, 15, tzinfo=NEW_YORK),  # Saturday
    ],
)
def test_nothing_is_fetched_on_closed_days_nor_at_another_days_close(tmp_path: Path, at: datetime) -> None:
    data = tick(Location(tmp_path), "shares_after_close", at)

    assert not data.run_requests
    assert data.skip_message == f"no session of XNYS is due at {at:%Y-%m-%d %H:%M} EST"


def test_ticks_come_at_the_times_of_day_at_which_sessions_end(tmp_path: Path) -> None:
    location = Location(tmp_path, more="schedules: {after_close: 30}")
    schedule = definitions_of(location.config).get_repository_def().get_schedule_def("shares_after_close")

    assert list(schedule.cron_schedule) == ["30 13 * * *", "30 16 * * *"]
    assert schedule.execution_timezone == "America/New_York"


def test_symbol_is_not_fetched_after_it_was_taken_from_the_market(tmp_path: Path) -> None:
    location = Location(tmp_path, more="listings: {ACME: {end: 2026-11-25}}")

    data = tick(location, "shares_after_close", datetime(2026, 11, 25, 16, 15, tzinfo=NEW_YORK))

    assert started(data, location.config.markets["shares"]) == [("BOLT", date(2026, 11, 25))]


def test_next_morning_reads_yesterday_and_the_session_five_back(tmp_path: Path) -> None:
    location = Location(tmp_path)
    monday = datetime(2026, 11, 30, 6, 0, tzinfo=NEW_YORK)

    data = tick(location, "shares_corrections", monday)

    # Friday, and five sessions back over a weekend and Thanksgiving
    assert started(data, location.config.markets["shares"]) == [
        ("ACME", date(2026, 11, 20)),
        ("ACME", date(2026, 11, 27)),
        ("BOLT", date(2026, 11, 20)),
        ("BOLT", date(2026, 11, 27)),
    ]
    assert {request.tags["marketpipe/why"] for request in data.run_requests or ()} == {"corrections"}


def test_no_morning_run_on_a_closed_day(tmp_path: Path) -> None:
    data = tick(Location(tmp_path), "shares_corrections", datetime(2026, 11, 26, 6, 0, tzinfo=NEW_YORK))

    assert not data.run_requests
    assert "XNYS is closed on 2026-11-26" in str(data.skip_message)


def test_sessions_that_retention_removes_are_not_read_again() -> None:
    shares = market(retention={"1m": "3d"}, schedules=Schedules(corrections=(1, 2, 40)))

    assert due_again(shares, shares.sessions, date(2026, 11, 27)) == [date(2026, 11, 24), date(2026, 11, 25)]


def test_every_session_of_a_market_without_nights_is_fetched_after_midnight(tmp_path: Path) -> None:
    location = Location(tmp_path, calendar="24/7")

    data = tick(location, "shares_after_close", datetime(2026, 11, 22, 0, 15, tzinfo=UTC))

    assert started(data, location.config.markets["shares"])[0] == ("ACME", date(2026, 11, 21))


@pytest.mark.parametrize(("more", "status"), [("", "STOPPED"), ("schedules: {enabled: true}", "RUNNING")])
def test_schedules_are_off_until_the_market_says_so(tmp_path: Path, more: str, status: str) -> None:
    repository = definitions_of(Location(tmp_path, more=more).config).get_repository_def()

    assert {each.name: each.default_status.value for each in repository.schedule_defs} == dict.fromkeys(
        ("shares_after_close", "shares_corrections", "shares_integrity_schedule"), status
    )


def test_weekly_job_names_the_file_that_is_damaged(tmp_path: Path) -> None:
    location = Location(tmp_path, provider="{type: synthetic}")
    location.run("2024-01-02|ACME")
    job = definitions_of(location.config).resolve_job_def("shares_integrity")
    assert job.execute_in_process(instance=location.instance).success

    damaged = next((location.config.lake / "shares" / "bars_5m").rglob("*.parquet"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    result = job.execute_in_process(instance=location.instance, raise_on_error=False)

    assert not result.success
    assert str(damaged) in str(result.all_events)
