"""A catalogue with symbol-days and runs that a test writes row by row."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from marketpipe_assets.catalog.counts import COUNTS, Asked, add_counts, add_requests, add_seconds
from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import pruned, symbol_days
from marketpipe_assets.config import Config, load_config
from marketpipe_assets.providers.traffic import Traffic

CONFIGURATION = """
config_version: 1
providers:
  given: {type: alpaca, feed: iex}
  other: {type: synthetic}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: given
    symbols: [ACME, BOLT]
    start: 2024-01-02
    min_coverage: 0.9
    max_quarantined_share: 0.01
"""


def configured(folder: Path, text: str = CONFIGURATION) -> Config:
    written = folder / "marketpipe.yaml"
    written.write_text(text)
    return load_config(written)


def catalog_of(config: Config) -> Catalog:
    return Catalog(config.catalog_url)


def hold(catalog: Catalog, symbol: str, day: date, **counts: int | datetime) -> None:
    """A symbol-day of shares whose minutes are all there, but for the counts given."""
    whole = {"expected": 390, "received": 390, "valid": 390, "quarantined": 0, "missing": 0}
    reasons = dict.fromkeys(("no_trade", "halt", "vendor_gap", "not_yet_published", "not_listed"), 0)
    bars = {"raw_bars": 400, "valid_bars": 400, "quarantined_bars": 0}
    known = {"holes": None, "content_hash": None, "run_id": "r", "fetched_at": datetime.now(UTC)}
    place = {"market": "shares", "session_date": day, "symbol": symbol, "provider": "given", "feed": "iex"}
    row = {**place, **known, **whole, **reasons, **bars, **counts}
    with catalog.begin() as connection:
        upsert(connection, symbol_days, pl.DataFrame([row], schema_overrides={"holes": pl.String}))


def note_pruned(catalog: Catalog, symbol: str, through: date) -> None:
    """Raw bars of shares up to a session, removed by retention."""
    place = {"market": "shares", "table_name": "raw_bars_1m", "symbol": symbol, "period": f"{through:%Y-%m}"}
    row = {**place, "through": through, "rows": 1, "bytes": 1, "at": datetime.now(UTC), "run_id": "r"}
    with catalog.begin() as connection:
        upsert(connection, pruned, pl.DataFrame([row]))


def commit(catalog: Catalog, run_id: str, operation: str, *counts: tuple[str, str, str, float]) -> None:
    """Counts of provider, feed, name, value."""
    frame = pl.DataFrame(counts, schema=COUNTS, orient="row")
    with catalog.begin() as connection:
        add_counts(connection, run_id, "shares", operation, frame)


def spend(catalog: Catalog, run_id: str, operation: str, seconds: float) -> None:
    with catalog.begin() as connection:
        add_seconds(connection, run_id, "shares", {operation: seconds}, "given")


def ask(catalog: Catalog, run_id: str, requests: int = 3) -> None:
    """Requests of which one failed and one waited; the first was answered in 0.4 s, the others in 0.9."""
    traffic = Traffic()
    for number in range(requests):
        traffic.count_answer(0.9 if number else 0.4)
    asked = Asked(
        provider="given",
        feed="iex",
        requests=requests,
        errors={"Transient": 1},
        latency=traffic.histogram,
        latency_sum=traffic.latency_sum,
        waits={"retry_after": 1},
        waited=2.0,
        bytes=1000,
    )
    with catalog.begin() as connection:
        add_requests(connection, run_id, "shares", asked)
