"""What a format is: the settings it is given and the one question it answers. No format's details."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import ClassVar, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from marketpipe_assets.bars.schema import VENDOR_COLUMNS, VENDOR_DAY_COLUMNS
from marketpipe_assets.providers.base import BadRequest
from marketpipe_assets.providers.formats.archive import Limits

REQUIRED = True
OPTIONAL = False

READ_COLUMNS: Mapping[str, pl.DataType] = {
    name: dtype for name, dtype in VENDOR_COLUMNS.items() if name not in ("provider", "feed")
}
"""What a format answers; the provider adds its own name and the feed."""

DAY_COLUMNS: Mapping[str, pl.DataType] = {
    name: dtype for name, dtype in VENDOR_DAY_COLUMNS.items() if name not in ("provider", "feed")
}
"""The same of daily bars."""

_FOLDER_NAME = re.compile(r"[\w^=+$@#&!~-][\w^=+$@#&!~. -]*")


@dataclass(frozen=True)
class Settings:
    """Settings of the provider that a format may use; `Reader.takes` says which."""

    root: Path
    limits: Limits
    timezone: str | None = None
    scale: float | None = None
    security: str | None = None
    market: str | None = None
    path: str | None = None
    columns: Mapping[str, str] | None = None
    unit: str | None = None
    label: str | None = None
    header: bool = True
    skip_rows: int = 0
    time_format: str | None = None
    daily_path: str | None = None
    daily_columns: Mapping[str, str] | None = None


class Reader(ABC):
    """A format of local files. Raises `ValueError` when built with settings it cannot work with."""

    takes: ClassVar[Mapping[str, bool]] = {}
    """Settings the format knows besides root and limits → REQUIRED or OPTIONAL."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """Bars of the files that can overlap `[start, end)`, columns `READ_COLUMNS`, in order of arrival.

        Symbols are the vendor's names. Bars outside the range may be among them. Raises `BadFile`.
        """

    def days(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """Daily bars of the files, columns `DAY_COLUMNS`; those of other dates may be among them. Raises `BadFile`.

        Raises `BadRequest` where the format, or this use of it, has none.
        """
        asked = f"{len(symbols)} symbols on {len(dates)} dates"
        raise BadRequest(f"these files hold no daily bars of their own: {asked} were asked for")


class DatedFile(NamedTuple):
    """A file and the date its name states: `stamp`, written with the strftime `pattern`; both empty where none is."""

    path: Path
    pattern: str = ""
    stamp: str = ""


def local_dates(start: datetime, end: datetime, zone: str) -> list[date]:
    """Dates of the zone that `[start, end)` touches."""
    first = start.astimezone(ZoneInfo(zone)).date()
    last = (end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def folder_name(symbol: str) -> str:
    """The symbol, when it can be one part of a path; otherwise `BadRequest`."""
    if not _FOLDER_NAME.fullmatch(symbol):
        raise BadRequest(f"symbol {symbol!r} cannot name a file: expected letters, digits and ^ = + $ @ # & ! ~ . - _")
    return symbol
