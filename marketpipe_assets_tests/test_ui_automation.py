"""What runs by itself, in a real browser: schedules, a sensor that says what it did, an alert that arrives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium import webdriver

from marketpipe_assets_tests.test_alerts import webhook
from marketpipe_assets_tests.test_ui import browser, eventually, pytestmark, sees, served

__all__ = ["browser", "pytestmark"]

CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  synthetic: {{seed: 1}}
  alpaca: {{feed: sip}}
markets:
  shares:
    calendar: 24/7
    asset_class: crypto
    provider: synthetic
    symbols: [ACME, BOLT]
    start: {start}
    timeframes: [1d]
    schedules: {{enabled: true, heal: true}}
  keyless:
    calendar: 24/7
    asset_class: crypto
    provider: alpaca
    symbols: [CASK]
    start: {start}
    schedules: {{heal: true}}
alerts: {{webhook: "{address}"}}
"""
LOADED = 'query { assetNodeOrError(assetKey: {path: ["shares", "raw_bars_1m"]}) { __typename } }'


class Live(NamedTuple):
    """A web UI with its daemon, and what was posted to the webhook."""

    url: str
    posted: list[Any]

    def page(self, kind: str, name: str) -> str:
        return f"{self.url}/locations/__repository__@marketpipe_assets.definitions/{kind}/{name}"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("automation")
    start = datetime.now(UTC).date() - timedelta(days=3)
    with webhook() as (address, posted):
        (folder / "marketpipe.yaml").write_text(CONFIGURATION.format(start=start, address=address))
        with served(folder, LOADED) as url:
            yield Live(url, posted)


def test_page_of_automation_lists_schedules_in_words(live: Live, browser: webdriver.Chrome) -> None:  # a fixture
    sees(browser, f"{live.url}/automation", "shares_after_close", "shares_corrections", "shares_heal_gaps", "alerts")


def test_page_of_a_schedule_says_when_it_runs_and_why(live: Live, browser: webdriver.Chrome) -> None:  # as above
    sees(browser, live.page("schedules", "shares_after_close"), "15 minutes after it is published", "15 0 * * *")


def test_page_of_the_sensor_says_what_its_tick_did(live: Live, browser: webdriver.Chrome) -> None:  # as above
    page = live.page("sensors", "shares_heal_gaps")

    sees(browser, page, "symbol-days to ask for (", "never fetched): 1 run started for", "1 run requested")


def test_alert_of_a_failed_run_arrives_and_its_tick_says_so(live: Live, browser: webdriver.Chrome) -> None:  # as above
    failed = eventually(lambda: [each for each in live.posted if "keyless_ingest" in each["text"]], "an alert")

    assert failed[0]["text"].startswith(
        "*a run of keyless_ingest failed*\nAuthFailed: alpaca: expected (APCA_API_KEY_ID or "
    )
    sees(browser, live.page("sensors", "alerts"), "told: a run of keyless_ingest failed")
