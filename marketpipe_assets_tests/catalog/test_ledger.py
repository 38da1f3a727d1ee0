"""The ledger: what is written of symbol-days is the same in whatever order, and finds what to ask for again."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from random import Random
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketpipe_assets.bars.coverage import coverage
from marketpipe_assets.bars.reasons import Evidence, Listing
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets.catalog.ledger import FACTS, forget, gaps, holes_of, record, symbol_days_of, totals
from marketpipe_assets.catalog.store import Catalog

CALENDAR = sessions("XNYS", date(2024, 1, 1), date(2025, 1, 1))
DATES = CALENDAR.between(date(2024, 1, 2), date(2024, 3, 20))
SYMBOLS = ("ACME", "BOLT", "CRUX", "DYNO")
FETCHED_AT = datetime(2024, 6, 1, tzinfo=UTC)
Absent = dict[tuple[str, date], tuple[int, int]]
"""Symbol-day → the first minute that is missing, and how many are."""


def minutes(symbols: Sequence[str], dates: Sequence[date], absent: Absent) -> pl.DataFrame:
    """A bar in every minute but those."""
    opens = dict(CALENDAR.rows(dates).select("session_date", "open").iter_rows())
    frames = []
    for symbol in symbols:
        for day in dates:
            first, count = absent.get((symbol, day), (0, 0))
            number = pl.int_range(390, eager=True).filter(
                ~pl.int_range(390, eager=True).is_between(first, first + count - 1)
            )
            ts = pl.lit(opens[day], pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("number"))
            frames.append(
                pl.DataFrame({"number": number}).select(
                    pl.lit(symbol).alias("symbol"), ts.alias("ts"), pl.lit(day).alias("session_date")
                )
            )
    return pl.concat(frames)


def write(
    catalog: Catalog,
    symbols: Sequence[str],
    dates: Sequence[date],
    absent: Absent,
    evidence: Evidence = Evidence(),  # noqa: B008  # a tuple: nobody changes it
    unseen: Collection[tuple[str, date]] = (),
) -> None:
    bars = minutes(symbols, dates, absent)
    found = coverage(bars, bars, CALENDAR, symbols, dates)
    facts = found.days.with_columns(
        pl.lit("vendor").alias("provider"),
        pl.lit("sip").alias("feed"),
        pl.col("received").alias("raw_bars"),
        pl.col("received").alias("valid_bars"),
        pl.lit(0).alias("quarantined_bars"),
        pl.lit("00ff").alias("content_hash"),
        pl.lit("run").alias("run_id"),
        pl.lit(FETCHED_AT, pl.Datetime("us", "UTC")).alias("fetched_at"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("settled_at"),
    )
    seen = [day not in unseen for day in facts.select("symbol", "session_date").iter_rows()]
    with catalog.begin() as connection:
        record(connection, "shares", CALENDAR, facts.select(FACTS).filter(seen), found.holes, evidence)


def test_a_hole_has_its_range_and_reason_in_the_row(catalog: Catalog) -> None:
    write(catalog, ["ACME"], DATES[:1], {("ACME", DATES[0]): (100, 10)})

    row = symbol_days_of(catalog, "shares").row(0, named=True)

    assert (row["expected"], row["received"], row["missing"], row["vendor_gap"]) == (390, 380, 10, 10)
    assert row["holes"] == '[["2024-01-02T16:10Z",10,"vendor_gap"]]'
    assert (row["provider"], row["feed"], row["run_id"], row["fetched_at"]) == ("vendor", "sip", "run", FETCHED_AT)


def test_gaps_are_what_asking_again_may_fill_newest_first(catalog: Catalog) -> None:
    absent = {("ACME", DATES[0]): (100, 10), ("BOLT", DATES[1]): (50, 20), ("ACME", DATES[2]): (10, 1)}
    write(catalog, SYMBOLS, DATES[:3], absent)

    assert gaps(catalog, "shares").select("symbol", "session_date", "minutes").rows() == [
        ("BOLT", DATES[1], 20),
        ("ACME", DATES[0], 10),
    ]
    assert gaps(catalog, "shares", end=DATES[1])["symbol"].to_list() == ["ACME"]
    assert gaps(catalog, "shares", ("no_trade",))["session_date"].to_list() == [DATES[2]]


def test_what_is_written_again_takes_the_place_of_what_was(catalog: Catalog) -> None:
    write(catalog, ["ACME"], DATES[:1], {("ACME", DATES[0]): (100, 10)})
    write(catalog, ["ACME"], DATES[:1], {})

    row = symbol_days_of(catalog, "shares").row(0, named=True)
    assert (row["missing"], row["vendor_gap"], row["holes"]) == (0, 0, None)


def test_totals_are_sums_over_the_market(catalog: Catalog) -> None:
    write(catalog, ["ACME", "BOLT"], DATES[:3], {("ACME", DATES[0]): (100, 10)})

    assert totals(catalog, "shares").select("days", "expected", "valid", "vendor_gap").rows() == [(6, 2340, 2330, 10)]
    assert totals(catalog, "shares", ["symbol"]).select("symbol", "vendor_gap").rows() == [("ACME", 10), ("BOLT", 0)]
    assert totals(catalog, "other")["days"].to_list() == [0]


def test_a_first_bar_makes_the_empty_sessions_before_it_unlisted(catalog: Catalog) -> None:
    nothing = {("ACME", day): (0, 390) for day in DATES[:2]}
    write(catalog, ["ACME"], DATES[:2], nothing)
    before = symbol_days_of(catalog, "shares")["vendor_gap"].to_list()

    write(catalog, ["ACME"], DATES[-1:], {})

    after = symbol_days_of(catalog, "shares")
    assert before == [390, 390]
    assert after["not_listed"].to_list() == [390, 390, 0]
    assert after["vendor_gap"].to_list() == [0, 0, 0]


@pytest.mark.parametrize("apart", [20, 21, 40, 41])
def test_a_first_bar_makes_them_unlisted_however_far_it_is(catalog: Catalog, apart: int) -> None:
    write(catalog, ["ACME"], DATES[:1], {("ACME", DATES[0]): (0, 390)})
    write(catalog, ["ACME"], DATES[apart : apart + 1], {})

    assert symbol_days_of(catalog, "shares")["not_listed"].to_list() == [390, 0]


def test_a_first_bar_stays_the_first_where_another_symbol_is_written_of_its_session(catalog: Catalog) -> None:
    absent = {("ACME", DATES[0]): (100, 10), ("ACME", DATES[1]): (0, 390)}
    write(catalog, ["ACME", "BOLT"], DATES[:3], absent)
    unseen = [("ACME", DATES[0]), ("ACME", DATES[1]), ("BOLT", DATES[1])]

    write(catalog, ["ACME", "BOLT"], DATES[:3], absent, unseen=unseen)

    assert symbol_days_of(catalog, "shares", ["ACME"])["vendor_gap"].to_list() == [10, 390, 0]


def test_an_earlier_bar_makes_the_empty_sessions_after_it_gaps(catalog: Catalog) -> None:
    write(catalog, ["ACME"], [*DATES[1:3], DATES[-1]], {("ACME", day): (0, 390) for day in DATES[1:3]})
    write(catalog, ["ACME"], DATES[:1], {})

    assert symbol_days_of(catalog, "shares")["vendor_gap"].to_list() == [0, 390, 390, 0]


def test_empty_sessions_that_a_listing_explains_are_not_judged_again(catalog: Catalog) -> None:
    listed = Evidence({"ACME": Listing(end=DATES[1])})
    after = CALENDAR.between(date(2024, 6, 3), date(2024, 6, 8))
    statements = list[int]()
    for empty in (after[:1], after):
        write(catalog, ["ACME"], empty, {("ACME", day): (0, 390) for day in empty}, listed)
        with statements_of(catalog) as executed:
            write(catalog, ["ACME"], DATES[:1], {}, listed)
        statements.append(len(executed))

    assert symbol_days_of(catalog, "shares")["not_listed"].to_list() == [0, *[390] * 5]
    assert statements[0] == statements[1]


@contextmanager
def statements_of(catalog: Catalog) -> Iterator[list[str]]:
    executed = list[str]()

    def note(*arguments: Any) -> None:
        executed.append(arguments[2])

    sa.event.listen(catalog.engine, "before_cursor_execute", note)
    yield executed
    sa.event.remove(catalog.engine, "before_cursor_execute", note)


def test_a_forgotten_market_leaves_the_others(catalog: Catalog) -> None:
    write(catalog, ["ACME"], DATES[:1], {})
    with catalog.begin() as connection:
        forget(connection, "other")

    assert symbol_days_of(catalog, "shares").height == 1


absences = st.dictionaries(
    st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DATES)),
    st.one_of(st.just((0, 390)), st.tuples(st.integers(0, 300), st.integers(1, 89))),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(absences, st.randoms(use_true_random=False))
def test_the_ledger_is_the_same_in_whatever_order_it_is_written(
    catalog: Catalog, absent: Absent, order: Random
) -> None:
    with catalog.begin() as connection:
        forget(connection, "shares")
    write(catalog, SYMBOLS, DATES, absent)
    at_once = symbol_days_of(catalog, "shares")
    with catalog.begin() as connection:
        forget(connection, "shares")
    blocks = [([symbol], DATES[at : at + 20]) for symbol in SYMBOLS for at in range(0, len(DATES), 20)]
    order.shuffle(blocks)

    for symbols, dates in blocks:
        write(catalog, symbols, dates, absent)

    in_parts = symbol_days_of(catalog, "shares")
    assert in_parts.equals(at_once)
    assert holes_of(in_parts)["minutes"].sum() == at_once["missing"].sum()
