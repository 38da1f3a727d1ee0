"""Longer bars: where they begin, what they hold, and what they leave alone."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from math import nan
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from marketpipe_assets.bars import calendars
from marketpipe_assets.bars.calendars import Schedule
from marketpipe_assets.bars.resample import Anchor, resample
from marketpipe_assets.bars.schema import BAR_COLUMNS, empty
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.bars.timeframes import TIMEFRAMES
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars, minute_run

EXTENDED = sessions("XNYS", date(2024, 1, 1), date(2025, 1, 1), (time(4), time(20)))


def longer(
    bars: pl.DataFrame,
    label: str,
    calendar: Sessions | None = None,
    session: str = "regular",
    anchor: Anchor = Anchor.CLOCK,
) -> pl.DataFrame:
    return resample(bars, [TIMEFRAMES[label]], calendar or calendar_of(), session, anchor)[label]


def begins(bars: pl.DataFrame, timezone: str = "America/New_York") -> list[str]:
    return bars["ts"].dt.convert_time_zone(timezone).dt.strftime("%m-%d %H:%M").to_list()


def bars_every(
    length: timedelta, begin: datetime, end: datetime, calendar: Sessions, symbol: str = "ACME"
) -> pl.DataFrame:
    """Alike bars at every `length` of UTC time in `[begin, end)`."""
    count = (end - begin) // length
    return minute_bars(
        *((f"{begin + number * length:%Y-%m-%d %H:%MZ}", 10, 10, 10, 10, 1) for number in range(count)),
        calendar=calendar,
        symbol=symbol,
    )


def test_a_longer_bar_holds_first_open_highest_lowest_last_close_and_all_volume() -> None:
    bars = minute_bars(
        ("09:30", 10, 11, 9, 10.5, 100),
        ("09:31", 10.5, 14, 10, 13, 50),
        ("09:34", 13, 13, 8, 12, 0.5),
        ("09:35", 1, 2, 1, 2, 7),
    )

    found = longer(bars, "5m")

    assert found.schema == pl.Schema(dict(BAR_COLUMNS))
    assert found.select("open", "high", "low", "close", "volume").rows() == [(10, 14, 8, 12, 150.5), (1, 2, 1, 2, 7)]
    assert begins(found) == ["01-02 09:30", "01-02 09:35"]
    assert found.select(pl.col("symbol", "session", "provider", "feed").cast(pl.String)).row(0) == (
        "ACME",
        "regular",
        "test",
        "test",
    )
    assert found["session_date"].to_list() == [date(2024, 1, 2)] * 2


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("5m", ["09:55", "10:00", "10:05"]),
        ("15m", ["09:45", "10:00"]),
        ("30m", ["09:30", "10:00"]),
        ("45m", ["09:45"]),
        ("1h", ["09:00", "10:00"]),
        ("2h", ["08:00", "10:00"]),
        ("3h", ["09:00"]),
        ("4h", ["08:00"]),
        ("1d", ["00:00"]),
    ],
)
def test_bars_begin_on_the_clock_of_the_exchange(label: str, expected: Sequence[str]) -> None:
    bars = minute_bars(*minute_run("09:55", 12))

    assert begins(longer(bars, label)) == [f"01-02 {at}" for at in expected]


def test_the_nine_o_clock_bar_holds_the_first_half_hour() -> None:
    found = longer(minute_bars(*minute_run("09:30", 390)), "1h")

    assert found["volume"].to_list() == [3000] + [6000] * 6
    assert begins(found) == [f"01-02 {hour:02}:00" for hour in range(9, 16)]


def test_anchored_to_the_session_bars_count_from_the_open() -> None:
    found = longer(minute_bars(*minute_run("09:30", 390)), "1h", anchor=Anchor.SESSION)

    assert found["volume"].to_list() == [6000] * 6 + [3000]
    assert begins(found) == [f"01-02 {hour:02}:30" for hour in range(9, 16)]


def test_anchored_to_the_session_bars_before_the_open_count_backwards() -> None:
    bars = minute_bars(*minute_run("08:00", 120), calendar=EXTENDED)

    found = longer(bars, "1h", EXTENDED, "extended", Anchor.SESSION)

    assert begins(found) == ["01-02 07:30", "01-02 08:30", "01-02 09:30"]
    assert found["session"].to_list() == ["pre", "pre", "regular"]
    assert found["volume"].to_list() == [3000, 6000, 3000]


def test_a_half_day_ends_with_its_last_minute() -> None:
    bars = minute_bars(*minute_run("09:30", 210, "2024-11-29"))

    assert longer(bars, "4h")["volume"].to_list() == [15000, 6000]
    assert longer(bars, "1d")["volume"].to_list() == [21000]
    assert begins(longer(bars, "2h", anchor=Anchor.SESSION)) == ["11-29 09:30", "11-29 11:30"]


def test_hours_of_a_half_hour_zone_are_those_of_its_clock() -> None:
    india = calendar_of("XNSE")
    bars = minute_bars(*minute_run("09:15", 375), calendar=india)

    found = longer(bars, "1h", india)

    assert begins(found, "Asia/Kolkata") == [f"01-02 {hour:02}:00" for hour in range(9, 16)]
    assert found["volume"].to_list() == [4500, *[6000] * 5, 3000]


def test_a_lunch_break_leaves_out_the_bars_nothing_falls_into() -> None:
    tokyo = calendar_of("XTKS")
    bars = minute_bars(*minute_run("09:00", 150, "2024-01-04"), *minute_run("12:30", 150, "2024-01-04"), calendar=tokyo)

    assert begins(longer(bars, "1h", tokyo), "Asia/Tokyo") == [
        f"01-04 {hour:02}:00" for hour in (9, 10, 11, 12, 13, 14)
    ]
    assert begins(longer(bars, "30m", tokyo), "Asia/Tokyo")[4:6] == ["01-04 11:00", "01-04 12:30"]
    assert longer(bars, "4h", tokyo)["volume"].to_list() == [15000, 15000]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("1h", ["01-02 15:00", "01-02 17:00", "01-02 18:00"]),
        ("2h", ["01-02 14:00", "01-02 17:00", "01-02 18:00"]),
        ("3h", ["01-02 15:00", "01-02 17:00", "01-02 18:00"]),
        ("4h", ["01-02 12:00", "01-02 17:00"]),
        ("45m", ["01-02 15:00", "01-02 15:45", "01-02 17:00", "01-02 17:15", "01-02 18:00", "01-02 18:45"]),
    ],
)
def test_after_the_roll_a_bar_of_the_next_session_begins(label: str, expected: Sequence[str]) -> None:
    globex = calendar_of("CME_GLOBEX")
    bars = minute_bars(*minute_run("15:00", 60), *minute_run("17:00", 120), calendar=globex)

    found = longer(bars, label, globex)

    assert begins(found, "America/Chicago") == expected
    assert found["session_date"].unique().to_list() == [date(2024, 1, 2), date(2024, 1, 3)]
    assert found["volume"].sum() == bars["volume"].sum()


def test_the_day_begins_at_local_midnight_of_its_session_date() -> None:
    globex = calendar_of("CME_GLOBEX")
    bars = minute_bars(
        ("2024-03-10 17:00", 10, 10, 10, 10, 1), ("2024-03-11 15:59", 11, 11, 11, 11, 2), calendar=globex
    )

    found = longer(bars, "1d", globex)

    assert found["ts"].to_list() == [datetime(2024, 3, 11, 5, tzinfo=UTC)]
    assert found.select("session_date", "open", "close", "volume").rows() == [(date(2024, 3, 11), 10, 11, 3)]


@pytest.fixture
def all_hours(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """A calendar that never closes, in a zone that changes its clock."""

    def days(start: date, end: date) -> Schedule:
        midnight = pl.col("session_date").cast(pl.Datetime("us")).dt.replace_time_zone("America/New_York")
        nothing = pl.lit(None, pl.Datetime("us", "UTC"))
        hours = pl.DataFrame({"session_date": pl.date_range(start, end, closed="left", eager=True)}).select(
            "session_date",
            midnight.dt.convert_time_zone("UTC").alias("open"),
            nothing.alias("break_start"),
            nothing.alias("break_end"),
            midnight.dt.offset_by("1d").dt.convert_time_zone("UTC").alias("close"),
        )
        return Schedule("America/New_York", time(0), hours)

    monkeypatch.setitem(calendars.OURS, "ALL_HOURS", days)
    return Sessions("ALL_HOURS", date(2024, 3, 1), date(2024, 12, 1))


@pytest.mark.parametrize(
    ("label", "spring", "autumn"),
    [
        ("1h", ["00:00", "01:00", "03:00", "04:00"], ["00:00", "01:00", "01:00", "02:00", "03:00", "04:00"]),
        ("2h", ["00:00", "03:00", "04:00"], ["00:00", "02:00", "04:00"]),
        ("3h", ["00:00", "03:00"], ["00:00", "03:00"]),
        ("4h", ["00:00", "04:00"], ["00:00", "04:00"]),
    ],
)
def test_bars_on_the_day_the_clock_changes_follow_it(
    label: str, spring: Sequence[str], autumn: Sequence[str], all_hours: Sessions
) -> None:
    def day(month: int, number: int) -> pl.DataFrame:
        begin = datetime(2024, month, number, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
        end = datetime(2024, month, number, 5, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
        return longer(bars_every(timedelta(minutes=15), begin, end, all_hours), label, all_hours)

    assert begins(day(3, 10)) == [f"03-10 {at}" for at in spring]
    assert begins(day(11, 3)) == [f"11-03 {at}" for at in autumn]


@pytest.mark.parametrize("changes", [date(2024, 3, 10), date(2024, 11, 3)])
def test_around_a_change_of_the_clock_each_minute_is_in_the_last_bar_that_began(
    changes: date, all_hours: Sessions
) -> None:
    begin = datetime(changes.year, changes.month, changes.day, tzinfo=UTC)
    bars = bars_every(timedelta(minutes=1), begin, begin + timedelta(days=2), all_hours)
    # a grid of 45 minutes has no place for an hour that comes twice; no calendar we know trades in one
    timeframes = [each for each in TIMEFRAMES.values() if each.label != "45m"]

    for found in resample(bars, timeframes, all_hours).values():
        held = bars.join_asof(found.select("ts", pl.col("ts").alias("begin")), on="ts")["begin"].value_counts(
            sort=False
        )

        assert found["ts"].is_sorted()
        assert held.sort("begin").rows() == found.select("ts", pl.col("volume").cast(pl.UInt32)).rows()


@pytest.mark.parametrize("label", ["1h", "4h"])
@pytest.mark.parametrize("sunday", [date(2024, 3, 10), date(2024, 11, 3)])
def test_the_week_after_a_change_of_the_clock_opens_at_five_in_chicago(label: str, sunday: date) -> None:
    globex = calendar_of("CME_GLOBEX")
    bars = minute_bars(*minute_run("17:00", 60, str(sunday)), calendar=globex)

    found = longer(bars, label, globex)

    assert begins(found, "America/Chicago") == [f"{sunday:%m-%d} 17:00"]


def test_volume_weighted_price_weighs_the_bars_that_have_one() -> None:
    bars = minute_bars(
        *minute_run("09:30", 2), ("09:32", 10, 10, 10, 10, 300), ("09:33", 10, 10, 10, 10, 50), vwap=[10, None, 14, nan]
    )

    assert longer(bars, "5m")["vwap"].to_list() == [13]


def test_longer_bars_count_the_trades_that_are_known() -> None:
    bars = minute_bars(*minute_run("09:30", 10), trade_count=[3, None, 4, *[None] * 7])

    assert longer(bars, "5m")["trade_count"].to_list() == [7, None]


def test_without_volume_there_is_no_volume_weighted_price() -> None:
    bars = minute_bars(*minute_run("09:30", 3, volume=0), *minute_run("09:35", 1), vwap=[10, 10, None, None])

    assert longer(bars, "5m")["vwap"].to_list() == [None, None]


def test_a_market_without_trades_and_averages_has_none_in_longer_bars() -> None:
    found = longer(minute_bars(*minute_run("09:30", 3)), "1h")

    assert found.select("trade_count", "vwap").rows() == [(None, None)]


def test_bars_before_and_after_the_session_count_only_where_asked_for_and_never_in_the_day() -> None:
    bars = minute_bars(*minute_run("09:00", 60), *minute_run("16:00", 5), calendar=EXTENDED)

    regular = resample(bars, [TIMEFRAMES["1h"], TIMEFRAMES["1d"]], EXTENDED)
    extended = resample(bars, [TIMEFRAMES["1h"], TIMEFRAMES["1d"]], EXTENDED, "extended")

    assert regular["1h"].select("session", "volume").rows() == [("regular", 3000)]
    assert extended["1h"].select("session", "volume").rows() == [("regular", 6000), ("post", 500)]
    assert extended["1d"].equals(regular["1d"])
    assert regular["1d"]["volume"].to_list() == [3000]


def test_a_session_of_extended_bars_alone_has_no_day() -> None:
    bars = minute_bars(*minute_run("08:00", 5), calendar=EXTENDED)

    assert longer(bars, "1d", EXTENDED, "extended").is_empty()


@pytest.mark.parametrize("label", TIMEFRAMES)
def test_no_bars_make_no_bars(label: str) -> None:
    assert longer(empty(), label).equals(empty())


def test_symbols_keep_the_order_they_came_in_and_do_not_mix() -> None:
    bars = pl.concat(
        [
            minute_bars(("09:30", 1, 1, 1, 1, 1), ("2024-01-03 09:31", 2, 2, 2, 2, 2), symbol="BOLT"),
            minute_bars(("2024-01-03 09:30", 3, 3, 3, 3, 3)),
        ]
    )

    assert longer(bars, "1d").select("symbol", "session_date", "volume").rows() == [
        ("BOLT", date(2024, 1, 2), 1),
        ("BOLT", date(2024, 1, 3), 2),
        ("ACME", date(2024, 1, 3), 3),
    ]


@st.composite
def valid_bars(draw: st.DrawFn) -> pl.DataFrame:
    """Sorted minutes, some missing, of two symbols over two days, before, in and after the session."""
    parts = []
    for symbol in ("BOLT", "ACME"):
        minutes = sorted(draw(st.sets(st.tuples(st.sampled_from([2, 3]), st.integers(9 * 60, 17 * 60)), max_size=30)))
        rows: list[Bar] = []
        for day, minute in minutes:
            low, high = sorted(draw(st.tuples(*[st.integers(1, 1000)] * 2)))
            open_, close = draw(st.tuples(*[st.integers(low, high)] * 2))
            at = f"2024-01-{day:02} {minute // 60:02}:{minute % 60:02}"
            rows.append((at, open_, high, low, close, draw(st.integers(0, 1000))))
        averages = [draw(st.one_of(st.none(), st.integers(int(row[3] or 0), int(row[2] or 0)))) for row in rows]
        counts = [draw(st.one_of(st.none(), st.integers(0, 50))) for _ in rows]
        parts.append(minute_bars(*rows, symbol=symbol, calendar=EXTENDED, vwap=averages, trade_count=counts))
    return pl.concat(parts)


def grouped(bars: pl.DataFrame, step: str) -> pl.DataFrame:
    """The same by polars, straight from the minutes."""
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    known = pl.col("vwap").is_not_null()
    weight = pl.col("volume").filter(known).sum()
    regular = (pl.col("session") == "regular").any()
    return (
        bars.group_by(
            "symbol", "session_date", local.dt.truncate(step).dt.convert_time_zone("UTC"), maintain_order=True
        )
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.when(pl.col("trade_count").is_not_null().any()).then(pl.col("trade_count").sum()).alias("trade_count"),
            pl.when(weight > 0).then((pl.col("vwap") * pl.col("volume")).sum() / weight).alias("vwap"),
            pl.when(regular)
            .then(pl.lit("regular"))
            .otherwise(pl.col("session").cast(pl.String).first())
            .alias("session"),
            pl.col("provider", "feed").first(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in BAR_COLUMNS.items())
    )


@settings(deadline=None, max_examples=40)
@given(valid_bars(), st.sampled_from(["regular", "extended"]))
def test_bars_built_from_shorter_ones_are_those_built_from_the_minutes(bars: pl.DataFrame, session: str) -> None:
    regular = bars.filter(pl.col("session") == "regular")
    chosen = regular if session == "regular" else bars

    found = resample(bars, TIMEFRAMES.values(), EXTENDED, session)

    for label in TIMEFRAMES:
        minutes = regular if label == "1d" else chosen
        expected = grouped(minutes, label)
        assert_frame_equal(found[label], expected, rel_tol=1e-12)
        assert found[label]["volume"].sum() == minutes["volume"].sum()


@settings(deadline=None, max_examples=40)
@given(valid_bars(), st.sampled_from(["regular", "extended"]), st.sampled_from(Anchor))
def test_every_longer_bar_is_unique_sorted_and_no_later_than_its_minutes(
    bars: pl.DataFrame, session: str, anchor: Anchor
) -> None:
    for label, found in resample(bars, TIMEFRAMES.values(), EXTENDED, session, anchor).items():
        counted = bars if session == "extended" and label != "1d" else bars.filter(pl.col("session") == "regular")
        for symbol in ("BOLT", "ACME"):
            ts = found.filter(pl.col("symbol") == symbol)["ts"]
            assert ts.is_sorted()
            assert ts.n_unique() == ts.len()
        holder = counted.sort("ts").join_asof(
            found.sort("ts").select("symbol", "session_date", "ts", pl.col("ts").alias("begin")),
            on="ts",
            by=("symbol", "session_date"),
            check_sortedness=False,
        )
        assert holder["begin"].null_count() == 0
        assert holder["begin"].n_unique() == found["ts"].n_unique()
        assert found["volume"].sum() == counted["volume"].sum()
