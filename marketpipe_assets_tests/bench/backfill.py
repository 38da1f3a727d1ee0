"""A whole backfill: 100 symbols × 252 sessions of invented bars, from the provider to every table.

`marketpipe backfill` does it in as many runs as its limit of symbol-days asks for, with a partition per symbol-day and
with groups of 20 symbols × month; the script does it in batches of 20 symbols. All invent their bars as they go, and
are fresh processes, whose start counts. Every file is compared with the script's.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets_tests.bench import script
from marketpipe_assets_tests.bench.case import MARKET, Case
from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.million import Taken, taken
from marketpipe_assets_tests.bench.options import Options
from marketpipe_assets_tests.bench.pipeline import refuse_different
from marketpipe_assets_tests.bench.startup import COMMAND

SYMBOLS, SESSIONS, BATCH = 100, 252, 20
PARTITIONS: Mapping[str, Mapping[str, int | str]] = {"grouped": {"symbols": BATCH, "dates": "month"}, "symbol_day": {}}


def measured(options: Options) -> Iterator[Entry]:
    case = Case(symbol_count=SYMBOLS, session_count=SESSIONS)
    bars = SYMBOLS * int(case.sessions.expected_minutes(case.dates)["expected_minutes"].sum())
    with TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        folder = Path(name)
        expected = folder / "script" / "lake"
        itself = [sys.executable, "-m", __name__, str(expected)]
        scripts = taken(itself, dict(os.environ), folder / "said")
        yield from _entries("backfill_script", bars, scripts, scripts)
        for partition, settings in PARTITIONS.items():
            lake = folder / partition / "lake"
            environment = configured(case.model_copy(update={"partition": settings}), lake)
            asked = ["backfill", "--from", f"{case.dates[0]}", "--end", f"{next_day(case.dates[-1])}"]
            cost = taken([str(COMMAND), *asked], environment, folder / "said")
            refuse_different(expected, lake)
            yield from _entries(f"backfill_{partition}", bars, cost, scripts)


def by_script(lake: Path) -> None:
    for first in range(0, SYMBOLS, BATCH):
        case = Case(symbol_count=BATCH, session_count=SESSIONS, first_symbol=first)
        script.pipeline(case.generated(), script.hours_of(case.sessions.table, case.sessions.timezone), lake / MARKET)


def configured(case: Case, lake: Path) -> dict[str, str]:
    """An environment with the case's configuration, and with no other's instance or database."""
    lake.parent.mkdir()
    written = lake.with_name("marketpipe.yaml")
    written.write_text(yaml.safe_dump(case.configuration(str(lake))), encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "DAGSTER_HOME"}}
    return {**inherited, "MARKETPIPE_CONFIG": str(written)}


def _entries(name: str, bars: int, cost: Taken, scripts: Taken) -> Iterator[Entry]:
    yield Entry(name, cost.cpu, "s CPU", cost.cpu / scripts.cpu, "the script")
    yield Entry(f"{name}_rate", bars / cost.wall, "bars per second", scripts.wall / cost.wall, "the script")
    yield Entry(f"{name}_memory", cost.memory, "MB at most", cost.memory / scripts.memory, "the script")


if __name__ == "__main__":
    by_script(Path(sys.argv[1]))
