"""Where each bar goes, and with which reasons."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time
from itertools import groupby, pairwise
from math import inf, isfinite, isnan, nan
from statistics import median
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.bars.neighbours import SPLIT_RATIOS, SPLIT_TOLERANCE
from marketpipe_assets.bars.quarantine import PAYLOAD, Split, split_by_rules
from marketpipe_assets.bars.rules import RuleSet, Severity
from marketpipe_assets.bars.schema import BAR_COLUMNS, BROKEN_RULES, FLAGS, empty
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars, minute_run

GOOD: Bar = ("09:30", 10, 11, 9, 10, 100)
NEXT: Bar = ("09:31", 10, 11, 9, 10, 100)
Row = dict[str, Any]


def split(bars: pl.DataFrame, rules: RuleSet | None = None, calendar: Sessions | None = None) -> Split:
    return split_by_rules(bars, rules or RuleSet("equity"), calendar or calendar_of())


def reasons(bars: pl.DataFrame) -> list[list[str]]:
    return split(bars).quarantined["broken_rules"].to_list()


def test_bar_whose_high_is_below_its_close_is_quarantined_with_the_reason() -> None:
    found = split(minute_bars(GOOD, ("09:31", 10, 10, 10, 12, 100)))

    assert found.valid["close"].to_list() == [10]
    assert found.quarantined["broken_rules"].to_list() == [["ohlc_logic"]]
    assert found.broken == {"ohlc_logic": 1}


def test_a_quarantined_bar_names_every_rule_it_broke_also_those_that_only_warn() -> None:
    assert reasons(minute_bars(GOOD, ("09:31:30", 20, 21, 19, 22, -1))) == [
        ["misaligned_ts", "ohlc_logic", "negative_volume", "price_jump"]
    ]


def test_a_warning_keeps_the_bar_and_flags_it_and_a_note_only_counts() -> None:
    found = split(minute_bars(*minute_run("09:30", 5, volume=0), ("09:35", 20, 20, 20, 20, 100)))

    assert found.quarantined.is_empty()
    assert found.valid["flags"].to_list() == [None] * 5 + [["price_jump"]]
    assert found.broken == {"price_jump": 1, "zero_volume_run": 1}


def test_severities_of_the_market_decide_where_a_bar_goes() -> None:
    bars = minute_bars(GOOD, ("09:31", 20, 20, 20, 20, 100))

    assert split(bars, RuleSet("equity", {"price_jump": Severity.ERROR})).quarantined.height == 1
    assert split(bars, RuleSet("equity", {"price_jump": Severity.INFO})).valid["flags"].to_list() == [None, None]


def test_of_identical_copies_the_first_is_valid_and_the_others_are_quarantined() -> None:
    found = split(minute_bars(GOOD, GOOD, GOOD, NEXT))

    assert found.valid.height == 2
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_ts"]] * 2


def test_of_conflicting_copies_all_are_quarantined() -> None:
    found = split(minute_bars(GOOD, GOOD, ("09:30", 10, 12, 9, 10, 100), NEXT))

    assert found.valid["high"].to_list() == [11]
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_ts"]] * 3


def test_copies_conflict_when_one_says_what_the_other_leaves_out() -> None:
    assert reasons(minute_bars(GOOD, GOOD, trade_count=[3, None])) == [["duplicate_ts"]] * 2


def test_copies_that_are_equally_not_numbers_are_identical() -> None:
    bad: Bar = ("09:30", nan, 11, 9, 10, 100)

    assert reasons(minute_bars(bad, bad)) == [["not_finite"], ["not_finite", "duplicate_ts"]]


def test_a_copy_that_arrives_late_is_a_duplicate_and_out_of_order() -> None:
    found = split(minute_bars(GOOD, NEXT, GOOD))

    assert found.valid.height == 2
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_ts", "out_of_order"]]


def test_the_same_minute_of_two_symbols_is_no_copy() -> None:
    bars = pl.concat([minute_bars(GOOD, NEXT), minute_bars(GOOD, NEXT, symbol="BOLT")])

    assert split(bars).quarantined.is_empty()


def test_order_is_judged_within_a_symbol_and_its_session() -> None:
    bars = pl.concat([minute_bars(NEXT), minute_bars(GOOD, symbol="BOLT"), minute_bars(GOOD, symbol="AJAX")])

    found = split(bars)

    assert found.quarantined.is_empty()
    assert found.valid["symbol"].to_list() == ["ACME", "BOLT", "AJAX"]


def test_bars_allowed_out_of_order_are_sorted_within_their_symbol() -> None:
    bars = pl.concat([minute_bars(NEXT, GOOD, symbol="BOLT"), minute_bars(NEXT, GOOD)])

    found = split(bars, RuleSet("equity", {"out_of_order": Severity.WARN}))

    assert found.valid["symbol"].to_list() == ["BOLT", "BOLT", "ACME", "ACME"]
    assert found.valid["ts"].to_list() == [*sorted(bars["ts"].unique())] * 2
    assert found.valid["flags"].to_list() == [["out_of_order"], None] * 2


def test_quarantined_bars_keep_the_order_of_arrival() -> None:
    bars = minute_bars(NEXT, ("09:40", 10, 9, 9, 10, 1), ("09:35", 10, 9, 9, 10, 1), ("09:36", 10, 9, 9, 10, 1))

    assert split(bars).quarantined["ts"].dt.minute().to_list() == [40, 35, 36]


def test_bars_before_the_open_are_valid_where_the_market_asks_for_them() -> None:
    extended = sessions("XNYS", date(2024, 1, 1), date(2025, 1, 1), (time(4), time(20)))
    bars = minute_bars(*((at, 10, 11, 9, 10, 100) for at in ("03:59", "04:00", "19:59", "20:00")), calendar=extended)

    found = split(bars, calendar=extended)

    assert found.valid["session"].to_list() == ["pre", "post"]
    assert found.quarantined["broken_rules"].to_list() == [["ts_range"]] * 2


def test_bars_of_a_closed_day_are_kept_with_the_reason() -> None:
    found = split(minute_bars(GOOD, day="2024-07-04"))

    assert found.quarantined["broken_rules"].to_list() == [["outside_session"]]
    assert found.quarantined["session"].to_list() == [None]


def test_bars_after_an_early_close_are_outside_the_hours_asked_for() -> None:
    bars = minute_bars(*((at, 10, 11, 9, 10, 100) for at in ("12:59", "13:00")), day="2024-11-29")

    assert reasons(bars) == [["ts_range"]]


def test_bars_in_the_lunch_break_are_valid() -> None:
    tokyo = calendar_of("XTKS")
    bars = minute_bars(
        *((at, 10, 11, 9, 10, 100) for at in ("11:29", "11:45", "12:30")), calendar=tokyo, day="2024-01-04"
    )

    assert split(bars, calendar=tokyo).valid.height == 3


@pytest.mark.parametrize("bars", [empty(), minute_bars(GOOD)])
def test_an_empty_answer_and_a_single_bar_have_the_columns_of_their_tables(bars: pl.DataFrame) -> None:
    found = split(bars)

    assert found.valid.schema == pl.Schema({**BAR_COLUMNS, **FLAGS})
    assert found.quarantined.schema == pl.Schema({**BAR_COLUMNS, **BROKEN_RULES})
    assert found.valid.height == bars.height
    assert found.broken == {}


prices = st.sampled_from([10.0, 10.0, 10.0, 11.0, 9.0, 16.0, 0.0, -1.0, 0.005, 2e6, nan, inf, None])
volumes = st.sampled_from([0.0, 0.0, 100.0, 100.0, 5000.0, 2e9, -1.0, nan, inf, None])
begins = st.one_of(
    st.integers(0, 70).map(lambda minute: f"{9 + (20 + minute) // 60:02}:{(20 + minute) % 60:02}"),
    st.sampled_from(["09:30:30", "15:59", "16:00", "20:00"]),
)
days = st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-03"])
trades = st.sampled_from([None, 0, 5, -1])
averages = st.sampled_from([None, 10.0, 9.0, 20.0, nan])
steady = st.tuples(begins, st.just(10.0), st.just(11.0), st.just(9.0), st.just(10.0), volumes)
wild = st.tuples(begins, prices, prices, prices, prices, volumes)


@st.composite
def answers(draw: st.DrawFn) -> pl.DataFrame:
    """What a provider may answer: shuffled, repeated, half of it no numbers, for two symbols and some days."""
    parts = []
    for symbol in draw(st.permutations(["BOLT", "ACME"])):
        bars = draw(st.lists(st.tuples(days, st.one_of(steady, wild), trades, averages), max_size=12))
        bars += draw(st.lists(st.sampled_from(bars), max_size=4)) if bars else []
        if draw(st.booleans()):
            bars.sort(key=lambda bar: (bar[0], bar[1][0]))
        run = minute_run("09:00", draw(st.sampled_from([0, 21])), volume=draw(st.sampled_from([0.0, 100.0])))
        rows = [*run, *((f"{day} {at}", *numbers) for day, (at, *numbers), _, _ in bars)]
        parts.append(
            minute_bars(
                *rows,
                symbol=symbol,
                trade_count=[None] * len(run) + [count for *_, count, _ in bars],
                vwap=[None] * len(run) + [average for *_, average in bars],
            )
        )
    return pl.concat(parts).sort("symbol", "session_date", maintain_order=True)


@settings(deadline=None)
@given(answers())
def test_every_bar_is_in_exactly_one_half_and_the_valid_are_sorted_and_unique(bars: pl.DataFrame) -> None:
    found = split(bars)

    halves = pl.concat([found.valid.drop("flags"), found.quarantined.drop("broken_rules")])
    key = list(BAR_COLUMNS)
    assert halves.sort(key).equals(bars.sort(key), null_equal=True)
    assert found.valid.select("symbol", "ts").equals(found.valid.select("symbol", "ts").unique().sort("symbol", "ts"))
    assert found.quarantined["broken_rules"].list.len().gt(0).all()


@settings(deadline=None)
@given(answers())
def test_reasons_and_counts_are_those_of_a_count_bar_by_bar(bars: pl.DataFrame) -> None:
    found = split(bars)

    told = list(judged(bars.rows(named=True), RuleSet("equity")))
    errors = {name for name, rule in RuleSet("equity").rules.items() if rule.severity == Severity.ERROR}
    assert found.broken == Counter(name for names in told for name in names)
    assert [set(names) for names in found.quarantined["broken_rules"]] == [names for names in told if names & errors]


PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume", "trade_count", "vwap")

BREACHES: Mapping[str, Callable[[Row, Mapping[str, float]], bool]] = {
    "not_finite": lambda bar, _: not all(isfinite(bar[name]) for name in (*PRICES, "volume")),
    "misaligned_ts": lambda bar, _: bar["ts"].second != 0,
    "outside_session": lambda bar, _: bar["session"] is None,
    "ts_range": lambda bar, _: bar["session"] in ("pre", "post"),
    "non_positive_price": lambda bar, limits: any(bar[name] <= limits["non_positive_price"] for name in PRICES),
    "ohlc_logic": lambda bar, _: any(bar["high"] < bar[name] or bar["low"] > bar[name] for name in PRICES),
    "negative_volume": lambda bar, _: bar["volume"] < 0,
    "negative_trade_count": lambda bar, _: bar["trade_count"] < 0,
    "vwap_range": lambda bar, _: bar["vwap"] < bar["low"] or bar["vwap"] > bar["high"],
    "zero_volume_move": lambda bar, _: bar["volume"] == 0 and abs(bar["open"] - bar["close"]) > 0,
    "price_range": lambda bar, limits: bar["high"] > limits["price_range"] or bar["low"] < limits["price_floor"],
    "huge_volume": lambda bar, limits: bar["volume"] > limits["huge_volume"],
}
"""Rule → whether a bar breaks it by itself. What a bar leaves out is NaN here, of which every comparison is false."""


RUNS: Mapping[str, Callable[[Row, Row], bool]] = {
    "stale_feed": lambda one, other: (
        all(one[name] == other[name] for name in (*PRICES, "volume"))
        and (other["volume"] > 0 or other["high"] > other["low"])
    ),
    "constant_price": lambda one, other: (
        other["high"] == other["low"] and one["close"] == other["close"] and other["volume"] > 0
    ),
    "rising_volume": lambda one, other: other["volume"] > one["volume"],
}
"""Rule → whether a bar goes on with the run of the one before it."""


def judged(rows: Sequence[Row], rules: RuleSet) -> Iterator[set[str]]:
    """The rules each row breaks, in plain Python."""
    limits = rules.limits
    before: Row = {"symbol": None}
    for _, group in groupby(rows, key=lambda row: (row["symbol"], row["session_date"])):
        session = [{**row, **{name: nan for name in NUMBERS if row[name] is None}} for row in group]
        for number, bar in enumerate(session):
            alone = {rule for rule, breaks in BREACHES.items() if breaks(bar, limits)}
            yield {
                *alone,
                *_breaches_by_order(session[: number + 1], limits),
                *_copied(session, number),
                *_ticks(session, number, limits),
                *(_overnight(before, bar, limits) if number == 0 else ()),
            }
        before = session[-1]


def _overnight(before: Row, bar: Row, limits: Mapping[str, float]) -> Iterator[str]:
    if before["symbol"] == bar["symbol"] and _jump(bar["open"], before["close"]) > limits["overnight_jump"]:
        ratio = bar["open"] / before["close"] if before["close"] else inf
        if not any(abs(ratio / each - 1) <= SPLIT_TOLERANCE for each in SPLIT_RATIOS):
            yield "overnight_jump"


def _ticks(session: Sequence[Row], number: int, limits: Mapping[str, float]) -> Iterator[str]:
    bar = session[number]
    highest, lowest = _around(session, number)
    above = bar["high"] / highest if highest > 0 else nan
    below = lowest / bar["low"] if bar["low"] > 0 else nan
    apart = max(numbers_in(above, below), default=nan) - 1
    if apart > limits["impossible_tick"] - 1:
        yield "impossible_tick"
    segment = [each for each in session if each["session"] == bar["session"]]
    place = next(n for n, each in enumerate(segment) if each is bar)
    window = slice(max(place - 10, 0), place + 11)
    ranges = [each["high"] / each["low"] - 1 if each["low"] > 0 and isfinite(each["high"]) else nan for each in segment]
    near, ticks = numbers_in(*ranges[window]), [each for each in ranges if each > 0]
    spanned = (highest / lowest - 1) / 3 if lowest > 0 else nan
    usual = max(numbers_in(spanned, median(near) if near else nan, median(ticks) if ticks else nan), default=nan)
    if apart > limits["bad_tick_floor"] and apart > limits["bad_tick"] * usual:
        yield "bad_tick"


def _around(session: Sequence[Row], number: int) -> tuple[float, float]:
    """The highest and the lowest open or close of the bars before and after; at an end the bar's own."""
    bar, ends = session[number], []
    for step, own in ((-1, "open"), (1, "close")):
        beside = 0 <= number + step < len(session)
        other = session[number + step] if beside else bar
        told = numbers_in(other["open"], other["close"]) if beside else numbers_in(bar[own])
        unknown = (inf, -inf) if beside else ()
        ends.append((told or unknown[:1], told or unknown[1:]))
    tops, bottoms = ([price for part in parts for price in part] for parts in zip(*ends, strict=True))
    return max(tops, default=nan), min(bottoms, default=nan)


