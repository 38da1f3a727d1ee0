"""What a person decided about bars: waivers of a rule, and repairs. How both are applied is in quarantine.py."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import NamedTuple

REPAIRABLE = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
"""Columns a repair may set."""

MAY_BE_NULL = ("trade_count", "vwap")


class Waiver(NamedTuple):
    """One rule that does not count for a symbol's sessions from `first` to `last`, until the day it expires.

    `place` is the file and line it stands in.
    """

    symbol: str
    first: date
    last: date
    rule: str
    reason: str
    author: str
    expires: date
    place: str = ""


class Repair(NamedTuple):
    """Values that take the place of a bar's own when it is judged; every copy of the bar gets them.

    `ts` is the bar's first instant as raw has it, `values` column → value, null where the column may be.
    """

    symbol: str
    ts: datetime
    values: Mapping[str, float | None]
    reason: str
    author: str
    place: str = ""


class Amendments(NamedTuple):
    """Those of one market."""

    waivers: tuple[Waiver, ...] = ()
    repairs: tuple[Repair, ...] = ()


def standing(waivers: Iterable[Waiver], today: date) -> tuple[Waiver, ...]:
    """Those that have not expired."""
    return tuple(each for each in waivers if today < each.expires)


def expired(waivers: Iterable[Waiver], today: date) -> tuple[Waiver, ...]:
    return tuple(each for each in waivers if today >= each.expires)
