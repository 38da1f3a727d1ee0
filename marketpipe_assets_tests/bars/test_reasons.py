"""Why minutes are missing: each reason by the evidence that tells it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.coverage import coverage
from marketpipe_assets.bars.reasons import Evidence, Halt, Listing, bare, explained, minutes_by_reason
from marketpipe_assets.bars.schema import KEY, empty
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets_tests.bars.minutes import calendar_of, minute_bars, minute_run

DAY, NEXT = date(2024, 1, 2), date(2024, 1, 3)
LATER = datetime(2024, 6, 1, tzinfo=UTC)

Run = tuple[str, int]
"""The minute in New York and how many of them."""

WHOLE: Sequence[Run] = [("09:30", 390)]
Ranges = list[tuple[str, str, int, str]]


def bars_of(runs: Mapping[str, Sequence[Run]], day: date = DAY, calendar: Sessions | None = None) -> pl.DataFrame:
    parts = [
        minute_bars(*minute_run(begin, count, f"{day}"), symbol=symbol, calendar=calendar)
        for symbol, of_symbol in runs.items()
        for begin, count in of_symbol
    ]
    return pl.concat([empty(), *parts])


def reasons(
    raw: pl.DataFrame,
    symbols: Sequence[str] = ("ACME",),
    evidence: Evidence | None = None,
    *,
    valid: pl.DataFrame | None = None,
    dates: Sequence[date] = (DAY,),
    fetched_at: datetime = LATER,
    settled_at: datetime | None = None,
) -> Ranges:
    """Symbol, New York minute, length and reason of every range."""
    held = coverage(raw, raw if valid is None else valid, calendar_of(), symbols, dates)
    days = _fetched(held.days, fetched_at, settled_at)
    ranges = explained(days, held.holes, calendar_of(), evidence or Evidence())
    local = pl.col("start").dt.convert_time_zone("America/New_York").dt.strftime("%H:%M")
    return ranges.sort("symbol", "start").select("symbol", local, "minutes", "reason").rows()


def _fetched(days: pl.DataFrame, fetched_at: datetime, settled_at: datetime | None = None) -> pl.DataFrame:
    instants = {"fetched_at": fetched_at, "settled_at": settled_at}
    return days.with_columns(pl.lit(at, pl.Datetime("us", "UTC")).alias(name) for name, at in instants.items())


def test_a_lone_minute_is_no_trade() -> None:
    assert reasons(bars_of({"ACME": [("09:30", 100), ("11:11", 289)]})) == [("ACME", "11:10", 1, "no_trade")]


def test_a_long_hole_of_a_symbol_that_trades_every_minute_is_a_gap_of_the_vendors() -> None:
    assert reasons(bars_of({"ACME": [("09:30", 100), ("11:20", 280)]})) == [("ACME", "11:10", 10, "vendor_gap")]


def test_holes_of_a_symbol_that_seldom_trades_are_no_trade() -> None:
    seldom = [(f"{minute // 60:02}:{minute % 60:02}", 1) for minute in range(570, 960, 12)]

    assert {reason for *_, reason in reasons(bars_of({"ACME": seldom}))} == {"no_trade"}


def test_a_day_that_ends_early_is_a_gap_of_the_vendors() -> None:
    assert reasons(bars_of({"ACME": [("09:30", 195)]})) == [("ACME", "12:45", 195, "vendor_gap")]


def test_the_end_of_a_session_fetched_soon_after_it_is_not_yet_published() -> None:
    soon = datetime(2024, 1, 2, 21, 30, tzinfo=UTC)

    found = reasons(
        bars_of({"ACME": [("09:30", 100), ("11:20", 260)]}),
        evidence=Evidence(publication_delay=timedelta(hours=1)),
        fetched_at=soon,
    )

    assert found == [("ACME", "11:10", 10, "vendor_gap"), ("ACME", "15:40", 20, "not_yet_published")]


def test_the_end_of_a_session_is_judged_once_the_answer_was_given_again_after_its_publication() -> None:
    found = reasons(
        bars_of({"ACME": [("09:30", 370)]}),
        evidence=Evidence(publication_delay=timedelta(hours=1)),
        fetched_at=datetime(2024, 1, 2, 21, 30, tzinfo=UTC),
        settled_at=datetime(2024, 1, 2, 22, tzinfo=UTC),
    )

    assert found == [("ACME", "15:40", 20, "vendor_gap")]


def test_a_minute_whose_bars_are_quarantined_says_so() -> None:
    raw = bars_of({"ACME": WHOLE})
    valid = bars_of({"ACME": [("09:30", 100), ("11:15", 285)]})

    assert reasons(raw, valid=valid) == [("ACME", "11:10", 5, "quarantined")]


def test_quarantined_minutes_beside_missing_ones_are_ranges_of_their_own() -> None:
    raw = bars_of({"ACME": [("09:30", 105), ("11:30", 270)]})
    valid = bars_of({"ACME": [("09:30", 100), ("11:30", 270)]})

    assert reasons(raw, valid=valid) == [("ACME", "11:10", 5, "quarantined"), ("ACME", "11:15", 15, "vendor_gap")]


def test_a_halt_of_the_configuration_explains_its_minutes_only() -> None:
    halt = Halt(datetime(2024, 1, 2, 16, 10, tzinfo=UTC), datetime(2024, 1, 2, 16, 20, tzinfo=UTC), ("ACME",))

    found = reasons(bars_of({"ACME": [("09:30", 100), ("11:40", 260)]}), evidence=Evidence(halts=[halt]))

    assert found == [("ACME", "11:10", 10, "halt"), ("ACME", "11:20", 20, "vendor_gap")]


def test_a_halt_of_another_symbol_explains_nothing() -> None:
    halt = Halt(datetime(2024, 1, 2, 16, 10, tzinfo=UTC), datetime(2024, 1, 2, 16, 20, tzinfo=UTC), ("BOLT",))

    found = reasons(bars_of({"ACME": [("09:30", 100), ("11:20", 280)]}), evidence=Evidence(halts=[halt]))

    assert found == [("ACME", "11:10", 10, "vendor_gap")]


def test_minutes_in_which_the_whole_market_stood_still_are_a_halt() -> None:
    symbols = ("ACME", "BOLT", "CRUX", "DYNO")

    found = reasons(bars_of({symbol: [("09:30", 100), ("11:25", 275)] for symbol in symbols}), symbols)

    assert found == [(symbol, "11:10", 15, "halt") for symbol in symbols]


def test_minutes_in_which_others_traded_are_no_halt() -> None:
    symbols = ("ACME", "BOLT", "CRUX", "DYNO")
    runs = {**{symbol: [("09:30", 100), ("11:25", 275)] for symbol in symbols}, "DYNO": WHOLE}

    assert {reason for *_, reason in reasons(bars_of(runs), symbols)} == {"vendor_gap"}


def test_two_others_that_stand_still_tell_nothing_of_the_market() -> None:
    symbols = ("ACME", "BOLT", "CRUX")

    found = reasons(bars_of({symbol: [("09:30", 100), ("11:25", 275)] for symbol in symbols}), symbols)

    assert {reason for *_, reason in found} == {"vendor_gap"}


def test_a_market_whose_day_ends_early_is_no_halt() -> None:
    symbols = ("ACME", "BOLT", "CRUX", "DYNO")

    found = reasons(bars_of({symbol: [("09:30", 195)] for symbol in symbols}), symbols)

    assert {reason for *_, reason in found} == {"vendor_gap"}


def test_sessions_before_the_first_bar_are_not_listed() -> None:
    found = reasons(bars_of({"ACME": WHOLE}, NEXT), dates=(DAY, NEXT), evidence=Evidence(first_received={"ACME": NEXT}))

    assert found == [("ACME", "09:30", 390, "not_listed")]


def test_a_symbol_without_any_bar_is_not_known_to_be_unlisted() -> None:
    assert reasons(empty()) == [("ACME", "09:30", 390, "vendor_gap")]


def test_a_listing_of_the_configuration_wins_over_what_was_received() -> None:
    evidence = Evidence({"ACME": Listing(first=DAY)}, {"ACME": NEXT})

    found = reasons(bars_of({"ACME": WHOLE}, NEXT), dates=(DAY, NEXT), evidence=evidence)

    assert found == [("ACME", "09:30", 390, "vendor_gap")]


def test_sessions_from_the_end_of_a_listing_are_not_listed() -> None:
    evidence = Evidence({"ACME": Listing(end=NEXT)})

    found = reasons(bars_of({"ACME": WHOLE}), dates=(DAY, NEXT), evidence=evidence)

    assert found == [("ACME", "09:30", 390, "not_listed")]


def test_what_a_second_provider_has_is_a_gap_and_what_it_lacks_is_none() -> None:
    raw = bars_of({"ACME": [("09:30", 100), ("11:20", 280)]})
    second = bars_of({"ACME": [("09:30", 105), ("11:20", 280)]})
    evidence = Evidence(
        second=second.select(*KEY, "ts"), second_days=pl.DataFrame({"symbol": "ACME", "session_date": DAY})
    )

    assert reasons(raw, evidence=evidence) == [("ACME", "11:10", 5, "vendor_gap"), ("ACME", "11:15", 5, "no_trade")]


def test_minutes_that_a_second_provider_has_are_no_halt() -> None:
    symbols = ("ACME", "BOLT", "CRUX", "DYNO")
    silent = [("09:30", 100), ("11:40", 260)]
    second = bars_of(dict.fromkeys(symbols, WHOLE))
    evidence = Evidence(
        second=second.select(*KEY, "ts"), second_days=pl.DataFrame({"symbol": symbols, "session_date": [DAY] * 4})
    )

    alone = reasons(bars_of(dict.fromkeys(symbols, silent)), symbols)
    beside = reasons(bars_of(dict.fromkeys(symbols, silent)), symbols, evidence=evidence)

    assert {reason for *_, reason in alone} == {"halt"}
    assert {reason for *_, reason in beside} == {"vendor_gap"}


def test_a_second_provider_that_was_not_asked_for_the_day_says_nothing() -> None:
    raw = bars_of({"ACME": [("09:30", 100), ("11:20", 280)]})
    asked = pl.DataFrame({"symbol": "ACME", "session_date": NEXT})
    evidence = Evidence(second=empty().select(*KEY, "ts"), second_days=asked)

    assert reasons(raw, evidence=evidence) == [("ACME", "11:10", 10, "vendor_gap")]


@given(st.sets(st.integers(0, 389)), st.sets(st.integers(0, 389)))
def test_ranges_add_up_to_what_is_not_valid_and_joined_again_are_the_holes(held: set[int], bad: set[int]) -> None:
    bars = bars_of({"ACME": WHOLE})
    raw = bars[sorted(held)]
    valid = bars[sorted(held - bad)]
    found = coverage(raw, valid, calendar_of(), ["ACME"], [DAY])
    days = _fetched(found.days, LATER)

    ranges = explained(days, found.holes, calendar_of(), Evidence())

    assert ranges["minutes"].sum() == 390 - len(held - bad)
    assert bare(ranges).equals(found.holes)
    assert minutes_by_reason(ranges)["quarantined"].sum() == len(held & bad)
