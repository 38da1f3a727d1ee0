"""Market-wide halts that no calendar has: a table of days on which trading stood still during the session."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from marketpipe_assets.bars.reasons import Halt

NEW_YORK = ZoneInfo("America/New_York")


def _halt(day: str, start: str, end: str) -> Halt:
    """Local times; the minute in which trading stopped still has trades."""
    first, last = (datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK) for clock in (start, end))
    return Halt(first, last)


CIRCUIT_BREAKERS = (
    _halt("1997-10-27", "14:37", "15:06"),
    _halt("1997-10-27", "15:31", "16:00"),
    _halt("2020-03-09", "09:35", "09:49"),
    _halt("2020-03-12", "09:36", "09:50"),
    _halt("2020-03-16", "09:31", "09:45"),
    _halt("2020-03-18", "12:57", "13:11"),
)
"""All US stock exchanges stopped after the index had fallen too far."""

NYSE = (
    _halt("2001-06-08", "10:10", "11:35"),  # a failed software change
    _halt("2002-09-11", "09:30", "12:00"),  # a late open in memory of the year before
    _halt("2015-07-08", "11:32", "15:10"),  # a failed software change
)
NASDAQ = (_halt("2013-08-22", "12:14", "15:25"),)  # its quotation system failed

OF_NYSE, OF_NASDAQ = (*CIRCUIT_BREAKERS, *NYSE), (*CIRCUIT_BREAKERS, *NASDAQ)
HALTS: Mapping[str, Sequence[Halt]] = {"XNYS": OF_NYSE, "NYSE": OF_NYSE, "XNAS": OF_NASDAQ, "NASDAQ": OF_NASDAQ}
"""Calendar → halts. US stocks of either exchange are usually kept under one calendar, so a stop of one of the exchanges
explains a hole only where there is one: the others' stocks went on trading."""
