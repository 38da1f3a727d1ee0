"""How many of a session's minutes are there."""

from collections.abc import Sequence
from datetime import date, time

import polars as pl
import pytest

from marketpipe_assets.bars.coverage import coverage, covered_share
from marketpipe_assets.bars.schema import empty
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets_tests.bars.minutes import calendar_of, minute_bars, minute_run

DAY = date(2024, 1, 2)

Counts = tuple[int, int, int]


def counts(
    bars: pl.DataFrame,
    calendar: Sessions | None = None,
    dates: Sequence[date] = (DAY,),
    symbols: Sequence[str] = ("ACME",),
) -> list[Counts]:
    """Expected, received and missing minutes of each symbol-day."""
    days = coverage(bars, bars, calendar or calendar_of(), symbols, dates).days
    return days.select("expected", "received", "missing").rows()


def test_a_whole_session_misses_nothing() -> None:
    assert counts(minute_bars(*minute_run("09:30", 390))) == [(390, 390, 0)]


def test_minutes_without_a_bar_are_missing() -> None:
    assert counts(minute_bars(*minute_run("09:30", 100), *minute_run("12:00", 50))) == [(390, 150, 240)]


def test_half_of_a_half_day_is_expected() -> None:
    assert counts(minute_bars(*minute_run("09:30", 210, "2024-11-29")), dates=[date(2024, 11, 29)]) == [(210, 210, 0)]


def test_the_same_minute_counts_once() -> None:
    bars = minute_bars(*minute_run("09:30", 3), *minute_run("09:30", 2), ("09:30:30", 10, 10, 10, 10, 100))

    assert counts(bars) == [(390, 3, 387)]


def test_bars_in_the_lunch_break_are_neither_expected_nor_counted() -> None:
    tokyo = calendar_of("XTKS")
    bars = minute_bars(*minute_run("11:20", 80, "2024-01-04"), calendar=tokyo)

    assert counts(bars, tokyo, [date(2024, 1, 4)]) == [(300, 20, 280)]


def test_bars_before_and_after_the_session_are_not_counted() -> None:
    extended = sessions("XNYS", date(2024, 1, 1), date(2025, 1, 1), (time(4), time(20)))
    bars = minute_bars(*minute_run("09:00", 31), *minute_run("15:59", 30), calendar=extended)

    assert counts(bars, extended) == [(390, 2, 388)]


def test_every_symbol_and_session_has_a_row_also_where_there_is_no_bar() -> None:
    bars = minute_bars(*minute_run("09:30", 5, "2024-01-03"), symbol="BOLT")

    rows = coverage(bars, bars, calendar_of(), ["BOLT", "ACME"], [DAY, date(2024, 1, 3)]).days

    assert rows.select("symbol", "session_date", "received").rows() == [
        ("BOLT", DAY, 0),
        ("BOLT", date(2024, 1, 3), 5),
        ("ACME", DAY, 0),
        ("ACME", date(2024, 1, 3), 0),
    ]


def test_bars_of_symbols_and_sessions_not_asked_for_are_left_out() -> None:
    bars = pl.concat(
        [minute_bars(*minute_run("09:30", 5, "2024-01-03")), minute_bars(*minute_run("09:30", 5), symbol="X")]
    )

    assert counts(bars) == [(390, 0, 390)]


def test_a_closed_day_is_refused() -> None:
    with pytest.raises(ValueError, match="expected sessions of XNYS, was 2024-01-01"):
        counts(empty(), dates=[date(2024, 1, 1)])


def test_the_share_covered_is_of_all_expected_minutes() -> None:
    bars = minute_bars(*minute_run("09:30", 195))

    assert covered_share(coverage(bars, bars, calendar_of(), ["ACME"], [DAY, date(2024, 1, 3)]).days) == 0.25


def test_where_nothing_is_expected_all_is_covered() -> None:
    assert covered_share(coverage(empty(), empty(), calendar_of(), ["ACME"], []).days) == 1.0
