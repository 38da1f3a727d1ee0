"""How quick the entry points are at 1.26 million symbol-days: `python -m marketpipe_assets_tests.bench.million`.

Makes a ledger of 500 symbols × 10 years, and a lake of as many files as those would have, of which each holds one day
of bars: what is measured is what grows with their number. Prints seconds and memory of fresh processes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.lake.layout import BarFile
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.ledger import MARKET, SYMBOLS, fill
from marketpipe_assets_tests.bench.startup import COMMAND, prepared

YEARS = range(2016, 2026)
DAY = date(2024, 1, 2)
CONFIGURATION = """
config_version: 1
lake: ./lake
providers: {{synthetic: {{}}}}
markets:
  {market}:
    calendar: XNYS
    asset_class: equity
    provider: synthetic
    start: 2016-01-04
    partition: {{symbols: 100, dates: month}}
    symbols: [{symbols}]
"""


class Taken(NamedTuple):
    """Seconds of wall time, of CPU, and the largest memory in MB of one process."""

    wall: float
    cpu: float
    memory: float


def lake_of(folder: Path) -> int:
    """Files of every symbol: a year of daily bars, a month of minutes. Those of one symbol and table are one file."""
    lake = folder / "lake"
    case = Case(symbol_count=1, session_count=1)
    bars = case.sessions.assign(case.vendor_bars)
    for table in ("raw_bars_1m", "bars_1d"):
        write_bars(lake, MARKET, table, bars, case.symbols, case.dates)
    months = [f"{year}-{month:02}" for year in YEARS for month in range(1, 13)]
    years = [f"{year}" for year in YEARS]
    made = 0
    kinds = (("raw_bars_1m", "raw_bars_1m", months), ("bars_1m", "raw_bars_1m", months), ("bars_1d", "bars_1d", years))
    for table, like, periods in kinds:
        stored = next((lake / MARKET / like / "symbol=S00").iterdir())
        for symbol in SYMBOLS:
            folder_of = BarFile(MARKET, table, symbol, periods[0]).below(lake).parent
            folder_of.mkdir(parents=True, exist_ok=True)
            first = folder_of / f"{periods[0]}.parquet"
            first.write_bytes(stored.read_bytes())
            for period in periods[1:]:
                (folder_of / f"{period}.parquet").hardlink_to(first)
            made += len(periods)
    return made


def commands() -> Iterator[tuple[str, Sequence[str]]]:
    read = f"from marketpipe_assets.query import load_bars; load_bars({SYMBOLS!r}, '1d', '{DAY}', '2024-01-03')"
    yield "marketpipe status", [str(COMMAND), "status"]
    yield "load_bars, 500 symbols × one day of 1d", [sys.executable, "-c", read]
    loaded = "from marketpipe_assets.definitions import defs; defs().get_repository_def()"
    yield "code location, groups of 100 symbols × month", [sys.executable, "-c", loaded]


def taken(command: Sequence[str], environment: dict[str, str], said: Path) -> Taken:
    """Of a process. Raises `RuntimeError` where it fails."""
    began = time.perf_counter()
    with said.open("w") as told:
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said.read_text())
    return Taken(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    with TemporaryDirectory(prefix="bench-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        environment = dict(prepared(folder))
        written = folder / "marketpipe.yaml"
        written.write_text(CONFIGURATION.format(market=MARKET, symbols=", ".join(SYMBOLS)), encoding="utf-8")
        rows = fill(Catalog(load_config(written).catalog_url))
        files = lake_of(folder)
        print(f"{rows:,} symbol-days in the ledger, {files:,} files in the lake")
        for label, command in commands():
            cost = taken(command, environment, folder / "said")
            print(f"{label}: {cost.wall:.2f} s wall, {cost.cpu:.2f} s CPU, {cost.memory:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
