"""What the ledger costs: writing a run's rows, and finding gaps among 1.26 million symbol-days on either database.

Run it by hand: `python -m marketpipe_assets_tests.bench.ledger`. The rows are invented: of 500 symbols × 10 years one
symbol-day in a hundred has a hole that asking again may fill.
"""

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from marketpipe_assets.bars.coverage import Coverage, coverage
from marketpipe_assets.bars.reasons import Evidence
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.catalog.ledger import FACTS, gaps, record, totals
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import symbol_days
from marketpipe_assets_tests.postgres import HAS_POSTGRES, postgres_server

MARKET = "us_equities"
FETCHED_AT = datetime(2026, 1, 2, tzinfo=UTC)
SYMBOLS = [f"S{number:03}" for number in range(500)]
YEARS = (date(2016, 1, 1), date(2026, 1, 1))
WITH_HOLES = 0.01
BLOCK = 100_000


def write_cost(catalog: Catalog, symbols: int = 20, days: int = 60, turns: int = 5) -> float:
    """Milliseconds CPU per symbol-day to write the rows of one run into a ledger that has none; the least of turns."""
    calendar = sessions("XNYS", date(2023, 1, 1), date(2024, 1, 1))
    names, dates = SYMBOLS[:symbols], calendar.dates[40 : 40 + days]
    found = _invented(calendar, names, dates)
    facts = _facts(found.days)
    costs = []
    for turn in range(turns):
        with catalog.begin() as connection:
            began = time.process_time()
            record(connection, f"market_{turn}", calendar, facts, found.holes, Evidence())
            costs.append(time.process_time() - began)
    return min(costs) * 1000 / facts.height


def fill(catalog: Catalog, symbols: Sequence[str] = SYMBOLS, years: tuple[date, date] = YEARS) -> int:
    """Fill a ledger with invented rows, as fast as its database takes them, and give how many."""
    dates = sessions("XNYS", *years).dates
    catalog.migrate()
    rng = np.random.default_rng(7)
    names = [column.name for column in symbol_days.columns]
    rows = 0
    block: list[tuple[object, ...]] = []
    for day in dates:
        missing = np.where(rng.random(len(symbols)) < WITH_HOLES, 10, 0)
        block += [_row(day, symbol, int(minutes)) for symbol, minutes in zip(symbols, missing, strict=True)]
        if len(block) >= BLOCK or day == dates[-1]:
            _load(catalog, names, block)
            rows += len(block)
            block = []
    return rows


def _row(day: date, symbol: str, minutes: int) -> tuple[object, ...]:
    holes = json.dumps([[f"{day}T16:00Z", minutes, "vendor_gap"]]) if minutes else None
    by_reason = (0, 0, minutes, 0, 0)
    held = 390 - minutes
    fetched_at = FETCHED_AT.replace(tzinfo=None).isoformat(" ", "microseconds")
    counts = (390, held, held, 0, minutes, *by_reason, held, held, 0)
    return (MARKET, f"{day}", symbol, "vendor", "sip", *counts, holes, "00ff00ff00ff00ff", "run", fetched_at, None)


def _load(catalog: Catalog, names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    raw = catalog.engine.raw_connection()
    if catalog.is_sqlite:
        marks = ", ".join("?" * len(names))
        raw.cursor().execute("BEGIN")
        raw.cursor().executemany(f"INSERT INTO symbol_days ({', '.join(names)}) VALUES ({marks})", rows)
    else:
        text = StringIO()
        csv.writer(text).writerows(rows)
        text.seek(0)
        raw.cursor().copy_expert(f"COPY symbol_days ({', '.join(names)}) FROM STDIN WITH (FORMAT csv)", text)
    raw.cursor().execute("COMMIT")
    raw.close()


def _invented(calendar: Sessions, symbols: Sequence[str], dates: Sequence[date]) -> Coverage:
    """A bar in 98 of 100 minutes."""
    rng = np.random.default_rng(3)
    frames = []
    for day, opened, expected in calendar.rows(dates).select("session_date", "open", "expected_minutes").iter_rows():
        minutes = pl.DataFrame({"minute": np.tile(np.arange(expected), len(symbols))}).with_columns(
            pl.Series("symbol", np.repeat(symbols, expected))
        )
        kept = minutes.filter(pl.Series(rng.random(minutes.height) < 0.98))
        ts = pl.lit(opened) + pl.duration(minutes="minute")
        frames.append(kept.select("symbol", ts.alias("ts"), pl.lit(day).alias("session_date")))
    bars = pl.concat(frames)
    return coverage(bars, bars, calendar, symbols, dates)


def _facts(days: pl.DataFrame) -> pl.DataFrame:
    return days.with_columns(
        pl.lit("vendor").alias("provider"),
        pl.lit("sip").alias("feed"),
        pl.col("received").alias("raw_bars"),
        pl.col("valid").alias("valid_bars"),
        pl.lit(0).alias("quarantined_bars"),
        pl.lit("00ff00ff00ff00ff").alias("content_hash"),
        pl.lit("run").alias("run_id"),
        pl.lit(FETCHED_AT, pl.Datetime("us", "UTC")).alias("fetched_at"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("settled_at"),
    ).select(FACTS)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _show(name: str, catalog: Catalog) -> None:
    print(f"{name}: {write_cost(catalog):.3f} ms CPU per symbol-day to write 20 × 60 with holes in most")
    rows = fill(catalog)
    print(f"{name}: {rows:,} symbol-days; gaps {_seconds(lambda: gaps(catalog, MARKET)):.3f} s, ", end="")
    print(f"totals {_seconds(lambda: totals(catalog, MARKET)):.3f} s")


def main() -> int:
    """Exit code 0; prints the figures."""
    with TemporaryDirectory() as folder:
        _show("SQLite", Catalog(f"sqlite:///{Path(folder, 'catalog.sqlite')}"))
    if HAS_POSTGRES:
        with postgres_server() as url:
            catalog = Catalog(url.replace("postgresql:", "postgresql+psycopg2:"))
            _show("Postgres", catalog)
            catalog.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
