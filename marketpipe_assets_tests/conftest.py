"""Tests see no configuration and no Dagster instance of the machine they run on; the vendors they ask are on it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from marketpipe_assets.config import LEGACY_VARIABLES
from marketpipe_assets_tests.providers.vendor_server import VendorServer, vendor_server

OURS = ("MARKETPIPE_CONFIG", "DAGSTER_HOME", "DATABASE_URL", *LEGACY_VARIABLES)

settings.register_profile("marketpipe", deadline=None)  # a loaded machine is no counterexample
settings.load_profile("marketpipe")


@pytest.fixture(autouse=True, scope="module")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a command of a test exports for the runs it starts is no other module's."""
    before = dict(os.environ)
    for name in OURS:
        os.environ.pop(name, None)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.getbasetemp() / "cache")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.setenv(name, "")  # so that what a test exports is taken away after it, too
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.setenv("HYPOTHESIS_NO_PLUGINS", "1")  # pandera loads it in a run, and half a second of plugins with it


@pytest.fixture
def server() -> Iterator[VendorServer]:
    with vendor_server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
