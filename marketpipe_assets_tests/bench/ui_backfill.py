"""How long a backfill takes that is launched in the web UI: `python -m marketpipe_assets_tests.bench.ui_backfill`.

20 symbols × 61 sessions (three months) of invented bars into every table, as the dialog of the UI launches it, on
`dagster dev` with the packaged instance; then by `marketpipe backfill`, process start included. With a partition per
symbol-day, and with one for all symbols in a month. Prints runs and seconds of wall time; every file is compared with
the script's.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.defs.partitions import grid_of
from marketpipe_assets_tests.bench.backfill import configured
from marketpipe_assets_tests.bench.case import MARKET, Case
from marketpipe_assets_tests.bench.measure import script_cost
from marketpipe_assets_tests.bench.million import TABLES, taken
from marketpipe_assets_tests.bench.pipeline import refuse_different
from marketpipe_assets_tests.bench.startup import COMMAND
from marketpipe_assets_tests.test_ui import LAUNCH, ask, end_of, served

LOADED = f'query {{ assetNodeOrError(assetKey: {{path: ["{MARKET}", "raw_bars_1m"]}}) {{ __typename }} }}'
RUNS = "query { runsOrError { ... on Runs { results { startTime endTime } } } }"
PATIENCE = 3600.0


class Ended(NamedTuple):
    """Runs of a backfill, its seconds from the click to its last run's end, and the median of those of a run."""

    runs: int
    wall: float
    of_a_run: float


def launched(folder: Path, keys: Sequence[str]) -> Ended:
    """Raises `AssertionError` where the backfill fails."""
    variables = {"keys": list(keys), "assets": [{"path": [MARKET, table]} for table in TABLES]}
    with served(folder, LOADED) as url:
        began = time.time()
        backfill = ask(url, LAUNCH, variables)["launchPartitionBackfill"]["backfillId"]
        if (said := end_of(url, backfill, PATIENCE)) != "COMPLETED_SUCCESS":
            raise AssertionError(f"expected a backfill that completes, was {said}")
        runs: Sequence[Mapping[str, Any]] = ask(url, RUNS)["runsOrError"]["results"]
    last = max(run["endTime"] for run in runs)
    return Ended(len(runs), last - began, median(run["endTime"] - run["startTime"] for run in runs))


def partitions_of(case: Case, configuration: Path) -> Sequence[str]:
    """The keys that hold the case's symbol-days."""
    config = load_config(configuration)
    grid = grid_of(config.markets[MARKET], Catalog(config.catalog_url))
    rows = [row for row, dates in grid.rows.items() if not set(dates).isdisjoint(case.dates)]
    return [f"{row}|{column}" for row, column in product(rows, grid.columns)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=61, help="whole months, as groups hold them")
    asked = parser.parse_args()
    clean = Case(symbol_count=asked.symbols, session_count=asked.sessions)
    days = ["--from", f"{clean.dates[0]}", "--end", f"{next_day(clean.dates[-1])}"]
    partitions: Mapping[str, Mapping[str, int | str]] = {
        "symbol × day": {},
        "groups × month": {"symbols": asked.symbols, "dates": "month"},
    }
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        expected = folder / "script" / "lake"
        script_cost(clean.model_dump_json(), expected)
        for label, partition in partitions.items():
            case = clean.model_copy(update={"partition": partition})
            in_ui, by_command = (folder / f"{label} {way}" / "lake" for way in ("ui", "command"))
            keys = partitions_of(case, Path(configured(case, in_ui)["MARKETPIPE_CONFIG"]))
            ended = launched(in_ui.parent, keys)
            refuse_different(expected, in_ui)
            print(
                f"{label}, {len(keys):,} partitions, launched in the web UI: {ended.wall:.0f} s, {ended.runs} runs, "
                f"of which half take no more than {ended.of_a_run:.1f} s",
                flush=True,
            )
            cost = taken([str(COMMAND), "backfill", *days], configured(case, by_command), folder / "said")
            refuse_different(expected, by_command)
            print(f"{label}, marketpipe backfill: {cost.wall:.0f} s", flush=True)


if __name__ == "__main__":
    main()
