"""What is worth asking for and what was told already, on both databases."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from marketpipe_assets.catalog.alerting import is_due, note_sent
from marketpipe_assets.catalog.asking import askable, asked_before, held, note_asked, pruned_through
from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import pruned, symbol_days

TUESDAY, WEDNESDAY, THURSDAY = date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)
NOON = datetime(2024, 1, 5, 12, tzinfo=UTC)


def record(catalog: Catalog, *rows: tuple[str, date, int, int]) -> None:
    """Ledger rows by symbol, session, and minutes of a vendor gap and of what was not yet published."""
    names = ("expected", "received", "valid", "quarantined", "no_trade", "halt", "not_listed")
    zero = dict.fromkeys((*names, "raw_bars", "valid_bars", "quarantined_bars"), 0)
    frame = pl.DataFrame(
        [
            {
                "market": "shares",
                "symbol": symbol,
                "session_date": day,
                "vendor_gap": gap,
                "not_yet_published": early,
                "missing": gap + early,
                "fetched_at": NOON,
                **zero,
            }
            for symbol, day, gap, early in rows
        ]
    )
    with catalog.begin() as connection:
        upsert(connection, symbol_days, frame)


def test_held_symbols_come_by_session_within_the_span(catalog: Catalog) -> None:
    record(catalog, ("BRK.B", TUESDAY, 0, 0), ("BTC/USD", TUESDAY, 0, 0), ("ACME", WEDNESDAY, 0, 0))
    record(catalog, ("ACME", THURSDAY, 0, 0))

    found = {each.session_date: sorted(each.names()) for each in held(catalog, "shares", TUESDAY, THURSDAY)}

    assert found == {TUESDAY: ["BRK.B", "BTC/USD"], WEDNESDAY: ["ACME"]}


def test_only_minutes_a_provider_may_still_have_are_askable(catalog: Catalog) -> None:
    record(catalog, ("ACME", TUESDAY, 0, 0), ("ACME", WEDNESDAY, 7, 0), ("BOLT", WEDNESDAY, 0, 9))
    record(catalog, ("ACME", THURSDAY, 5, 0))

    found = askable(catalog, "shares", TUESDAY, THURSDAY).sort("symbol")

    assert found.rows() == [("ACME", WEDNESDAY, 7, 0, NOON), ("BOLT", WEDNESDAY, 0, 9, NOON)]


def test_tries_add_up(catalog: Catalog) -> None:
    days = pl.DataFrame({"symbol": ["ACME"], "session_date": [TUESDAY], "tries": [0], "why": ["vendor gap"]})
    with catalog.begin() as connection:
        note_asked(connection, "shares", days, NOON)
        note_asked(connection, "shares", days.with_columns(tries=1), NOON + timedelta(hours=1))

    assert asked_before(catalog, "shares").rows() == [("ACME", TUESDAY, 2, NOON + timedelta(hours=1))]


def test_pruned_through_is_the_last_session_of_any_period(catalog: Catalog) -> None:
    rows = pl.DataFrame(
        [
            {
                "market": "shares",
                "table_name": "raw_bars_1m",
                "symbol": "ACME",
                "period": period,
                "through": through,
                "rows": 1,
                "bytes": 1,
                "at": NOON,
            }
            for period, through in (("2023-12", date(2023, 12, 29)), ("2024-01", TUESDAY))
        ]
    )
    with catalog.begin() as connection:
        upsert(connection, pruned, rows)

    assert pruned_through(catalog, "shares", ["raw_bars_1m"]) == {"ACME": TUESDAY}
    assert pruned_through(catalog, "shares", ["bars_1d"]) == {}


def test_alert_is_due_again_after_its_time(catalog: Catalog) -> None:
    day = timedelta(hours=24)
    before = is_due(catalog, "late", NOON, day)
    note_sent(catalog, "late", NOON)

    assert before
    assert not is_due(catalog, "late", NOON + day - timedelta(seconds=1), day)
    assert is_due(catalog, "late", NOON + day, day)
