"""Which session a bar belongs to, what is asked of a provider, and when a session is complete."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.schema import BAR_COLUMNS, VENDOR_COLUMNS, conform
from marketpipe_assets.bars.sessions import Sessions, Window, sessions

SPAN = date(2023, 12, 1), date(2025, 1, 1)
EXTENDED = time(4), time(20)

Label = tuple[date, str | None]


def bars_at(*instants: str) -> pl.DataFrame:
    """Vendor bars of ACME at these UTC times."""
    ts = pl.Series(instants, dtype=pl.String).str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", time_zone="UTC")
    rows = pl.DataFrame({"symbol": ["ACME"] * len(instants), "ts": ts})
    constants = dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), 10.0)
    rest = {**constants, "trade_count": 1, "provider": "files", "feed": "csv"}
    return conform(rows.with_columns(**{name: pl.lit(value) for name, value in rest.items()}), VENDOR_COLUMNS)


def labels(calendar: Sessions, *instants: str) -> Sequence[Label]:
    return calendar.assign(bars_at(*instants)).select("session_date", pl.col("session").cast(pl.String)).rows()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_bars_are_before_in_and_after_the_regular_session() -> None:
    found = labels(
        sessions("XNYS", *SPAN, EXTENDED),
        "2024-01-02 09:00",
        "2024-01-02 14:29",
        "2024-01-02 14:30",
        "2024-01-02 20:59",
        "2024-01-02 21:00",
        "2024-01-03 00:59",
    )

    day = date(2024, 1, 2)
    assert found == [(day, "pre"), (day, "pre"), (day, "regular"), (day, "regular"), (day, "post"), (day, "post")]


def test_after_an_early_close_it_is_post_market() -> None:
    calendar = sessions("XNYS", *SPAN, EXTENDED)

    assert labels(calendar, "2024-11-29 17:59", "2024-11-29 18:00") == [
        (date(2024, 11, 29), "regular"),
        (date(2024, 11, 29), "post"),
    ]


def test_the_open_moves_in_utc_with_the_clock_of_the_exchange() -> None:
    calendar = sessions("XNYS", *SPAN)

    assert labels(calendar, "2024-03-08 13:30", "2024-03-11 13:30") == [
        (date(2024, 3, 8), "pre"),
        (date(2024, 3, 11), "regular"),
    ]


def test_a_bar_on_a_closed_day_keeps_its_local_date_and_has_no_session() -> None:
    calendar = sessions("XNYS", *SPAN)

    assert labels(calendar, "2024-01-06 15:00", "2024-12-26 02:00", "2030-01-02 15:00") == [
        (date(2024, 1, 6), None),
        (date(2024, 12, 25), None),
        (date(2030, 1, 2), None),
    ]


def test_a_bar_in_the_lunch_break_is_regular() -> None:
    assert labels(sessions("XTKS", *SPAN), "2024-01-04 02:45") == [(date(2024, 1, 4), "regular")]


def test_sunday_evening_in_chicago_is_monday() -> None:
    calendar = sessions("CME_GLOBEX", *SPAN)

    assert labels(calendar, "2024-01-07 22:59", "2024-01-07 23:00", "2024-01-08 21:59", "2024-01-08 22:30") == [
        (date(2024, 1, 7), None),
        (date(2024, 1, 8), "regular"),
        (date(2024, 1, 8), "regular"),
        (date(2024, 1, 8), "post"),
    ]


def test_sunday_evening_in_chicago_is_monday_in_summer_as_well() -> None:
    calendar = sessions("CME_GLOBEX", *SPAN)

    assert labels(calendar, "2024-07-07 21:59", "2024-07-07 22:00") == [
        (date(2024, 7, 7), None),
        (date(2024, 7, 8), "regular"),
    ]


def test_assigning_keeps_rows_in_their_order_and_gives_every_column() -> None:
    frame = sessions("XNYS", *SPAN).assign(bars_at("2024-01-03 15:00", "2024-01-02 15:00"))

    assert frame.columns == list(BAR_COLUMNS)
    assert frame["session_date"].to_list() == [date(2024, 1, 3), date(2024, 1, 2)]


def test_no_bars_are_assigned_to_no_sessions() -> None:
    frame = sessions("XNYS", *SPAN).assign(bars_at())

    assert dict(frame.schema) == dict(BAR_COLUMNS)
    assert frame.height == 0


def test_without_sessions_every_bar_is_outside() -> None:
    weekend = sessions("XNYS", date(2024, 1, 6), date(2024, 1, 8))

    assert labels(weekend, "2024-01-06 15:00") == [(date(2024, 1, 6), None)]


def test_a_request_spans_the_sessions_and_the_closed_days_before_them() -> None:
    calendar = sessions("XNYS", *SPAN)

    tuesday_to_wednesday = calendar.request([date(2024, 1, 3), date(2024, 1, 4)])
    monday = calendar.request([date(2024, 1, 8)])

    assert tuesday_to_wednesday == Window(utc("2024-01-03 14:30"), utc("2024-01-04 21:00"))
    assert monday == Window(utc("2024-01-06 05:00"), utc("2024-01-08 21:00"))


def test_a_request_spans_the_extended_hours_where_there_are_any() -> None:
    asked = sessions("XNYS", *SPAN, EXTENDED).request([date(2024, 1, 3)])

    assert asked == Window(utc("2024-01-03 09:00"), utc("2024-01-04 01:00"))


def test_a_request_over_midnight_begins_in_the_evening_of_the_closed_days() -> None:
    asked = sessions("CME_GLOBEX", *SPAN).request([date(2024, 1, 8)])

    assert asked == Window(utc("2024-01-05 23:00"), utc("2024-01-08 22:00"))


def test_extended_hours_that_lie_inside_the_session_do_not_shorten_it() -> None:
    asked = sessions("XNYS", *SPAN, (time(10), time(15))).request([date(2024, 1, 3)])

    assert asked == Window(utc("2024-01-03 14:30"), utc("2024-01-03 21:00"))


def test_what_was_not_asked_for_is_left_out() -> None:
    calendar = sessions("XNYS", *SPAN)
    bars = calendar.assign(
        bars_at("2024-01-05 20:59", "2024-01-06 15:00", "2024-01-08 14:29", "2024-01-08 14:30", "2024-01-08 21:00")
    )

    kept = calendar.asked(bars, [date(2024, 1, 8)])

    assert kept["ts"].to_list() == [utc("2024-01-06 15:00"), utc("2024-01-08 14:30")]


def test_a_session_owns_the_closed_days_before_it() -> None:
    calendar = sessions("XNYS", *SPAN)

    assert calendar.owned_dates([date(2024, 1, 3)]) == [date(2024, 1, 3)]
    assert calendar.owned_dates([date(2024, 1, 16)]) == [date(2024, 1, day) for day in (13, 14, 15, 16)]


@given(st.sets(st.dates(date(2024, 1, 1), date(2024, 12, 31)), min_size=1, max_size=20))
def test_every_date_belongs_to_one_session(days: set[date]) -> None:
    calendar = sessions("XNYS", *SPAN)
    dates = [day for day in calendar.dates if day in days]

    owned = [set(calendar.owned_dates([day])) for day in dates]

    assert sum(map(len, owned)) == len(set().union(*owned)) == len(calendar.owned_dates(dates))


@given(st.integers(0, 366 * 1440), st.sampled_from(["XNYS", "XTKS", "CME_GLOBEX", "FX", "24/7"]))
def test_a_trading_day_holds_the_minutes_from_its_start_to_the_next(minute: int, name: str) -> None:
    calendar = sessions(name, *SPAN)
    instant = pl.Series([utc("2024-01-01 00:00") + timedelta(minutes=minute)], dtype=pl.Datetime("us", "UTC"))
    at = instant.to_physical().to_numpy() // 60_000_000

    day = calendar.trading_days(at)

    assert calendar.day_starts(day) <= at < calendar.day_starts(day + 1)


@pytest.mark.parametrize(
    ("calendar", "extended", "day", "instant"),
    [
        ("XNYS", None, date(2024, 1, 3), "2024-01-03 21:00"),
        ("XNYS", EXTENDED, date(2024, 1, 3), "2024-01-04 01:00"),
        ("XNYS", None, date(2024, 11, 29), "2024-11-29 18:00"),
        ("24/7", None, date(2024, 1, 3), "2024-01-04 00:00"),
        ("CME_GLOBEX", None, date(2024, 1, 8), "2024-01-08 22:00"),
        ("FX", None, date(2024, 7, 4), "2024-07-05 05:00"),
        ("FX", None, date(2024, 7, 5), "2024-07-05 21:00"),
        ("FX", (time(0), time(23, 59)), date(2024, 7, 5), "2024-07-06 05:00"),
    ],
)
def test_a_session_is_published_when_its_window_ends(
    calendar: str, extended: tuple[time, time] | None, day: date, instant: str
) -> None:
    assert sessions(calendar, *SPAN, extended).published_by(day) == utc(instant)


def test_the_last_minute_is_the_last_one_of_trading_where_a_break_lasts_to_the_close() -> None:
    week = sessions("FX", *SPAN)

    published = week.publication([date(2024, 7, 4), date(2024, 7, 5), date(2024, 7, 7)], timedelta(hours=1))

    assert published.rows() == [
        (date(2024, 7, 4), utc("2024-07-05 04:59"), utc("2024-07-05 06:00")),
        (date(2024, 7, 5), utc("2024-07-05 20:59"), utc("2024-07-05 22:00")),
        (date(2024, 7, 7), utc("2024-07-08 04:59"), utc("2024-07-08 06:00")),
    ]


def test_a_date_without_a_session_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected sessions of XNYS, was 2024-01-06, 2024-01-07"):
        sessions("XNYS", *SPAN).request([date(2024, 1, 5), date(2024, 1, 6), date(2024, 1, 7)])


def test_expected_minutes_are_those_of_the_regular_session() -> None:
    dates = [date(2024, 11, 27), date(2024, 11, 29)]

    expected = sessions("XNYS", *SPAN, EXTENDED).expected_minutes(dates)

    assert expected.rows() == [(dates[0], 390), (dates[1], 210)]


def test_dates_between_are_half_open() -> None:
    calendar = sessions("XNYS", *SPAN)

    assert calendar.between(date(2024, 1, 5), date(2024, 1, 9)) == (date(2024, 1, 5), date(2024, 1, 8))
