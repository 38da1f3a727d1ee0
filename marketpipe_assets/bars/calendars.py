"""Calendars by name: exchange_calendars' own, and the few it lacks. What a session is stands in sessions.py."""

from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from functools import cache
from typing import NamedTuple, Protocol

import polars as pl


class Schedule(NamedTuple):
    """The trading hours of a calendar.

    `hours` has one row per session, in order: `session_date`, and `open`, `break_start`, `break_end`, `close` as UTC
    timestamps; the breaks are null where there are none. `roll` is the local time at which the trading day changes:
    midnight, or the evening before the session's date (17:00 at the CME).
    """

    timezone: str
    roll: time
    hours: pl.DataFrame


class Computed(NamedTuple):
    """The hours of an exchange in `[start, end)`."""

    start: date
    end: date
    schedule: Schedule


class Memory(Protocol):
    """Where hours that were computed are kept, by the name of the exchange's calendar."""

    def read(self, name: str) -> Computed | None: ...

    def write(self, name: str, computed: Computed) -> None: ...


class Forgetful:
    """Keeps none."""

    def read(self, name: str) -> Computed | None:  # noqa: ARG002
        return None

    def write(self, name: str, computed: Computed) -> None:
        pass


_memory: list[Memory] = [Forgetful()]


def remember(memory: Memory) -> None:
    """Keep what this process computes, and use what others have kept."""
    _memory[:] = [memory]


MIDNIGHT = time(0)
ALIASES = {"XNSE": "XBOM"}  # India's two exchanges keep the same hours and holidays


def calendar_names() -> tuple[str, ...]:
    """Every name a market may use, sorted."""
    import exchange_calendars  # takes more than a second, so only when asked

    return tuple(sorted({*exchange_calendars.get_calendar_names(), *OURS, *ALIASES}))


def is_calendar(name: str) -> bool:
    known = name in OURS or _memory[0].read(ALIASES.get(name, name)) is not None
    return known or name in calendar_names()


@cache
def schedule(name: str, start: date, end: date) -> Schedule:
    """Sessions whose date lies in `[start, end)`, as far ahead as the calendar's holidays are known.

    Raises `ValueError` for an unknown name and for a start before the calendar's first year.
    """
    if not is_calendar(name):
        raise ValueError(f"expected a calendar such as XNYS, XLON, 24/7, {', '.join(OURS)}, was {name!r}")
    return OURS[name](start, end) if name in OURS else _exchange(ALIASES.get(name, name), start, end)


def _exchange(name: str, start: date, end: date) -> Schedule:
    known = _memory[0].read(name)
    if known is None or start < known.start or end > known.end:
        first, last = (start, end) if known is None else (min(start, known.start), max(end, known.end))
        known = Computed(first, last, _computed(name, first, last))
        _memory[0].write(name, known)
    within = pl.col("session_date").is_between(start, end, closed="left")
    return known.schedule._replace(hours=known.schedule.hours.filter(within))


def _computed(name: str, start: date, end: date) -> Schedule:
    import exchange_calendars
    import pandas as pd

    calendar = exchange_calendars.get_calendar(name)
    if calendar.first_session.date() > start or calendar.last_session.date() < end:
        earliest, latest = calendar.bound_min(), calendar.bound_max()
        if earliest is not None and start < earliest.date():
            raise ValueError(f"expected sessions of {name} from {earliest:%Y-%m-%d} on, was {start}")
        # a span that holds no session is refused there, so ask for more on both sides and cut
        first, last = pd.Timestamp(start - timedelta(days=30)), pd.Timestamp(end + timedelta(days=30))
        calendar = exchange_calendars.get_calendar(
            name,
            start=first if earliest is None else max(first, earliest),
            end=last if latest is None else min(last, latest),
        )
    nanoseconds = (
        calendar.opens_nanos,
        calendar.break_starts_nanos,
        calendar.break_ends_nanos,
        calendar.closes_nanos,
    )
    hours = pl.DataFrame(
        {"session_date": calendar.sessions.values, **dict(zip(HOURS, nanoseconds, strict=True))}
    ).select(pl.col("session_date").cast(pl.Date), *(_timestamp(name) for name in HOURS))
    timezone = str(calendar.tz)
    roll = calendar.open_times[-1][1] if calendar.open_offset else MIDNIGHT
    return Schedule(timezone, roll, hours.filter(pl.col("session_date").is_between(start, end, closed="left")))


