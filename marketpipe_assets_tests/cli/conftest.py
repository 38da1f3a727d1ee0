"""A small lake that the real command has filled."""

import shutil
from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import configured, process


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the copies below are taken of. No test opens it: a connection that closes takes files of SQLite away."""
    folder = tmp_path_factory.mktemp("made")
    path = configured(folder)
    for market, end in (("shares", "2024-01-04"), ("coins", "2024-01-03")):
        run = process(folder, "ingest", "--market", market, "--start", "2024-01-02", "--end", end)
        assert run.returncode == 0, run.stderr
    return path


@pytest.fixture(scope="session")
def filled(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose lake holds three shares over two sessions, and one coin over one. Read only."""
    return _copy(_made, tmp_path_factory.mktemp("filled"))


@pytest.fixture
def own(_made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return _copy(_made, tmp_path)


def _copy(path: Path, into: Path) -> Path:
    return Path(shutil.copytree(path.parent, into / "own")) / path.name
