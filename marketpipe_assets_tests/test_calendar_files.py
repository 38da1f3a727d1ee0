"""Hours that were computed before are those that would be computed now; a file that is not right is not used."""

import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from marketpipe_assets.bars import calendars
from marketpipe_assets.bars.calendars import schedule
from marketpipe_assets.calendar_files import MOST_DAYS, CalendarFiles
from marketpipe_assets.config import load_config

SPAN = (date(2023, 1, 1), date(2025, 1, 1))
SHORT = (date(2024, 3, 1), date(2024, 4, 1))
CONFIGURATION = """
config_version: 1
lake: ./lake
providers: {synthetic: {calendar: CALENDAR}}
markets:
  shares: {calendar: CALENDAR, asset_class: equity, provider: synthetic, start: 2024-01-02, symbols: [ACME]}
"""
SESSIONS = """
import sys
from marketpipe_assets.config import load_config
market = load_config().markets["shares"]
print(market.sessions.table.write_json())
print("exchange_calendars" in sys.modules)
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CalendarFiles:
    """What `schedule` uses, with nothing that it has computed in this process before."""
    found = CalendarFiles(tmp_path / "cache")
    schedule.cache_clear()
    monkeypatch.setattr(calendars, "_memory", [found])
    return found


def hours(folder: Path, calendar: str = "XLON", **environment: str) -> tuple[str, bool]:
    """The sessions of a market as a fresh process tells them, and whether it loaded exchange_calendars."""
    written = folder / "marketpipe.yaml"
    written.write_text(CONFIGURATION.replace("CALENDAR", calendar))
    inherited = {**os.environ, "MARKETPIPE_CONFIG": str(written), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", SESSIONS],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    table, loaded = done.stdout.splitlines()
    return table, loaded == "True"


@pytest.mark.parametrize("calendar", ["XLON", "XNSE", "CME_GLOBEX", "24/7"])
def test_a_second_process_has_the_same_hours_without_computing_them(tmp_path: Path, calendar: str) -> None:
    first, computed = hours(tmp_path, calendar)
    second, computed_again = hours(tmp_path, calendar)

    assert computed
    assert not computed_again
    assert second == first


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "a folder"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    first, _ = hours(tmp_path)
    [file] = (tmp_path / "cache" / "marketpipe" / "calendars").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    else:
        file.write_bytes({"cut": bytes(content[:-10]), "flipped": bytes(content), "empty": b""}[damage])

    second, computed = hours(tmp_path)

    assert computed
    assert second == first
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_user_without_a_home_does_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marketpipe.yaml").write_text(CONFIGURATION.replace("CALENDAR", "XLON"))
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)

    assert load_config(tmp_path / "marketpipe.yaml").markets["shares"].sessions.dates


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    _, computed = hours(tmp_path, XDG_CACHE_HOME=str(tmp_path / "file"))

    assert computed
    assert hours(tmp_path, XDG_CACHE_HOME=str(tmp_path / "file"))[1]


def test_a_part_of_a_span_is_cut_from_it_and_a_longer_one_takes_its_place(files: CalendarFiles) -> None:
    whole = schedule("XLON", *SPAN)
    part = schedule("XLON", *SHORT)
    kept = files.read("XLON")
    longer = schedule("XLON", date(2022, 1, 1), SPAN[1])
    after = files.read("XLON")

    assert kept is not None
    assert (kept.start, kept.end) == SPAN
    assert part.hours.equals(whole.hours.filter(whole.hours["session_date"].is_between(*SHORT, closed="left")))
    assert after is not None
    assert after.start == date(2022, 1, 1)
    assert longer.hours.height > whole.hours.height


def test_spans_that_are_asked_in_turns_are_computed_once_each(
    files: CalendarFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = date(2022, 12, 1), date(2023, 2, 1)
    asked = [schedule("XLON", *span) for span in (SPAN, earlier)]
    schedule.cache_clear()
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)

    again = [schedule("XLON", *span) for span in (SPAN, earlier)]
    kept = files.read("XLON")

    assert kept is not None
    assert (kept.start, kept.end) == (earlier[0], SPAN[1])
    for before, after in zip(asked, again, strict=True):
        assert after.hours.equals(before.hours)


def test_an_old_file_is_computed_again(files: CalendarFiles, tmp_path: Path) -> None:
    schedule("XLON", *SPAN)
    [file] = (tmp_path / "cache").iterdir()
    old = time.time() - (MOST_DAYS + 1) * 24 * 60 * 60
    os.utime(file, (old, old))

    assert files.read("XLON") is None


def test_hours_of_another_version_are_not_used(files: CalendarFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule("XLON", *SPAN)
    monkeypatch.setattr("marketpipe_assets.calendar_files._version", lambda: "0.0")

    assert files.read("XLON") is None