MISSING = -(2**63)  # how a calendar without breaks says so, in nanoseconds
HOURS = ("open", "break_start", "break_end", "close")


def _timestamp(name: str) -> pl.Expr:
    nanoseconds = pl.when(pl.col(name) != MISSING).then(pl.col(name))
    return (nanoseconds // 1000).cast(pl.Datetime("us", "UTC")).alias(name)


def at_local_time(day: pl.Expr, clock: time, timezone: str) -> pl.Expr:
    """The UTC instant of a wall time; of one that comes twice the first, null for one that the clock skips."""
    local = day.dt.combine(clock).dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def _fx_week(start: date, end: date) -> Schedule:
    """Whole days at UTC-5 all year, as FX vendors cut them, from Sunday 17:00 to Friday 17:00 New York time.

    The closed hours of Sunday and Friday are breaks: a dealer's early quotes still belong to the day, and no minute
    of them is expected. Christmas and New Year's Day open in the evening as a Sunday does.
    """
    timezone, new_york = "Etc/GMT+5", "America/New_York"
    day = pl.col("session_date")
    weekday = day.dt.weekday()
    five_pm = at_local_time(day, time(17), new_york)
    midnight, next_midnight = (
        at_local_time(day, MIDNIGHT, timezone),
        at_local_time(day.dt.offset_by("1d"), MIDNIGHT, timezone),
    )
    holiday = ((day.dt.month() == 12) & (day.dt.day() == 25)) | (day.dt.ordinal_day() == 1)
    evening_only = (weekday == 7) | holiday
    hours = (
        pl.DataFrame({"session_date": pl.date_range(start, end, closed="left", eager=True)})
        .filter((weekday != 6) & ~(holiday & (weekday == 5)))
        .select(
            day,
            midnight.alias("open"),
            pl.when(evening_only).then(midnight).when(weekday == 5).then(five_pm).alias("break_start"),
            pl.when(evening_only).then(five_pm).when(weekday == 5).then(next_midnight).alias("break_end"),
            next_midnight.alias("close"),
        )
    )
    return Schedule(timezone, MIDNIGHT, hours)


def _cme_globex(start: date, end: date) -> Schedule:
    """CME Globex equity index hours: 17:00 to 16:00 Chicago time, with the daily halt that CMES lacks.

    The close was 16:15 before 2015-09-21, and trading paused 15:15-15:30 before 2021-06-28. Holidays and early closes
    are those of CMES.
    """
    timezone, roll, hours = _exchange("CMES", start, end)
    day = pl.col("session_date")
    whole_day = pl.col("close") == at_local_time(day, roll, timezone)
    close = (
        pl.when(day < date(2015, 9, 21))
        .then(at_local_time(day, time(16, 15), timezone))
        .otherwise(at_local_time(day, time(16), timezone))
    )
    paused = whole_day & (day < date(2021, 6, 28))
    return Schedule(
        timezone,
        roll,
        hours.with_columns(
            pl.when(paused).then(at_local_time(day, time(15, 15), timezone)).alias("break_start"),
            pl.when(paused).then(at_local_time(day, time(15, 30), timezone)).alias("break_end"),
            pl.when(whole_day).then(close).otherwise(pl.col("close")).alias("close"),
        ),
    )


OURS: Mapping[str, Callable[[date, date], Schedule]] = {"FX": _fx_week, "CME_GLOBEX": _cme_globex}
