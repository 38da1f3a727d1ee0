"""A deployment on this machine: web UI, daemon and code server as `dagster dev` starts them, over one market."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from marketpipe_assets.bars.sessions import sessions

MARKET = "shares"
START = date(2024, 1, 2)
TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_15m", "bars_1h", "bars_1d")
PATIENCE = 180  # seconds; a loaded machine starts Dagster slowly
Found = TypeVar("Found")

LAUNCH = """
mutation($keys: [String!]!, $assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {partitionNames: $keys, assetSelection: $assets}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
STATUS = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
LOADED = "query($asset: AssetKeyInput!) { assetNodeOrError(assetKey: $asset) { __typename } }"
PARTITIONS = """
query($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    ... on AssetNode { partitionStats { numMaterialized numFailed numMaterializing numPartitions } }
  }
}
"""


class Deployment(NamedTuple):
    """Where it lies, and the address of its web UI."""

    folder: Path
    url: str

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """What the UI's own GraphQL answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def backfill(self, symbols: Sequence[str], dates: Sequence[date]) -> str:
        """The id of one that is launched as the UI's dialog does it: every table of these symbols and sessions."""
        launched = self.ask(
            LAUNCH,
            keys=[f"{day}|{symbol}" for day in dates for symbol in symbols],
            assets=[{"path": [MARKET, table]} for table in TABLES],
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def status(self, backfill: str) -> str:
        return str(self.ask(STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def partitions(self, table: str) -> Mapping[str, int]:
        """Numbers of partitions as the page of an asset shows them."""
        asked = self.ask(PARTITIONS, asset={"path": [MARKET, table]})
        numbers: Mapping[str, int] = asked["assetNodeOrError"]["partitionStats"]
        return numbers


def symbols_of(count: int) -> list[str]:
    return [f"S{number:02d}" for number in range(count)]


def dates_of(count: int) -> list[date]:
    return list(sessions("XNYS", START, date(START.year + 1, 1, 1)).dates[:count])


def configure(folder: Path, symbols: int, settings: str) -> Mapping[str, str]:
    """Write a configuration and an instance; the environment of a process that finds both."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(settings.replace("HOME", str(home)))
    market = {
        "calendar": "XNYS",
        "asset_class": "equity",
        "provider": "synthetic",
        "symbols": symbols_of(symbols),
        "start": f"{START}",
        "timeframes": ["5m", "15m", "1h", "1d"],
        "max_quarantined_share": 1,
    }
    written = {
        "config_version": 1,
        "lake": str(folder / "lake"),
        "providers": {"synthetic": {"seed": 1}},
        "markets": {MARKET: market},
    }
    (folder / "marketpipe.yaml").write_text(yaml.safe_dump(written))
    return {"DAGSTER_HOME": str(home), "MARKETPIPE_CONFIG": str(folder / "marketpipe.yaml")}


@contextmanager
def deployed(folder: Path, environment: Mapping[str, str]) -> Iterator[Deployment]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("dagster", "dev", "-m", "marketpipe_assets.definitions", "-h", "127.0.0.1", "-p", f"{port}")
    deployment = Deployment(folder, f"http://127.0.0.1:{port}")
    with running(command, folder, environment):
        eventually(lambda: is_loaded(deployment), "the code location")
        yield deployment


def is_loaded(deployment: Deployment) -> bool:
    answer = deployment.ask(LOADED, asset={"path": [MARKET, TABLES[0]]})
    return bool(answer["assetNodeOrError"]["__typename"] == "AssetNode")


@contextmanager
def running(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program beside this Python, or of the machine, in a group of its own that ends with the context."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # dagster-celery starts celery by its name
    program = shutil.which(command[0], path=path)
    assert program is not None, f"expected {command[0]} on the PATH, was not there"
    with (folder / f"{Path(program).name}.log").open("ab") as log:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=folder,
            env={**os.environ, **environment, "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # to it alone: it stops its own children
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def eventually(look: Callable[[], Found], what: str, patience: float = PATIENCE) -> Found:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := look():
                return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not appear within {patience:g} s")
