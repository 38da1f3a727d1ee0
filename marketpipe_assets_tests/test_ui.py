"""The web UI in a real browser: a graph, a backfill launched by hand, its partitions, its run and its checks."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver (Debian: chromium chromium-driver)"
)
Found = TypeVar("Found")
VISITS = 4
PATIENCE = 160  # seconds; a loaded machine starts Dagster slowly
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1500",
)


def eventually(look: Callable[[], Found | None], what: str, patience: float = PATIENCE) -> Found:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (OSError, StaleElementReferenceException):
            pass
        time.sleep(0.5)
    raise AssertionError(f"{what} did not appear within {patience:g} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Over the packaged configuration."""
    with served(tmp_path_factory.mktemp("ui"), LOADED) as url:
        yield url


@contextmanager
def served(folder: Path, loaded: str) -> Iterator[str]:
    """`dagster dev` on loopback over a folder's configuration, once it knows an asset; stopped by its group."""
    home = folder / ".dagster"
    home.mkdir()
    shutil.copyfile(Path(__file__).parents[1] / "marketpipe_assets" / "dagster.yaml", home / "dagster.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dagster",
                "dev",
                "-m",
                "marketpipe_assets.definitions",
                "-h",
                "127.0.0.1",
                "-p",
                f"{port}",
            ],
            cwd=folder,
            env={**os.environ, "DAGSTER_HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: urllib.request.urlopen(f"{url}/server_info", timeout=5).status == 200, "the web UI")
        eventually(lambda: ask(url, loaded)["assetNodeOrError"]["__typename"] == "AssetNode", "the code location")
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # to it alone: it stops its own children
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)  # longer where a browser keeps a connection
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    yield chrome
    chrome.quit()


def sees(browser: webdriver.Chrome, address: str, *texts: str) -> None:
    """Open a page, again where it stands still, until it shows these texts."""
    for _ in range(VISITS):
        # the UI keeps what it once loaded, and an answer that came too early with it
        browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": _origin(address), "storageTypes": "all"})
        browser.get(address)
        with suppress(AssertionError):
            for text in texts:
                eventually(partial(_shows, browser, text), f"{text!r} at {address}", PATIENCE / VISITS)
            return
    raise AssertionError(f"expected {texts} at {address}, was: {browser.find_element(By.TAG_NAME, 'body').text[:1500]}")


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _shows(browser: webdriver.Chrome, text: str) -> bool:
    return text in browser.find_element(By.TAG_NAME, "body").text


def ask(server: str, query: str, variables: object = None) -> dict[str, Any]:
    """What the UI's own GraphQL answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{server}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
    except HTTPError as error:
        raise AssertionError(f"{query.strip()} was answered with {error}: {error.read()[:2000]!r}") from error
    return data


LOADED = 'query { assetNodeOrError(assetKey: {path: ["us_equities", "raw_bars_1m"]}) { __typename } }'
LAUNCH = """
mutation($keys: [String!]!, $assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {partitionNames: $keys, assetSelection: $assets}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_15m", "bars_1h", "bars_1d")


@pytest.fixture(scope="module")
def backfill(server: str) -> str:
    """Two symbols over two sessions, launched as the UI's dialog does, and ended."""
    variables = {
        "keys": [f"2024-01-0{day}|{symbol}" for day in (2, 3) for symbol in ("AAPL", "AMZN")],
        "assets": [{"path": ["us_equities", table]} for table in TABLES],
    }

    def launched() -> str | None:
        """None where the server is just loading its code anew and knows no asset; nothing is launched then."""
        with suppress(AssertionError):
            backfill_id: str = ask(server, LAUNCH, variables)["launchPartitionBackfill"]["backfillId"]
            return backfill_id
        return None

    backfill = str(eventually(launched, "a launched backfill"))
    assert end_of(server, backfill) == "COMPLETED_SUCCESS"
    return backfill


def end_of(server: str, backfill: str, patience: float = PATIENCE) -> str:
    """The status in which a backfill ends."""
    query = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"

    def ended() -> str | None:
        said: str = ask(server, query, {"id": backfill})["partitionBackfillOrError"]["status"]
        return said if said.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    return eventually(ended, "the end of the backfill", patience)


def test_graph_shows_every_table_of_a_market(server: str, browser: webdriver.Chrome) -> None:
    group = f"{server}/locations/marketpipe_assets.definitions/asset-groups/us_equities"

    sees(browser, group, "raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_1d", "Polars", "Parquet")


def test_asset_page_says_what_the_table_holds(server: str, browser: webdriver.Chrome) -> None:
    sees(
        browser,
        f"{server}/assets/us_equities/quarantined_bars_1m",
        "1-minute bars that broke a rule, as the provider gave them",
    )


@pytest.mark.usefixtures("backfill")
def test_backfilled_partitions_are_shown_as_materialized(server: str, browser: webdriver.Chrome) -> None:
    sees(browser, f"{server}/assets/us_equities/bars_1d?view=partitions", "Materialized (4)", "AAPL")


def test_backfill_page_shows_its_success(server: str, browser: webdriver.Chrome, backfill: str) -> None:
    sees(browser, f"{server}/runs/b/{backfill}", "Succeeded")


@pytest.mark.usefixtures("backfill")
def test_run_page_shows_the_steps_that_succeeded(server: str, browser: webdriver.Chrome) -> None:
    runs = ask(server, "query { runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]
    (first, *_) = runs["results"]

    sees(browser, f"{server}/runs/{first['runId']}", "us_equities__raw_bars_1m", "Success")


@pytest.mark.usefixtures("backfill")
def test_checks_page_shows_the_verdict_in_words(server: str, browser: webdriver.Chrome) -> None:
    sees(
        browser,
        f"{server}/assets/us_equities/bars_1m?view=checks&checkDetail=rows_conserved",
        "Raw bars = valid bars + quarantined bars",
        "raw =",
        "Passed",
    )
