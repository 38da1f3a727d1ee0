"""Tests see no configuration and no Dagster instance of the machine they run on."""

import pytest
from hypothesis import settings

from marketpipe_assets.config import LEGACY_VARIABLES

settings.register_profile("marketpipe", deadline=None)  # a loaded machine is no counterexample
settings.load_profile("marketpipe")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARKETPIPE_CONFIG", "DAGSTER_HOME", "DATABASE_URL", *LEGACY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
