"""Sessions of a calendar: their dates, hours, expected minutes, and which bar belongs to which."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from marketpipe_assets.bars.calendars import at_local_time, schedule
from marketpipe_assets.bars.clock import (
    Minutes,
    days_of,
    local_midnight,
    minutes_of,
    timestamps_of,
    utc_offsets,
)
from marketpipe_assets.bars.schema import BAR_COLUMNS
from marketpipe_assets.bars.timeframes import MINUTES_PER_DAY

LABELS = pl.Series("session", ["regular", "pre", "post"], dtype=pl.Categorical())
REGULAR, PRE, POST = range(3)

ExtendedHours = tuple[time, time]
"""Local start of pre-market and end of post-market."""


class Window(NamedTuple):
    """A half-open span of UTC instants."""

    start: datetime
    end: datetime


class Sessions:
    """The sessions of one calendar over a span of dates.

    `table` has one row per session, ordered by `session_date`: `open`, `break_start`, `break_end`, `close` (UTC), the
    bounds `window_start`, `window_end` of what a market asks its provider for (the extended hours where there are
    any, else the regular ones), and `expected_minutes` of the regular session without its breaks. A break that lasts
    to the close ends trading: nothing is asked for, or waited for, after it has begun.
    """

    def __init__(self, calendar: str, start: date, end: date, extended_hours: ExtendedHours | None = None) -> None:
        self.calendar = calendar
        self.timezone, self.roll, hours = schedule(calendar, start, end)
        self.extended_hours = extended_hours
        self.table = hours.with_columns(
            *_windows(extended_hours, self.timezone), _expected_minutes().alias("expected_minutes")
        )
        self._days = days_of(self.table["session_date"])
        self._minutes = {name: minutes_of(self.table[name]) for name in ("open", "close", "window_start", "window_end")}

    @cached_property
    def dates(self) -> Sequence[date]:
        return tuple(self.table["session_date"])

    def between(self, first: date, end: date) -> Sequence[date]:
        """Session dates in `[first, end)`."""
        return self.dates[bisect_left(self.dates, first) : bisect_left(self.dates, end)]

    def trading_days(self, minutes: Minutes) -> Minutes:
        """The trading day, as days since 1970-01-01, that each UTC minute belongs to, closed days included."""
        local = minutes + utc_offsets(minutes, self.timezone)
        return (local + self._roll_shift) // MINUTES_PER_DAY

    @property
    def rolls_in_the_evening(self) -> bool:
        return self._roll_shift > 0

    def local_midnights(self, days: Minutes) -> Minutes:
        """UTC minutes of local midnight of these dates."""
        return self._utc(days * MINUTES_PER_DAY)

    def opens(self, days: Minutes) -> Minutes:
        """UTC minutes at which the sessions of these dates open."""
        return self._minutes["open"][self._positions(days)]

    def day_starts(self, days: Minutes) -> Minutes:
        """UTC minutes at which these trading days begin."""
        return self._utc(days * MINUTES_PER_DAY - self._roll_shift)

    def _utc(self, local: Minutes) -> Minutes:
        guess = local - utc_offsets(local, self.timezone)
        return local - utc_offsets(guess, self.timezone)

    def assign(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Vendor bars with `session_date` and `session`, as `schema.BAR_COLUMNS`, in the same order.

        `session` is `pre` before the open, `post` from the close on, else `regular`, breaks included. A bar on a day
        without a session keeps its local date and has no `session`.
        """
        minutes = minutes_of(bars["ts"])
        days = self.trading_days(minutes)
        position = self._positions(days)
        labels = np.full(days.size, REGULAR)
        if self._days.size:
            labels[minutes < self._minutes["open"][position]] = PRE
            labels[minutes >= self._minutes["close"][position]] = POST
        codes = pl.Series(labels, dtype=pl.UInt32).set(pl.Series(position < 0), None)
        return bars.with_columns(
            pl.Series("session_date", days.astype(np.int32)).cast(pl.Date),
            LABELS.gather(codes).alias("session"),
        ).select(*BAR_COLUMNS)

    def day_bars(self, days: pl.DataFrame) -> pl.DataFrame:
        """A vendor's daily bars, `schema.VENDOR_DAY_COLUMNS`, as `schema.BAR_COLUMNS`: at local midnight, regular."""
        midnights = timestamps_of(self.local_midnights(days_of(days["session_date"])))
        regular = pl.lit("regular", dtype=BAR_COLUMNS["session"]).alias("session")
        return days.with_columns(midnights.alias("ts"), regular).select(*BAR_COLUMNS)

    def request(self, dates: Sequence[date]) -> Window:
        """What to ask a provider for so that it can answer every one of these sessions.

        Begins with the closed days before the first session, so that a bar on a day the calendar calls closed is
        seen and judged rather than never fetched.
        """
        wanted = self.rows(dates)
        first: datetime = wanted["window_start"].min()  # type: ignore[assignment]  # a column of timestamps
        end: datetime = wanted["window_end"].max()  # type: ignore[assignment]  # a column of timestamps
        closed = min(self.owned_dates([min(dates)]))
        if closed == min(dates):
            return Window(first, end)
        return Window(min(first, local_midnight(closed, self.timezone) - self._roll_before_midnight), end)

    def asked(self, bars: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
        """Bars, of an assigned frame, in the windows of these sessions or on the closed days before them."""
        ours = bars["session_date"].is_in(self.owned_dates(dates)) & (self.in_window(bars) | bars["session"].is_null())
        return bars if ours.all() else bars.filter(ours)

    def in_window(self, bars: pl.DataFrame) -> pl.Series:
        """Whether each bar of an assigned frame lies in its session's window; false on a closed day."""
        minutes = minutes_of(bars["ts"])
        position = self._positions(days_of(bars["session_date"]))
        if not self._days.size:
            return pl.Series("in_window", np.zeros(minutes.size, dtype=bool))
        start, end = self._minutes["window_start"][position], self._minutes["window_end"][position]
        return pl.Series("in_window", (position >= 0) & (minutes >= start) & (minutes < end))

    def owners(self, bars: pl.DataFrame) -> pl.Series:
        """The session each bar of an assigned frame belongs to; for a bar on a closed day the one after it."""
        row = np.searchsorted(self._days, days_of(bars["session_date"]))
        return self.table["session_date"].gather(np.minimum(row, self._days.size - 1))

    def owned_dates(self, dates: Iterable[date]) -> list[date]:
        """The sessions' own dates and the closed days that lead up to each, sorted.

        So every date belongs to one session, and a partition can be replaced whole.
        """
        owned: set[date] = set()
        for day in dates:
            number = self._numbers[day]
            previous = self.dates[number - 1] if number else day - timedelta(days=1)
            owned.update(previous + timedelta(days=n) for n in range(1, (day - previous).days + 1))
        return sorted(owned)

    def expected_minutes(self, dates: Sequence[date]) -> pl.DataFrame:
        """`session_date`, `expected_minutes` of these sessions."""
        return self.rows(dates).select("session_date", "expected_minutes")

    def rows(self, dates: Sequence[date]) -> pl.DataFrame:
        """The rows of `table` for these sessions. Raises `ValueError` that names the dates that are none."""
        rows = self.table.filter(pl.col("session_date").is_in(list(dates)))
        if rows.height != len(set(dates)):
            known = set(rows["session_date"].to_list())
            unknown = sorted(day for day in set(dates) if day not in known)
            raise ValueError(f"expected sessions of {self.calendar}, was {', '.join(map(str, unknown))}")
        return rows

    def publication(self, dates: Sequence[date], delay: timedelta) -> pl.DataFrame:
        """`session_date`, `last_minute` (the last regular one, UTC) and `published_at` of these sessions.

        Before `published_at` a provider may still be adding bars: `delay` after the end of what is asked for.
        """
        return self.rows(dates).select(
            "session_date",
            (_trading_end() - pl.duration(minutes=1)).alias("last_minute"),
            (pl.col("window_end") + delay).alias("published_at"),
        )

    def published_by(self, day: date) -> datetime:
        """The instant from which a session can be fetched whole: the end of what is asked for."""
        if day not in self._ends:
            self.rows([day])  # says that there is no such session
        return self._ends[day]

    @cached_property
    def _numbers(self) -> Mapping[date, int]:
        return {day: number for number, day in enumerate(self.dates)}

    @cached_property
    def _ends(self) -> Mapping[date, datetime]:
        return dict(self.table.select("session_date", "window_end").iter_rows())

    def _positions(self, days: Minutes) -> Minutes:
        """Row of `table` for each trading day; -1 for a day without a session."""
        if not (days.size and self._days.size):
            return np.full(days.size, -1)
        first = min(int(days.min()), int(self._days[0]))
        last = max(int(days.max()), int(self._days[-1]))
        row_of_day = np.full(last - first + 1, -1)
        row_of_day[self._days - first] = np.arange(self._days.size)
        found: Minutes = row_of_day[days - first]
        return found

    @property
    def _roll_shift(self) -> int:
        roll = self.roll.hour * 60 + self.roll.minute
        return (MINUTES_PER_DAY - roll) % MINUTES_PER_DAY

    @property
    def _roll_before_midnight(self) -> timedelta:
        return timedelta(minutes=self._roll_shift)


def _windows(extended_hours: ExtendedHours | None, timezone: str) -> tuple[pl.Expr, pl.Expr]:
    if extended_hours is None:
        return pl.col("open").alias("window_start"), _trading_end().alias("window_end")
    first, last = (at_local_time(pl.col("session_date"), clock, timezone) for clock in extended_hours)
    return (
        pl.min_horizontal(first, "open").alias("window_start"),
        pl.max_horizontal(last, "close").alias("window_end"),
    )


def _trading_end() -> pl.Expr:
    return pl.when(pl.col("break_end") == pl.col("close")).then("break_start").otherwise("close")


def _expected_minutes() -> pl.Expr:
    whole = (pl.col("close") - pl.col("open")).dt.total_minutes()
    paused = (pl.col("break_end") - pl.col("break_start")).dt.total_minutes().fill_null(0)
    return whole - paused


@cache
def sessions(calendar: str, start: date, end: date, extended_hours: ExtendedHours | None = None) -> Sessions:
    """Sessions in `[start, end)`, built once."""
    return Sessions(calendar, start, end, extended_hours)


def today() -> date:
    return datetime.now(UTC).date()