def numbers_in(*values: float) -> list[float]:
    return [each for each in values if not isnan(each)]


def _copied(session: Sequence[Row], number: int) -> Iterator[str]:
    copies = [bar for bar in session if bar["ts"] == session[number]["ts"]]
    if len({str([bar[name] for name in PAYLOAD]) for bar in copies}) > 1 or copies[0] is not session[number]:
        yield "duplicate_ts"


def _breaches_by_order(so_far: Sequence[Row], limits: Mapping[str, float]) -> Iterator[str]:
    bar, volumes = so_far[-1], [each["volume"] for each in so_far]
    if len(so_far) > 1 and bar["ts"] < so_far[-2]["ts"]:
        yield "out_of_order"
    if len(so_far) > 1 and _jump(bar["open"], so_far[-2]["close"]) > limits["price_jump"]:
        yield "price_jump"
    if len(so_far) >= limits["zero_volume_run"] and not any(each != 0 for each in volumes[-5:]):
        yield "zero_volume_run"
    for rule, same in RUNS.items():
        length = int(limits[rule])
        run = so_far[-length:]
        if len(run) == length and all(same(one, other) for one, other in pairwise(run)):
            yield rule
    if len(so_far) > 20 and bar["volume"] > limits["volume_spike"] * sum(volumes[-21:-1]) / 20:
        yield "volume_spike"


def _jump(open_: float, close: float) -> float:
    if close == 0:
        return inf if abs(open_) > 0 else nan
    return abs(open_ / close - 1)
