"""Wall time of UTC instants, looked up by quarter of an hour instead of computed by row."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

MICROSECONDS_PER_MINUTE = 60_000_000
QUARTER = 15  # every change of a zone's offset since 1970 falls on a quarter of an hour

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
    quarters = minutes // QUARTER
    first, last = int(quarters.min()), int(quarters.max())
    instants = timestamps_of(np.arange(first, last + 1, dtype=np.int64) * QUARTER).dt.convert_time_zone(timezone)
    offsets = (instants.dt.base_utc_offset() + instants.dt.dst_offset()).dt.total_minutes().to_numpy()
    found: Minutes = offsets[quarters - first]
    return found


def local_midnight(day: date, timezone: str) -> datetime:
    """The first instant of a day in a zone, aware, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(ZoneInfo("UTC"))


def days_of(days: pl.Series) -> Minutes:
    """Days since 1970-01-01 of a date column."""
    return days.to_physical().to_numpy().astype(np.int64)


def next_day(day: date) -> date:
    return day + timedelta(days=1)
