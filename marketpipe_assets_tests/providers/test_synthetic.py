"""Invented bars are the same everywhere, follow the calendar, and hold the faults they say they hold."""

import hashlib
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.schema import VENDOR_COLUMNS
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets.providers.base import ProviderError
from marketpipe_assets.providers.synthetic import FAULT_NAMES, FAULTS, INSTRUMENTS, SyntheticProvider

JANUARY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
TUESDAY = datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)
SYMBOLS = ("AAPL", "BRK.B", "0700")

MARKETS: dict[str, dict[str, Any]] = {
    "equity": {"calendar": "XNYS", "asset_class": "equity"},
    "crypto": {"calendar": "24/7", "asset_class": "crypto"},
    "fx": {"calendar": "FX", "asset_class": "fx", "base_price": 1.1, "volatility": 0.005},
    "future": {"calendar": "CME_GLOBEX", "asset_class": "future", "base_price": 4000},
    "index": {"calendar": "XNYS", "asset_class": "index", "base_price": 5000},
    "equity with a lunch break": {"calendar": "XTKS", "asset_class": "equity"},
    "equity in extended hours": {"extended_hours": ["04:00", "20:00"]},
}

FIRST_BARS = [
    (53.63, 53.63, 53.53, 53.61, 9395.0, 161),
    (53.62, 53.71, 53.59, 53.69, 31474.0, 486),
    (53.7, 53.73, 53.7, 53.71, 14478.0, 315),
]
"""Of AAPL on 2024-01-02: a change here is a change of everybody's synthetic data."""

DETECTED_BY = {
    "duplicate": "duplicate_ts",
    "conflicting_duplicate": "duplicate_ts",
    "bad_tick": "impossible_tick",
    "wick": "bad_tick",
    "stale": "constant_price",
    "repeated": "stale_feed",
    "running_total": "rising_volume",
    **{
        name: name
        for name in (
            "out_of_order",
            "ohlc_logic",
            "negative_volume",
            "non_positive_price",
            "not_finite",
            "misaligned_ts",
            "price_jump",
            "zero_volume_run",
            "zero_volume_move",
            "huge_volume",
            "vwap_range",
        )
    },
}
"""Fault → the rule that finds it. The others need coverage, neighbours or another source."""


def provider(market: str, **options: Any) -> SyntheticProvider:
    return SyntheticProvider(**{**MARKETS[market], **options})


def in_time(bars: pl.DataFrame) -> pl.DataFrame:
    """Two bars swapped over the cut between two requests stand in two answers: their order is lost."""
    return bars.sort("ts", maintain_order=True)


def fingerprint(bars: pl.DataFrame) -> str:
    return hashlib.sha256(bars.write_csv(float_precision=8).encode()).hexdigest()[:16]


def test_the_first_bars_of_a_symbol_never_change() -> None:
    bars = SyntheticProvider().minute_bars(["AAPL"], *TUESDAY).head(3)

    assert bars["ts"].dt.strftime("%F %T").to_list() == [f"2024-01-02 14:{minute}:00" for minute in (30, 31, 32)]
    assert bars.select("open", "high", "low", "close", "volume", "trade_count").rows() == FIRST_BARS


