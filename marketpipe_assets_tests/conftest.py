"""Tests see no configuration and no Dagster instance of the machine they run on; the vendors they ask are on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from marketpipe_assets.config import LEGACY_VARIABLES
from marketpipe_assets_tests.providers.vendor_server import VendorServer, vendor_server

settings.register_profile("marketpipe", deadline=None)  # a loaded machine is no counterexample
settings.load_profile("marketpipe")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARKETPIPE_CONFIG", "DAGSTER_HOME", "DATABASE_URL", *LEGACY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")


@pytest.fixture
def server() -> Iterator[VendorServer]:
    with vendor_server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
