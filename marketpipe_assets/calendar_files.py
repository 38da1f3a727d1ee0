"""Trading hours of exchanges that were computed before, in the user's cache folder: to compute them takes a second.

A file is of one version of exchange_calendars and at most `MOST_DAYS` old, so that a change of time zones is not missed
for longer. One that is damaged, cannot be read or cannot be written is as good as none.
"""

import time
from contextlib import suppress
from datetime import date
from datetime import time as clock
from functools import cache, lru_cache
from hashlib import blake2b
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import polars as pl

from marketpipe_assets.bars.calendars import Computed, Schedule

FORMAT = 1  # counts up when what a file holds changes
MOST_DAYS = 30
MOST_CALENDARS = 16  # that a process keeps: each is some hundred kilobytes
DIGEST = 16  # bytes, at the start of a file, of what follows them


class CalendarFiles:
    """Each calendar over every span that was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Computed | None:
        """None where there is no file to rely on."""
        path = self._path(name)
        try:
            found = path.stat()
            if time.time() - found.st_mtime > MOST_DAYS * 24 * 60 * 60:
                return None
            return _computed(path, found.st_mtime_ns, found.st_size)
        except OSError:
            return None

    def write(self, name: str, computed: Computed) -> None:
        """Whole or not at all."""
        said = {
            "timezone": computed.schedule.timezone,
            "roll": f"{computed.schedule.roll}",
            "start": f"{computed.start}",
            "end": f"{computed.end}",
        }
        written = BytesIO()
        computed.schedule.hours.write_parquet(written, metadata=said)
        temporary = self._folder / f"{uuid4()}.writing"
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(_digest(written.getvalue()) + written.getvalue())
                temporary.replace(self._path(name))
            finally:
                temporary.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        safe = name.replace("/", "-")
        return self._folder / f"{safe} {_version()} {FORMAT}.parquet"


@cache
def _version() -> str:
    return version("exchange_calendars")


@lru_cache(MOST_CALENDARS)
def _computed(path: Path, changed: int, size: int) -> Computed | None:  # noqa: ARG001  # the file is another when these are
    """What a file holds; None where it is damaged."""
    content = path.read_bytes()
    digest, written = content[:DIGEST], content[DIGEST:]
    if digest != _digest(written):
        return None
    said = pl.read_parquet_metadata(BytesIO(written))
    hours = pl.read_parquet(BytesIO(written))
    schedule = Schedule(said["timezone"], clock.fromisoformat(said["roll"]), hours)
    return Computed(date.fromisoformat(said["start"]), date.fromisoformat(said["end"]), schedule)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST).digest()
