"""The wall time looked up by quarter of an hour is the wall time of the zone."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.clock import days_of, local_midnight, minutes_of, next_day, timestamps_of, utc_offsets

ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Etc/GMT+5",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "UTC",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    zone=st.sampled_from(ZONES),
    instants=st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31)), min_size=1, max_size=5),  # noqa: DTZ001  # hypothesis wants naive bounds
)
def test_offsets_are_those_of_the_zone(zone: str, instants: list[datetime]) -> None:
    aware = [instant.replace(tzinfo=UTC) for instant in instants]
    minutes = np.array([(instant - EPOCH) // timedelta(minutes=1) for instant in aware])

    offsets = utc_offsets(minutes, zone)

    there = [instant.astimezone(ZoneInfo(zone)).utcoffset() for instant in aware]
    assert [timedelta(minutes=int(offset)) for offset in offsets] == there


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/New_York", datetime(2024, 3, 10, 7, tzinfo=UTC)),
        ("America/New_York", datetime(2024, 11, 3, 6, tzinfo=UTC)),
        ("Australia/Sydney", datetime(2024, 4, 6, 16, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),
        ("Pacific/Chatham", datetime(2024, 9, 28, 14, tzinfo=UTC)),
    ],
)
def test_an_offset_changes_in_the_minute_the_clocks_do(zone: str, change: datetime) -> None:
    first = (change - EPOCH) // timedelta(minutes=1)

    before, after = utc_offsets(np.array([first - 1, first]), zone)

    assert timedelta(minutes=int(before)) == (change - timedelta(minutes=1)).astimezone(ZoneInfo(zone)).utcoffset()
    assert timedelta(minutes=int(after)) == change.astimezone(ZoneInfo(zone)).utcoffset()
    assert before != after


def test_no_minutes_have_no_offsets() -> None:
    assert utc_offsets(np.array([], dtype=np.int64), "America/New_York").size == 0


def test_minutes_are_cut_and_not_rounded() -> None:
    instants = pl.Series(
        [datetime(2024, 1, 2, 14, 30, 59, tzinfo=UTC), EPOCH - timedelta(seconds=1)], dtype=pl.Datetime("us", "UTC")
    )

    assert timestamps_of(minutes_of(instants)).to_list() == [
        datetime(2024, 1, 2, 14, 30, tzinfo=UTC),
        EPOCH - timedelta(minutes=1),
    ]


@pytest.mark.parametrize(
    ("day", "zone", "instant"),
    [
        (date(2024, 3, 11), "America/New_York", datetime(2024, 3, 11, 4, tzinfo=UTC)),
        (date(2024, 3, 10), "America/New_York", datetime(2024, 3, 10, 5, tzinfo=UTC)),
        (date(2024, 1, 1), "Asia/Tokyo", datetime(2023, 12, 31, 15, tzinfo=UTC)),
    ],
)
def test_a_local_day_begins_at_an_instant_of_utc(day: date, zone: str, instant: datetime) -> None:
    assert local_midnight(day, zone) == instant


def test_days_are_counted_from_1970() -> None:
    assert days_of(pl.Series([date(1969, 12, 31), date(1970, 1, 2)])).tolist() == [-1, 1]


def test_the_day_after_a_leap_day_is_the_first_of_march() -> None:
    assert next_day(date(2024, 2, 29)) == date(2024, 3, 1)
