"""The minutes in which bars are expected, those of many sessions in one row. Which are there is coverage.py's."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.clock import MICROSECONDS_PER_MINUTE, Minutes, days_of, minutes_of, timestamps_of
from marketpipe_assets.bars.sessions import Sessions

Booleans = npt.NDArray[np.bool_]
NO_BREAK = np.iinfo(np.int64).max


class Grid:
    """The expected minutes of some sessions: the regular hours without their breaks, numbered from 0.

    `starts` is the number of each session's first minute, `lengths` how many it has; both in order of date.
    """

    def __init__(self, sessions: Sessions, dates: Sequence[date]) -> None:
        table = sessions.rows(sorted(set(dates)))
        self.dates: Sequence[date] = table["session_date"].to_list()
        self._days = days_of(table["session_date"])
        self._open = minutes_of(table["open"])
        self._break_start = _or_never(table["break_start"])
        self._break_end = _or_never(table["break_end"])
        self._close = minutes_of(table["close"])
        self.lengths = table["expected_minutes"].to_numpy().astype(np.int64)
        self.starts: Minutes = np.concatenate(([0], np.cumsum(self.lengths)[:-1])).astype(np.int64)
        self.size = int(self.lengths.sum())

    def session_numbers(self, days: pl.Series) -> Minutes:
        """The place of each session date among `dates`; -1 for another day."""
        wanted = days_of(days)
        if not self._days.size:
            return np.full(wanted.size, -1)
        place = np.minimum(np.searchsorted(self._days, wanted), self._days.size - 1)
        return np.where(self._days[place] == wanted, place, -1)

    def numbers(self, minutes: Minutes, session: Minutes, lengths: Minutes) -> Minutes:
        """The numbers of UTC minutes; -1 for one that is not expected.

        `session` is the place of a session, -1 for another day, and `lengths` how many of the minutes are its, in turn.
        """
        known = session >= 0
        if not known.any():
            return np.full(minutes.size, -1)
        opens = np.repeat(np.where(known, self._open[session], NO_BREAK), lengths)
        number = minutes + np.repeat(self.starts[session] - self._open[session], lengths)
        expected = (minutes >= opens) & (minutes < np.repeat(self._close[session], lengths))
        if (pause := self._pause[session]).any():
            after_break = minutes >= np.repeat(self._break_end[session], lengths)
            expected &= (minutes < np.repeat(self._break_start[session], lengths)) | after_break
            number -= np.repeat(pause, lengths) * after_break
        return number if expected.all() else np.where(expected, number, -1)

    def sessions_of(self, numbers: Minutes) -> Minutes:
        """The place among `dates` of the session each numbered minute belongs to."""
        found: Minutes = np.searchsorted(self.starts, numbers, side="right") - 1
        return found

    def instants(self, numbers: Minutes) -> pl.Series:
        """The UTC instants of numbered minutes."""
        session = self.sessions_of(numbers)
        minutes = self._open[session] + numbers - self.starts[session]
        return timestamps_of(minutes + self._pause[session] * (minutes >= self._break_start[session]))

    @property
    def begins(self) -> Booleans:
        """Whether a minute is the first of its session or the first after a break: no hole spans it."""
        begins = np.zeros(self.size, dtype=bool)
        begins[self.starts[self.lengths > 0]] = True
        resumed = self.starts + self._break_start - self._open
        begins[resumed[(self._break_start != NO_BREAK) & (resumed < self.starts + self.lengths)]] = True
        return begins

    @property
    def _pause(self) -> Minutes:
        return np.where(self._break_end == NO_BREAK, 0, self._break_end - self._break_start)


def _or_never(ts: pl.Series) -> Minutes:
    minutes = ts.to_physical() // MICROSECONDS_PER_MINUTE
    never: Minutes = minutes.fill_null(NO_BREAK).to_numpy().astype(np.int64)
    return never