def test_another_process_with_another_hash_seed_invents_the_same_bars() -> None:
    script = (
        "from marketpipe_assets_tests.providers.test_synthetic import *;"
        "print(fingerprint(SyntheticProvider(faults=dict.fromkeys(FAULTS, 0.5)).minute_bars(SYMBOLS, *JANUARY)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )

    here = SyntheticProvider(faults=dict.fromkeys(FAULTS, 0.5)).minute_bars(SYMBOLS, *JANUARY)
    assert run.stdout.strip() == fingerprint(here)


@pytest.mark.parametrize("market", MARKETS)
def test_a_range_is_its_days_one_after_another(market: str) -> None:
    source = provider(market, faults={"missing_minutes": 2, "duplicate": 2, "out_of_order": 2, "halt": 1})
    start, days = datetime(2024, 1, 1, tzinfo=UTC), 10

    whole = source.minute_bars(["ACME"], start, start + timedelta(days=days))
    parts = [
        source.minute_bars(["ACME"], start + timedelta(days=day), start + timedelta(days=day + 1))
        for day in range(days)
    ]

    assert_frame_equal(in_time(pl.concat(parts)), in_time(whole))


@given(cut=st.integers(0, 390), fault=st.sampled_from(FAULT_NAMES))
@settings(max_examples=30, deadline=None)
def test_a_session_asked_for_in_two_parts_is_the_same_session(cut: int, fault: str) -> None:
    source = SyntheticProvider(faults={fault: 2})
    middle = datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(minutes=cut)

    whole = source.minute_bars(["ACME"], *TUESDAY)
    first, second = (source.minute_bars(["ACME"], *part) for part in ((TUESDAY[0], middle), (middle, TUESDAY[1])))

    assert first.filter(pl.col("ts") >= middle).height == second.filter(pl.col("ts") < middle).height == 0
    assert_frame_equal(in_time(pl.concat([first, second])), in_time(whole))


def test_symbols_do_not_depend_on_each_other_and_keep_the_order_asked() -> None:
    together = SyntheticProvider().minute_bars(["MSFT", "AAPL"], *JANUARY)
    alone = SyntheticProvider().minute_bars(["AAPL"], *JANUARY)

    assert together["symbol"].unique(maintain_order=True).to_list() == ["MSFT", "AAPL"]
    assert_frame_equal(together.filter(pl.col("symbol") == "AAPL"), alone)


def test_another_seed_gives_other_bars() -> None:
    one, other = (SyntheticProvider(seed=seed).minute_bars(["AAPL"], *TUESDAY)["close"] for seed in (1, 2))

    assert one.to_list() != other.to_list()


def test_extended_hours_leave_the_regular_session_as_it_was() -> None:
    regular = provider("equity").minute_bars(["AAPL"], *TUESDAY)
    extended = provider("equity in extended hours").minute_bars(["AAPL"], *TUESDAY)

    inside = pl.col("ts").dt.time().is_between(time(14, 30), time(21), closed="left")
    assert_frame_equal(extended.filter(inside), regular)


def test_before_the_open_and_after_the_close_minutes_are_missing_and_small() -> None:
    bars = provider("equity in extended hours").minute_bars(["AAPL"], *JANUARY)
    local = pl.col("ts").dt.convert_time_zone("America/New_York").dt.time()
    outside = bars.filter(~local.is_between(time(9, 30), time(16), closed="left"))

    assert outside.select(local.min().alias("first"), local.max().alias("last")).row(0) >= (time(4), time(19))
    assert 0.2 < outside.height / (21 * 570) < 0.7
    assert outside["volume"].median() < bars["volume"].median() / 3  # type: ignore[operator]  # medians of numbers


def test_a_request_without_a_session_has_no_rows_and_the_same_columns() -> None:
    saturday = datetime(2024, 1, 6, tzinfo=UTC), datetime(2024, 1, 7, tzinfo=UTC)

    bars = SyntheticProvider().minute_bars(["AAPL"], *saturday)

    assert bars.height == 0
    assert dict(bars.schema) == dict(VENDOR_COLUMNS)


def test_no_symbols_have_no_rows() -> None:
    assert SyntheticProvider().minute_bars([], *TUESDAY).height == 0


@pytest.mark.parametrize("market", MARKETS)
def test_clean_bars_break_no_rule_and_cover_every_regular_minute(market: str) -> None:
    source = provider(market)
    hours = source.extended_hours
    extended = (time.fromisoformat(hours[0]), time.fromisoformat(hours[1])) if hours else None
    calendar = sessions(source.calendar, date(2023, 12, 1), date(2024, 4, 1), extended)
    dates = calendar.between(date(2024, 1, 2), date(2024, 3, 16))

    answer = source.minute_bars(SYMBOLS, *calendar.request(dates))

    assert dict(answer.schema) == dict(VENDOR_COLUMNS)
    bars = calendar.assign(answer)
    split = split_by_rules(bars.filter(pl.col("session_date").is_in(dates)), RuleSet(source.asset_class), calendar)
    spikes = split.broken.get("volume_spike", 0)
    assert {**split.broken, "volume_spike": 0} == {"volume_spike": 0}
    assert spikes < split.valid.height / 5_000
    expected = calendar.expected_minutes(dates)["expected_minutes"].sum()
    assert split.valid.filter(pl.col("session") == "regular").height == expected * len(SYMBOLS)


@pytest.mark.parametrize("market", ["index", "fx"])
def test_what_has_no_volume_has_no_trades_and_no_vwap(market: str) -> None:
    bars = provider(market).minute_bars(["ACME"], *TUESDAY)

    assert bars["volume"].unique().to_list() == [0]
    assert bars["trade_count"].null_count() == bars["vwap"].null_count() == bars.height > 0


def test_volumes_are_whole_shares_and_fractions_of_a_coin() -> None:
    shares, coins = (provider(market).minute_bars(["ACME"], *TUESDAY)["volume"] for market in ("equity", "crypto"))

    assert (shares == shares.round()).all()
    assert not (coins == coins.round()).any()


@pytest.mark.parametrize("asset_class", INSTRUMENTS)
def test_prices_stand_on_ticks(asset_class: str) -> None:
    bars = SyntheticProvider(asset_class=asset_class, base_price=50).minute_bars(["ACME"], *TUESDAY)

    ticks = bars["close"] * INSTRUMENTS[asset_class].ticks_per_unit
    assert ((ticks - ticks.round()).abs() < 1e-6).all()


def test_volume_is_larger_at_the_ends_of_a_session() -> None:
    bars = SyntheticProvider().minute_bars(["ACME"], *JANUARY)
    minute = pl.int_range(pl.len()) % 390

    first, middle, last = (bars.filter(minute.is_between(start, start + 29))["volume"].sum() for start in (0, 180, 360))

    assert first > 2 * middle
    assert last > 2 * middle


def test_sessions_open_near_the_close_before_them_for_decades() -> None:
    days = SyntheticProvider().minute_bars(["ACME"], datetime(1975, 1, 1, tzinfo=UTC), datetime(1985, 1, 1, tzinfo=UTC))

    ends = days.group_by(pl.col("ts").dt.date().alias("day"), maintain_order=True).agg(
        pl.col("open").first(), pl.col("close").last()
    )

    gaps = (ends["open"] / ends["close"].shift() - 1).drop_nulls()
    moves = (ends["close"] / ends["close"].shift() - 1).drop_nulls()
    assert gaps.abs().max() < 0.05  # type: ignore[operator]  # a number
    assert 0.01 < moves.std() < 0.03  # type: ignore[operator]  # a number
    assert 5 < ends["close"].min() < ends["close"].max() < 2000  # type: ignore[operator]  # numbers


def test_coins_have_no_gap_at_midnight() -> None:
    bars = provider("crypto").minute_bars(["BTC-USD"], *JANUARY)

    midnight = bars.with_columns(pl.col("close").shift().alias("before")).filter(pl.col("ts").dt.time() == time(0))
    assert (midnight["open"] / midnight["before"] - 1).drop_nulls().abs().max() < 0.001  # type: ignore[operator]


@pytest.mark.parametrize("fault", FAULT_NAMES)
def test_a_fault_of_rate_one_is_in_every_session_and_in_the_truth(fault: str) -> None:
    source = SyntheticProvider(faults={fault: 1})
    clean = SyntheticProvider().minute_bars(["ACME"], *JANUARY)

    truth = source.injected(["ACME"], *JANUARY)

    assert truth["fault"].to_list() == [fault] * 21
    assert truth["session_date"].n_unique() == 21
    assert truth["ts"].is_in(clean["ts"].implode()).all()
    assert not source.minute_bars(["ACME"], *JANUARY).equals(clean)


@pytest.mark.parametrize(("fault", "rule"), DETECTED_BY.items())
def test_a_fault_breaks_its_rule_in_every_session_that_has_it(fault: str, rule: str) -> None:
    source = SyntheticProvider(faults={fault: 0.5})
    calendar = sessions("XNYS", date(2023, 12, 1), date(2024, 4, 1))

    bars = calendar.assign(source.minute_bars(SYMBOLS, *JANUARY))
    judged = split_by_rules(bars, RuleSet("equity", severities={rule: "ERROR"}), calendar).quarantined  # type: ignore[dict-item]  # text as in the configuration

    found = judged.filter(pl.col("broken_rules").list.contains(rule)).select("symbol", "session_date").unique()
    injected = source.injected(SYMBOLS, *JANUARY).select("symbol", "session_date").unique()
    assert set(found.rows()) == set(injected.rows())
    assert 15 < injected.height < 48


def test_missing_bars_are_as_many_as_the_truth_says() -> None:
    faults = {"missing_minutes": 2.5, "missing_session": 0.2, "halt": 0.7}
    source = SyntheticProvider(faults=faults)

    left = source.minute_bars(SYMBOLS, *JANUARY).height

    missing = source.injected(SYMBOLS, *JANUARY)
    assert left == 3 * 21 * 390 - missing["bars"].sum()
    assert set(missing["fault"]) == set(faults)


def test_a_halt_takes_the_same_minutes_from_every_symbol() -> None:
    source = SyntheticProvider(faults={"halt": 1})

    truth = source.injected(SYMBOLS, *JANUARY)

    assert truth.group_by("symbol").len()["len"].to_list() == [21, 21, 21]
    assert truth.select("session_date", "ts", "bars").unique().height == 21


def test_a_rate_is_the_mean_number_per_symbol_session() -> None:
    symbols = [f"S{number}" for number in range(40)]

    truth = SyntheticProvider(faults={"bad_tick": 0.1, "duplicate": 2.5}).injected(symbols, *JANUARY)

    counts = dict(truth["fault"].value_counts().iter_rows())
    assert counts["bad_tick"] / 840 == pytest.approx(0.1, abs=0.04)
    assert counts["duplicate"] / 840 == pytest.approx(2.5, abs=0.1)


@given(rate=st.floats(0, 12), symbol=st.sampled_from(SYMBOLS))
@settings(max_examples=20, deadline=None)
def test_all_faults_at_once_fit_or_are_left_out_of_the_truth(rate: float, symbol: str) -> None:
    source = SyntheticProvider(faults=dict.fromkeys(FAULT_NAMES, rate) | {"missing_session": 0.1})

    bars, truth = source.minute_bars([symbol], *JANUARY), source.injected([symbol], *JANUARY)

    added = truth.filter(pl.col("fault").is_in(["duplicate", "conflicting_duplicate"])).height
    taken = truth.filter(pl.col("fault").is_in(["missing_minutes", "missing_session", "halt"]))["bars"].sum()
    assert bars.height == 21 * 390 + added - taken


def test_the_truth_of_a_part_is_the_part_of_the_truth() -> None:
    source = SyntheticProvider(faults={"duplicate": 3, "missing_minutes": 1})
    half = datetime(2024, 1, 16, tzinfo=UTC)

    parts = [source.injected(["ACME"], JANUARY[0], half), source.injected(["ACME"], half, JANUARY[1])]

    assert_frame_equal(pl.concat(parts), source.injected(["ACME"], *JANUARY))


def test_an_unknown_fault_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"expected missing_minutes, .*, halt for equity, was lost_minutes"):
        SyntheticProvider(faults={"lost_minutes": 1})


