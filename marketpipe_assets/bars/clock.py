"""Wall time of UTC instants, looked up by quarter of an hour instead of computed by row."""

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.timeframes import MINUTES_PER_DAY

MICROSECONDS_PER_MINUTE = 60_000_000
QUARTER = 15  # every change of a zone's offset since 1970 falls on a quarter of an hour
QUARTERS = MINUTES_PER_DAY // QUARTER

Minutes = npt.NDArray[np.int64]
"""Whole minutes since 1970-01-01, UTC or local."""


def minutes_of(ts: pl.Series) -> Minutes:
    """UTC minutes of a timestamp column, seconds cut off."""
    return ts.to_physical().to_numpy() // MICROSECONDS_PER_MINUTE


def timestamps_of(minutes: Minutes) -> pl.Series:
    """A timestamp column of UTC minutes."""
    return pl.Series(minutes * MICROSECONDS_PER_MINUTE).cast(pl.Datetime("us", "UTC"))


def utc_offsets(minutes: Minutes, timezone: str) -> Minutes:
    """Minutes to add to UTC minutes for the zone's wall time."""
    if timezone == "UTC" or minutes.size == 0:
        return np.zeros_like(minutes)
    first, last = int(minutes.min()) // MINUTES_PER_DAY, int(minutes.max()) // MINUTES_PER_DAY
    offsets = _offsets(first, last + 1, timezone)
    changes = np.flatnonzero(np.diff(offsets)) + 1
    if changes.size > 1:
        found: Minutes = offsets[minutes // QUARTER - first * QUARTERS]
    elif changes.size:  # as half a year has one, and no look-up by row is needed
        found = np.where(minutes < first * MINUTES_PER_DAY + int(changes[0]) * QUARTER, offsets[0], offsets[-1])
    else:
        found = np.full_like(minutes, offsets[0])
    return found


@lru_cache(16)
def _offsets(first: int, end: int, timezone: str) -> Minutes:
    """Of each quarter of an hour of the UTC days in `[first, end)`."""
    instants = timestamps_of(np.arange(first * QUARTERS, end * QUARTERS, dtype=np.int64) * QUARTER)
    local = instants.dt.convert_time_zone(timezone)
    return (local.dt.base_utc_offset() + local.dt.dst_offset()).dt.total_minutes().to_numpy()


def local_midnight(day: date, timezone: str) -> datetime:
    """The first instant of a day in a zone, aware, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(ZoneInfo("UTC"))


def days_of(days: pl.Series) -> Minutes:
    """Days since 1970-01-01 of a date column."""
    return days.to_physical().to_numpy().astype(np.int64)


def next_day(day: date) -> date:
    return day + timedelta(days=1)
