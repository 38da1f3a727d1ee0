"""Nobody looks after a market around Easter, and at the end it is whole: fortnight.py tells what happens."""

from pathlib import Path

import pytest

from marketpipe_assets_tests.fortnight import KEYS, live, problems, report


def test_every_hole_is_healed_or_explained_and_nothing_is_asked_for_needlessly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "invented")

    outcome = live(tmp_path)

    assert problems(outcome) == [], report(outcome)
