"""A write makes bars all that is known of its symbols and dates, and touches nothing else."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from marketpipe_assets.bars.schema import columns_of, empty
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets.lake.merge import Written, write_bars
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.lake.rows import (
    FEBRUARY,
    MARKET,
    THURSDAY,
    TUESDAY,
    WEDNESDAY,
    bars_of,
    path_of,
    store,
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_other_dates_of_the_file_keep_their_bars(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY), bars_of("AAPL", WEDNESDAY))

    store(lake, bars_of("AAPL", WEDNESDAY, [20.0]))

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])
    assert_frame_equal(stored, pl.concat([bars_of("AAPL", TUESDAY), bars_of("AAPL", WEDNESDAY, [20.0])]))


def test_an_earlier_date_is_put_before_what_is_stored(lake: Path) -> None:
    store(lake, bars_of("AAPL", WEDNESDAY), bars_of("AAPL", TUESDAY))

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])

    assert stored["ts"].is_sorted()
    assert stored.height == 6


def test_equal_bars_are_not_rewritten(lake: Path) -> None:
    bars = pl.concat([bars_of("AAPL", TUESDAY, feed="sip"), bars_of("AAPL", FEBRUARY)])
    first = write_bars(lake, MARKET, "bars_1m", bars, ["AAPL"], [TUESDAY, FEBRUARY])
    files = [path_of(lake, "AAPL", period) for period in ("2024-01", "2024-02")]
    before = [file.stat() for file in files]

    again = write_bars(lake, MARKET, "bars_1m", bars, ["AAPL"], [TUESDAY, FEBRUARY])

    assert (first.files, first.unchanged) == (2, 0)
    assert again == Written(files=0, unchanged=2, bytes=0)
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == [
        (each.st_ino, each.st_mtime_ns) for each in before
    ]


def test_bars_with_nan_and_null_are_equal_to_themselves(lake: Path) -> None:
    bars = bars_of("AAPL", TUESDAY, [float("nan"), 1.0])
    store(lake, bars)

    again = write_bars(lake, MARKET, "bars_1m", bars, ["AAPL"], [TUESDAY])

    assert again.files == 0


def test_a_file_that_loses_its_last_bars_is_removed(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY))

    written = write_bars(lake, MARKET, "bars_1m", empty(columns_of("bars_1m")), ["AAPL"], [TUESDAY])

    assert written == Written(files=1, unchanged=0, bytes=0)
    assert not path_of(lake, "AAPL").exists()


def test_an_empty_answer_takes_away_its_own_date_only(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY), bars_of("AAPL", WEDNESDAY))

    write_bars(lake, MARKET, "bars_1m", empty(columns_of("bars_1m")), ["AAPL"], [TUESDAY])

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])
    assert_frame_equal(stored, bars_of("AAPL", WEDNESDAY))


def test_no_bars_where_there_were_none_make_no_file(lake: Path) -> None:
    write_bars(lake, MARKET, "bars_1m", empty(columns_of("bars_1m")), ["AAPL"], [TUESDAY])

    assert not path_of(lake, "AAPL").parent.exists()


def test_raw_bars_keep_the_order_of_arrival_within_a_session_and_their_duplicates(lake: Path) -> None:
    arrived = bars_of("AAPL", TUESDAY, [12.0, 10.0, 11.0], table="raw_bars_1m")[[2, 0, 1, 0]]
    later = bars_of("AAPL", WEDNESDAY, [7.0, 8.0], table="raw_bars_1m")[[1, 0]]

    store(lake, later, arrived, table="raw_bars_1m")

    stored = read_bars(lake, MARKET, "raw_bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])
    assert_frame_equal(stored, pl.concat([arrived, later]))


def test_sessions_of_a_raw_answer_that_are_interleaved_are_told_apart(lake: Path) -> None:
    tuesday = bars_of("AAPL", TUESDAY, [1.0, 2.0], table="raw_bars_1m")
    wednesday = bars_of("AAPL", WEDNESDAY, [3.0, 4.0], table="raw_bars_1m")

    store(lake, pl.concat([wednesday[:1], tuesday[1:], wednesday[1:], tuesday[:1]]), table="raw_bars_1m")

    stored = read_bars(lake, MARKET, "raw_bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])
    assert stored["open"].to_list() == [2.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("table", ["bars_1m", "quarantined_bars_1m", "bars_5m"])
def test_other_tables_are_stored_by_time(lake: Path, table: str) -> None:
    bars = bars_of("AAPL", TUESDAY, table=table)

    store(lake, bars[[2, 0, 1]], table=table)

    assert_frame_equal(read_bars(lake, MARKET, table, ["AAPL"], [TUESDAY]), bars)


def test_conflicting_bars_in_quarantine_keep_their_order(lake: Path) -> None:
    conflicting = bars_of("AAPL", TUESDAY, [3.0, 1.0, 2.0], table="quarantined_bars_1m").with_columns(
        pl.col("ts").first()
    )

    store(lake, conflicting, table="quarantined_bars_1m")

    stored = read_bars(lake, MARKET, "quarantined_bars_1m", ["AAPL"], [TUESDAY])
    assert stored["open"].to_list() == [3.0, 1.0, 2.0]
    assert stored["broken_rules"].to_list() == [["ohlc_logic", "negative_volume"], [], []]


def test_longer_bars_of_a_year_lie_in_one_file(lake: Path) -> None:
    store(lake, bars_of("AAPL", TUESDAY, table="bars_1h"), bars_of("AAPL", FEBRUARY, table="bars_1h"), table="bars_1h")

    assert [path.name for path in path_of(lake, "AAPL", "2024", "bars_1h").parent.iterdir()] == ["2024.parquet"]


def test_bars_of_closed_days_follow_their_session_into_another_months_file(lake: Path) -> None:
    new_year = sessions("XNYS", date(2023, 12, 1), date(2024, 2, 1)).owned_dates([TUESDAY])
    sunday, friday = date(2023, 12, 31), date(2023, 12, 29)
    store(lake, bars_of("AAPL", friday))
    write_bars(
        lake, MARKET, "bars_1m", pl.concat([bars_of("AAPL", sunday), bars_of("AAPL", TUESDAY)]), ["AAPL"], new_year
    )
    assert read_bars(lake, MARKET, "bars_1m", ["AAPL"], [friday, sunday, TUESDAY]).height == 9
    assert path_of(lake, "AAPL", "2023-12").exists()

    write_bars(lake, MARKET, "bars_1m", bars_of("AAPL", TUESDAY), ["AAPL"], new_year)

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], [friday, sunday, TUESDAY])
    assert stored["session_date"].unique().to_list() == [friday, TUESDAY]


def test_providers_and_feeds_may_differ_from_day_to_day(lake: Path) -> None:
    store(
        lake,
        bars_of("AAPL", TUESDAY, provider="alpaca", feed="sip"),
        bars_of("AAPL", WEDNESDAY, provider="polygon"),
        bars_of("MSFT", TUESDAY, provider="tiingo", feed="iex"),
    )

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL", "MSFT"], [TUESDAY, WEDNESDAY])

    assert stored.select("symbol", "provider", "feed").unique(maintain_order=True).rows() == [
        ("AAPL", "alpaca", "sip"),
        ("AAPL", "polygon", None),
        ("MSFT", "tiingo", "iex"),
    ]


@pytest.mark.parametrize("table", ["raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_1h"])
def test_in_whichever_order_days_are_written_they_leave_the_same_file(tmp_path: Path, table: str) -> None:
    days = [bars_of("AAPL", day, table=table, feed="sip") for day in (TUESDAY, WEDNESDAY, THURSDAY)]
    together = tmp_path / "together"
    store(together, pl.concat(days), table=table)

    for number, order in enumerate(permutations(days)):
        store(tmp_path / str(number), *order, table=table)

    period = "2024" if table == "bars_1h" else "2024-01"
    expected = path_of(together, "AAPL", period, table).read_bytes()
    assert all(path_of(tmp_path / str(number), "AAPL", period, table).read_bytes() == expected for number in range(6))


def test_columns_without_a_value_stay_null_beside_a_day_that_has_them(lake: Path) -> None:
    counted = bars_of("AAPL", WEDNESDAY).with_columns(pl.lit(7, pl.Int64).alias("trade_count"), vwap=pl.col("open"))

    store(lake, bars_of("AAPL", TUESDAY), counted)

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY])
    assert stored["trade_count"].to_list() == [None, None, None, 7, 7, 7]
    assert stored["vwap"].to_list() == [None, None, None, 10.0, 11.0, 12.0]


@pytest.mark.parametrize(
    ("bars", "named"),
    [
        (bars_of("MSFT", TUESDAY), "MSFT 2024-01"),
        (bars_of("AAPL", FEBRUARY), "AAPL 2024-02"),
        (bars_of("AAPL", WEDNESDAY), "2024-01-03"),
    ],
)
def test_bars_that_were_not_announced_are_refused(lake: Path, bars: pl.DataFrame, named: str) -> None:
    store(lake, bars_of("AAPL", TUESDAY))

    with pytest.raises(ValueError, match=f"expected bars of 1 symbols on 1 dates, was also {named}"):
        write_bars(lake, MARKET, "bars_1m", pl.concat([bars_of("AAPL", TUESDAY), bars]), ["AAPL"], [TUESDAY])

    assert_frame_equal(
        read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY, WEDNESDAY, FEBRUARY]), bars_of("AAPL", TUESDAY)
    )


def test_threads_that_write_days_of_one_month_lose_nothing(lake: Path) -> None:
    days = [TUESDAY + timedelta(days=number) for number in range(24)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda day: store(lake, bars_of("AAPL", day)), days))

    assert_frame_equal(
        read_bars(lake, MARKET, "bars_1m", ["AAPL"], days), pl.concat([bars_of("AAPL", day) for day in days])
    )


DAYS = (date(2023, 12, 30), TUESDAY, WEDNESDAY, THURSDAY, FEBRUARY)
WRITES = st.lists(
    st.dictionaries(st.sampled_from(DAYS), st.lists(st.sampled_from([1.0, 2.0, 3.0]), max_size=3), min_size=1),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(WRITES)
def test_after_any_writes_each_date_holds_what_was_written_last(
    tmp_path_factory: pytest.TempPathFactory, writes: list[dict[date, list[float]]]
) -> None:
    lake = tmp_path_factory.mktemp("writes") / "lake"

    for write in writes:
        bars = pl.concat([bars_of("AAPL", day, prices) for day, prices in write.items()])
        write_bars(lake, MARKET, "bars_1m", bars, ["AAPL"], list(write))

    last = {day: prices for write in writes for day, prices in write.items()}
    expected = pl.concat([empty(columns_of("bars_1m")), *(bars_of("AAPL", day, last.get(day, [])) for day in DAYS)])
    assert_frame_equal(read_bars(lake, MARKET, "bars_1m", ["AAPL"], DAYS), expected)


def test_bars_whose_dates_go_back_to_an_earlier_file_are_refused(lake: Path) -> None:
    back = bars_of("AAPL", date(2024, 2, 2)).with_columns(pl.lit(TUESDAY).alias("session_date"))

    with pytest.raises(ValueError, match="expected session dates of bars_1m that rise with the bars of a symbol"):
        store(lake, pl.concat([bars_of("AAPL", TUESDAY), bars_of("AAPL", FEBRUARY), back]))

    assert not path_of(lake, "AAPL", "2024-01").exists()
