"""Trading hours of exchanges, of the around-the-clock markets, and of the two calendars that are ours."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from marketpipe_assets.bars.calendars import calendar_names, is_calendar, schedule
from marketpipe_assets.bars.sessions import sessions


def hours(calendar: str, day: date) -> tuple[datetime, datetime]:
    """Open and close of one session, UTC."""
    row = schedule(calendar, day, day + timedelta(days=1)).hours.row(0, named=True)
    return row["open"], row["close"]


def minutes(calendar: str, day: date) -> int | None:
    """Expected minutes of a day; None where there is no session."""
    expected = sessions(calendar, day, day + timedelta(days=1)).table["expected_minutes"].to_list()
    return expected[0] if expected else None


def utc(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("calendar", "day", "expected"),
    [
        ("XNYS", date(2024, 11, 27), 390),
        ("XNYS", date(2024, 11, 28), None),  # Thanksgiving
        ("XNYS", date(2024, 11, 29), 210),  # closes at 13:00
        ("XNYS", date(2024, 11, 30), None),  # Saturday
        ("XLON", date(2024, 12, 24), 270),  # closes at 12:30
        ("XTKS", date(2024, 11, 1), 300),
        ("XTKS", date(2024, 11, 5), 330),  # half an hour longer from here on
        ("XHKG", date(2024, 1, 3), 330),
        ("24/7", date(2024, 3, 10), 1440),
        ("24/7", date(2024, 12, 25), 1440),
        ("XBOM", date(2024, 1, 2), 375),
        ("XNSE", date(2024, 1, 2), 375),
        ("XNSE", date(2024, 1, 26), None),  # Republic Day
        ("FX", date(2024, 1, 10), 1440),
        ("FX", date(2024, 1, 6), None),  # Saturday
        ("FX", date(2024, 1, 7), 420),  # Sunday from 17:00 New York, UTC-5
        ("FX", date(2024, 1, 5), 1020),  # Friday until 17:00
        ("FX", date(2024, 7, 7), 480),  # 17:00 New York is 16:00 at UTC-5 in summer
        ("FX", date(2024, 7, 5), 960),
        ("FX", date(2024, 12, 25), 420),
        ("FX", date(2024, 1, 1), 420),
        ("CME_GLOBEX", date(2015, 9, 18), 1380),  # until 16:15, with a pause of 15 minutes
        ("CME_GLOBEX", date(2015, 9, 21), 1365),  # until 16:00
        ("CME_GLOBEX", date(2021, 6, 25), 1365),
        ("CME_GLOBEX", date(2021, 6, 28), 1380),  # without the pause
        ("CME_GLOBEX", date(2024, 1, 6), None),
    ],
)
def test_a_session_has_the_minutes_the_exchange_trades(calendar: str, day: date, expected: int | None) -> None:
    assert minutes(calendar, day) == expected


@pytest.mark.parametrize(
    ("calendar", "day", "opening", "closing"),
    [
        ("XNYS", date(2024, 3, 8), utc(2024, 3, 8, 14, 30), utc(2024, 3, 8, 21)),
        ("XNYS", date(2024, 3, 11), utc(2024, 3, 11, 13, 30), utc(2024, 3, 11, 20)),
        ("XNYS", date(2024, 11, 4), utc(2024, 11, 4, 14, 30), utc(2024, 11, 4, 21)),
        ("XASX", date(2024, 4, 5), utc(2024, 4, 4, 23), utc(2024, 4, 5, 5)),
        ("XASX", date(2024, 4, 8), utc(2024, 4, 8, 0), utc(2024, 4, 8, 6)),
        ("XASX", date(2024, 10, 7), utc(2024, 10, 6, 23), utc(2024, 10, 7, 5)),
        ("CME_GLOBEX", date(2024, 3, 8), utc(2024, 3, 7, 23), utc(2024, 3, 8, 22)),
        ("CME_GLOBEX", date(2024, 3, 11), utc(2024, 3, 10, 22), utc(2024, 3, 11, 21)),
        ("24/7", date(2024, 3, 10), utc(2024, 3, 10, 0), utc(2024, 3, 11, 0)),
        ("FX", date(2024, 7, 3), utc(2024, 7, 3, 5), utc(2024, 7, 4, 5)),
    ],
)
def test_hours_follow_the_clock_of_the_exchange(calendar: str, day: date, opening: datetime, closing: datetime) -> None:
    assert hours(calendar, day) == (opening, closing)


def test_the_pause_of_globex_is_a_break() -> None:
    row = schedule("CME_GLOBEX", date(2021, 6, 25), date(2021, 6, 26)).hours.row(0, named=True)

    assert (row["break_start"], row["break_end"]) == (utc(2021, 6, 25, 20, 15), utc(2021, 6, 25, 20, 30))


def test_a_holiday_of_globex_that_closes_early_has_no_pause() -> None:
    row = schedule("CME_GLOBEX", date(2020, 11, 27), date(2020, 11, 28)).hours.row(0, named=True)

    assert row["close"] < utc(2020, 11, 27, 20)
    assert row["break_start"] is None


def test_the_day_of_globex_turns_in_the_evening_and_that_of_a_share_at_midnight() -> None:
    span = date(2024, 1, 2), date(2024, 1, 3)

    assert schedule("CME_GLOBEX", *span).roll == time(17)
    assert schedule("XNYS", *span).roll == time(0)


def test_mumbai_keeps_the_hours_of_its_other_exchange() -> None:
    span = date(2023, 1, 1), date(2024, 1, 1)

    assert schedule("XNSE", *span).hours.equals(schedule("XBOM", *span).hours)


def test_a_span_is_half_open() -> None:
    days = schedule("24/7", date(2024, 1, 1), date(2024, 1, 3)).hours["session_date"]

    assert days.to_list() == [date(2024, 1, 1), date(2024, 1, 2)]


def test_a_span_of_closed_days_has_no_sessions() -> None:
    assert schedule("XNYS", date(2024, 1, 6), date(2024, 1, 8)).hours.height == 0


def test_sessions_older_than_twenty_years_are_known() -> None:
    assert minutes("XNYS", date(1999, 12, 30)) == 390


def test_sessions_before_1970_have_hours() -> None:
    assert hours("XNYS", date(1962, 1, 2)) == (utc(1962, 1, 2, 14, 30), utc(1962, 1, 2, 21))


def test_the_first_day_of_the_epoch_has_hours() -> None:
    assert hours("24/7", date(1970, 1, 1)) == (utc(1970, 1, 1, 0), utc(1970, 1, 2, 0))


@pytest.mark.parametrize("name", ["XNYS", "24/7", "FX", "CME_GLOBEX", "XNSE"])
def test_names_a_market_may_use_are_listed(name: str) -> None:
    assert name in calendar_names()
    assert is_calendar(name)


def test_an_unknown_name_is_an_error_that_says_what_is_known() -> None:
    with pytest.raises(ValueError, match=r"expected a calendar such as XNYS, .*FX, CME_GLOBEX, was 'NASDAQ1'"):
        schedule("NASDAQ1", date(2024, 1, 1), date(2024, 2, 1))
