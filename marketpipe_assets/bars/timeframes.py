"""The table of bar lengths and how each is aligned."""

from typing import NamedTuple

MINUTES_PER_DAY = 1440


class Timeframe(NamedTuple):
    """A bar length. `minutes` divides a day, so that its bars restart at every local midnight."""

    label: str
    minutes: int

    @property
    def table(self) -> str:
        return f"bars_{self.label}"


TIMEFRAMES = {
    timeframe.label: timeframe
    for timeframe in (
        Timeframe("1m", 1),
        Timeframe("3m", 3),
        Timeframe("5m", 5),
        Timeframe("15m", 15),
        Timeframe("30m", 30),
        Timeframe("45m", 45),
        Timeframe("1h", 60),
        Timeframe("2h", 120),
        Timeframe("3h", 180),
        Timeframe("4h", 240),
        Timeframe("1d", MINUTES_PER_DAY),
    )
}
"""Stored bar lengths. A day is one session, whatever its hours."""

COMPUTED_ON_READING = {"1w": "1w", "1M": "1mo"}
"""Lengths computed from 1d when read → the calendar step that groups session dates (Monday, first of month)."""


def timeframe(label: str) -> Timeframe:
    """The stored bar length of this name. Raises `ValueError` for any other; `1M` is a month, `1m` a minute."""
    if label not in TIMEFRAMES:
        raise ValueError(f"expected a timeframe of {', '.join(TIMEFRAMES)}, was {label!r}")
    return TIMEFRAMES[label]
