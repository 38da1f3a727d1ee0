"""A small lake that the real command has filled."""

import shutil
from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import configured, process


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose lake holds three shares over two sessions, and one coin over one. Read only."""
    folder = tmp_path_factory.mktemp("filled")
    path = configured(folder)
    for market, end in (("shares", "2024-01-04"), ("coins", "2024-01-03")):
        run = process(folder, "ingest", "--market", market, "--start", "2024-01-02", "--end", end)
        assert run.returncode == 0, run.stderr
    return path


@pytest.fixture
def own(filled: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(filled.parent, tmp_path / "own")) / filled.name
