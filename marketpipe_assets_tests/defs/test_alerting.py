"""What people are told: runs that failed for good and sessions that are late, each trouble once."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from marketpipe_assets.alerts import Undelivered
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.freshness import late
from marketpipe_assets.defs.lost_runs import LOST_TAG, MADE_GOOD
from marketpipe_assets_tests.defs.location import MARKET, Location, checks_of, regular_minutes
from marketpipe_assets_tests.test_alerts import webhook


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    with webhook() as served:
        yield served


def with_channel(folder: Path, address: str, more: str = "", provider: str = "") -> Location:
    return Location(folder, more=f"{more}\nalerts: {{webhook: '{address}'}}", provider=provider)


def tick(location: Location, cursor: str | None = None) -> SensorExecutionData:
    repository = definitions_of(location.config).get_repository_def()
    resources = {"catalog": repository.get_top_level_resources()["catalog"]}
    with dg.build_sensor_context(
        location.instance, cursor=cursor, repository_def=repository, resources=resources
    ) as context:
        return repository.get_sensor_def("alerts").evaluate_tick(context)


def test_runs_that_fail_alike_are_one_alert_that_is_sent_once(tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    address, posted = hook
    location = with_channel(tmp_path, address, provider="{type: alpaca, feed: sip}")
    location.run("2024-01-02|ACME")
    location.run("2024-01-03|ACME")

    told = tick(location)
    tick(location)

    (said,) = (each["text"] for each in posted)
    assert said.startswith("*2 runs of shares_ingest failed*\nAuthFailed: given: expected (APCA_API_KEY_ID or ")
    assert str(told.skip_message).startswith("told: 2 runs of shares_ingest failed (AuthFailed: given: ")


def test_run_that_is_tried_again_is_not_told(tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    address, posted = hook
    location = with_channel(tmp_path, address)
    status, run_id = dg.DagsterRunStatus.FAILURE, "00000000-0000-4000-8000-000000000000"
    location.instance.add_run(
        dg.DagsterRun("shares_ingest", run_id, status=status, tags={"dagster/will_retry": "true"})
    )

    assert tick(location).skip_message == "nothing to tell"
    assert posted == []


def failed_run(location: Location, number: int, job: str = "shares_ingest", **tags: str) -> None:
    run_id = f"00000000-0000-4000-8000-{number:012}"
    location.instance.add_run(dg.DagsterRun(job, run_id, status=dg.DagsterRunStatus.FAILURE, tags=tags))


def test_run_that_was_lost_and_made_good_is_not_told(tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    address, posted = hook
    location = with_channel(tmp_path, address)
    failed_run(location, 1, **{LOST_TAG: MADE_GOOD})

    assert tick(location).skip_message == "nothing to tell"
    assert posted == []


def test_every_run_is_told_of_however_many_fail_in_a_tick(
    tmp_path: Path, hook: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted = hook
    location = with_channel(tmp_path, address)
    monkeypatch.setattr("marketpipe_assets.defs.alerting.PAGE", 2)
    monkeypatch.setattr("marketpipe_assets.defs.alerting.MOST_READ", 3)
    failed_run(location, 1, "shares_judge")
    for number in range(2, 8):
        failed_run(location, number)

    tick(location)

    assert sorted(each["text"].splitlines()[:2] for each in posted) == [
        ["*3 runs of shares_ingest failed*", "more runs failed than a tick reads the reasons of: the web UI has them"],
        ["*3 runs of shares_ingest failed*", "no reason given"],
        ["*a run of shares_judge failed*", "more runs failed than a tick reads the reasons of: the web UI has them"],
    ]


def test_alert_that_could_not_be_delivered_is_tried_again(tmp_path: Path) -> None:
    with webhook(status=503) as (address, refused):
        location = with_channel(tmp_path, address, provider="{type: alpaca, feed: sip}")
        location.run("2024-01-02|ACME")
        with pytest.raises(Exception, match="1 of 1 alerts not delivered") as caught:
            tick(location)

    assert isinstance(caught.value.__cause__ or caught.value, Undelivered)
    assert len(refused) == 1


def test_market_is_late_when_its_newest_session_is_not_held_in_time(
    tmp_path: Path, hook: tuple[str, list[Any]]
) -> None:
    address, posted = hook
    location = with_channel(tmp_path, address)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")

    data = tick(location)

    (said,) = (each["text"] for each in posted)
    assert said.startswith("*shares is late*\n")
    assert "is not held of 2 symbols: ACME, BOLT" in said
    assert data.asset_events == []  # the run's own check said the same


def test_market_that_was_never_used_is_not_late(tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    address, posted = hook

    assert tick(with_channel(tmp_path, address)).skip_message == "nothing to tell"
    assert posted == []


def test_session_is_late_by_the_calendar_and_not_by_the_clock(tmp_path: Path) -> None:
    location = Location(tmp_path)
    market, catalog = location.config.markets[MARKET], Catalog(location.config.catalog_url)
    friday_close = datetime(2026, 11, 27, 18, tzinfo=UTC)  # one o'clock in New York, the day after Thanksgiving

    before = late(catalog, market, friday_close + timedelta(minutes=239))
    after = late(catalog, market, friday_close + timedelta(minutes=240))
    sunday = late(catalog, market, friday_close + timedelta(days=2))

    assert before is not None
    assert after is not None
    assert (before.session, after.session) == (date(2026, 11, 25), date(2026, 11, 27))
    assert sunday == after


def test_verdict_that_changes_after_the_run_is_told_to_dagster(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.run("2024-01-02|ACME")
    check = dg.AssetCheckKey(dg.AssetKey([MARKET, "coverage"]), "fresh")
    earlier = dg.AssetCheckEvaluation(
        asset_key=check.asset_key, check_name="fresh", passed=True, description="it was then"
    )
    location.instance.report_runless_asset_event(earlier)

    (event,) = tick(location).asset_events

    assert isinstance(event, dg.AssetCheckEvaluation)
    assert (event.check_name, event.passed) == ("fresh", False)


def test_run_checks_freshness_too(tmp_path: Path) -> None:
    location = Location(tmp_path)

    result = location.run("2024-01-02|ACME")

    assert not checks_of(result)["coverage fresh"].passed
    assert result.success


@pytest.mark.parametrize(
    ("more", "status"), [("", "STOPPED"), ("\nalerts: {webhook: 'https://x.example/'}", "RUNNING")]
)
def test_sensor_is_on_where_somebody_can_be_told(tmp_path: Path, more: str, status: str) -> None:
    repository = definitions_of(Location(tmp_path, more=more).config).get_repository_def()

    assert repository.get_sensor_def("alerts").default_status.value == status
