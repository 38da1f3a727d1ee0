"""What one tick of the gap healing sensor costs on a large ledger.

By hand: `python -m marketpipe_assets_tests.gap_tick --symbols 500 --years 10 --holes 0.01`. A process of its own makes
the ledger, another one ticks, so that its peak memory is the tick's. Exits 1 above 2 seconds of CPU, which other
processes of the machine do not change, or 500 MB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market, Partition
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.wanted import Budget, due, planned, wanted
from marketpipe_assets.providers.base import Capabilities

MOST_SECONDS, MOST_MEGABYTES = 2.0, 500
COLUMNS = (
    "market, session_date, symbol, provider, feed, expected, received, valid, quarantined, missing, no_trade, halt, "
    "vendor_gap, not_yet_published, not_listed, raw_bars, valid_bars, quarantined_bars, holes, content_hash, run_id, "
    "fetched_at"
)
FACTS = ("given", "sip", 390, 390, 390, 0)
ORIGIN = ("[]", "0123456789abcdef", "7a0e6c1c-0000-0000-0000-000000000000", "2020-01-01 00:00:00.000000")


def market_of(symbols: int, years: int) -> Market:
    return Market(
        name="shares",
        calendar="XNYS",
        asset_class="equity",
        provider="given",
        symbols=tuple(f"S{number:04}" for number in range(symbols)),
        start=date(datetime.now(UTC).year - years, 1, 2),
        partition=Partition(symbols=50, dates="month"),  # Dagster takes no more than 100,000 keys
    )


def fill(catalog: Catalog, market: Market, holes: float, seed: int = 1) -> tuple[int, int]:
    """A row for each symbol-day but a share `holes`; as many of the rows have a vendor gap. Gives both counts."""
    generator = np.random.default_rng(seed)
    dates = [day for day in market.sessions.dates if day < datetime.now(UTC).date()]
    never = generator.random((len(dates), len(market.symbols))) < holes / 2
    gaps = generator.random(never.shape) < holes / 2
    catalog.migrate()
    places = ", ".join("?" * len(COLUMNS.split(",")))
    with catalog.begin() as connection:
        cursor = connection.connection.cursor()
        for row, day in enumerate(dates):
            rows = [
                ("shares", f"{day}", symbol, *FACTS, gap, 0, 0, gap, 0, 0, 390, 390, 0, *ORIGIN)
                for column, symbol in enumerate(market.symbols)
                if not never[row, column]
                for gap in [7 * int(gaps[row, column])]
            ]
            cursor.executemany(f"INSERT INTO symbol_days ({COLUMNS}) VALUES ({places})", rows)
    return int(never.size), int((never | gaps).sum())


def tick(url: str, symbols: int, years: int) -> None:
    """One tick, without starting anything; prints what it found, its seconds and its process's peak memory."""
    market = market_of(symbols, years)
    grid = Grid(market)  # built when the code location loads
    began, worked = time.perf_counter(), time.process_time()
    now = datetime.now(UTC)
    days = due(wanted(Catalog(url), market, now), now)
    plan = planned(grid, days, Capabilities(), Budget(25, None))
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{days.height:,} symbol-days are worth asking for; {len(plan.runs)} runs fit, "
        f"{plan.left_over:,} symbol-days are left for later: {seconds:.2f} s ({cpu:.2f} s of CPU), {megabytes:.0f} MB"
    )
    sys.exit(int(cpu > MOST_SECONDS or megabytes > MOST_MEGABYTES))


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--symbols", type=int, default=500)
    arguments.add_argument("--years", type=int, default=10)
    arguments.add_argument("--holes", type=float, default=0.01)
    arguments.add_argument("--ticks", type=int, default=3)
    arguments.add_argument("--tick", metavar="URL", help="tick on this catalogue and end")
    asked = arguments.parse_args()
    if asked.tick:
        tick(asked.tick, asked.symbols, asked.years)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'catalog.sqlite'}"
        total, holes = fill(Catalog(url), market_of(asked.symbols, asked.years), asked.holes)
        print(f"{total:,} symbol-days, {holes:,} of them never fetched or with a vendor gap", flush=True)
        command = [sys.executable, "-m", __spec__.name, "--tick", url, "--symbols", str(asked.symbols)]
        return max(
            subprocess.run([*command, "--years", str(asked.years)], check=False).returncode for _ in range(asked.ticks)
        )


if __name__ == "__main__":
    sys.exit(main())