def test_a_fault_of_volume_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="for index, was vwap_range"):
        SyntheticProvider(asset_class="index", faults={"vwap_range": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": {"halt": -0.1}}, "rates of 0 or more, was halt: -0.1"),
        ({"asset_class": "stock"}, "expected one of equity, .*, was 'stock'"),
        ({"calendar": "NOWHERE"}, "expected a calendar .* was 'NOWHERE'"),
        ({"extended_hours": ["4 am", "20:00"]}, "expected two local times"),
        ({"extended_hours": ["04:00"]}, "expected two local times"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticProvider(**options)


def test_a_symbol_that_is_not_supported_is_an_error() -> None:
    source = SyntheticProvider(supported_symbols=["AAPL"])

    with pytest.raises(ProviderError, match="expected symbols of AAPL, was MSFT"):
        source.minute_bars(["AAPL", "MSFT"], *TUESDAY)


def test_the_same_share_of_symbol_days_fails_every_time() -> None:
    source = SyntheticProvider(fail_probability=0.3)

    def failed() -> list[str]:
        found = []
        for symbol in map(str, range(100)):
            try:
                source.minute_bars([symbol], *TUESDAY)
            except ProviderError:
                found.append(symbol)
        return found

    first = failed()

    assert 15 < len(first) < 45
    assert failed() == first


def test_a_session_over_midnight_is_asked_for_by_its_hours() -> None:
    sunday_evening = datetime(2024, 1, 7, 23, tzinfo=UTC)

    bars = provider("future").minute_bars(["ES"], sunday_evening, sunday_evening + timedelta(minutes=3))

    assert bars["ts"].dt.minute().to_list() == [0, 1, 2]
