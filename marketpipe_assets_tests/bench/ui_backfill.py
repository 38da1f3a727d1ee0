"""How long a backfill takes that is launched in the web UI: `python -m marketpipe_assets_tests.bench.ui_backfill`.

20 symbols × 61 sessions (three months) of invented bars into every table, as the dialog of the UI launches it, on
`dagster dev` with the
packaged instance; then by `marketpipe backfill`, process start included. With a partition per symbol-day, and with one
for all symbols in a month. Prints runs and seconds of wall time; every file is compared with the script's.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.defs.partitions import grid_of
from marketpipe_assets_tests.bench.case import MARKET, Case
from marketpipe_assets_tests.bench.measure import script_cost
from marketpipe_assets_tests.bench.million import taken
from marketpipe_assets_tests.bench.pipeline import refuse_different
from marketpipe_assets_tests.bench.startup import COMMAND
from marketpipe_assets_tests.test_ui import LAUNCH, ask, eventually, served

TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_15m", "bars_1h", "bars_1d", "coverage")
LOADED = f'query {{ assetNodeOrError(assetKey: {{path: ["{MARKET}", "raw_bars_1m"]}}) {{ __typename }} }}'
STATUS = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
RUNS = "query { runsOrError { ... on Runs { results { creationTime startTime endTime } } } }"
PATIENCE = 3600.0


class Ended(NamedTuple):
    """Runs of a backfill, its seconds from the click to its last run's end, and those of a run from its creation."""

    runs: int
    wall: float
    of_a_run: float


def launched(folder: Path, keys: Sequence[str]) -> Ended:
    """Raises `AssertionError` where the backfill fails."""
    variables = {"keys": list(keys), "assets": [{"path": [MARKET, table]} for table in TABLES]}
    with served(folder, LOADED) as url:
        began = time.time()
        backfill = {"id": ask(url, LAUNCH, variables)["launchPartitionBackfill"]["backfillId"]}

        def ended() -> str | None:
            said: str = ask(url, STATUS, backfill)["partitionBackfillOrError"]["status"]
            return said if said.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        if (said := eventually(ended, "the end of the backfill", PATIENCE)) != "COMPLETED_SUCCESS":
            raise AssertionError(f"expected a backfill that completes, was {said}")
        runs: Sequence[Mapping[str, Any]] = ask(url, RUNS)["runsOrError"]["results"]
    last = max(run["endTime"] for run in runs)
    return Ended(len(runs), last - began, median(run["endTime"] - run["startTime"] for run in runs))


def configured(case: Case, folder: Path) -> Sequence[str]:
    """Write the case's configuration into a new folder, and give the partitions that its symbol-days are."""
    folder.mkdir()
    written = folder / "marketpipe.yaml"
    written.write_text(yaml.safe_dump(case.configuration(str(folder / "lake"))), encoding="utf-8")
    config = load_config(written)
    grid = grid_of(config.markets[MARKET], Catalog(config.catalog_url))
    rows = [row for row, dates in grid.rows.items() if not set(dates).isdisjoint(case.dates)]
    return [f"{row}|{column}" for row, column in product(rows, grid.columns)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=61, help="whole months, as groups hold them")
    asked = parser.parse_args()
    case = Case(symbol_count=asked.symbols, session_count=asked.sessions)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        script_cost(case.model_dump_json(), folder / "script" / "lake")
        for partition in ({}, {"symbols": asked.symbols, "dates": "month"}):
            of_case = case.model_copy(update={"partition": partition})
            label = "groups × month" if partition else "symbol × day"
            keys = configured(of_case, folder / f"ui {len(partition)}")
            ended = launched(folder / f"ui {len(partition)}", keys)
            print(
                f"{label}, {len(keys):,} partitions, launched in the web UI: {ended.wall:.0f} s, {ended.runs} runs, "
                f"of which half take no more than {ended.of_a_run:.1f} s",
                flush=True,
            )
            refuse_different(folder / "script" / "lake", folder / f"ui {len(partition)}" / "lake")
            configured(of_case, folder / f"command {len(partition)}")
            environment = {
                **{name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "DAGSTER_HOME"}},
                "MARKETPIPE_CONFIG": str(folder / f"command {len(partition)}" / "marketpipe.yaml"),
            }
            days = ["--from", f"{case.dates[0]}", "--end", f"{next_day(case.dates[-1])}"]
            cost = taken([str(COMMAND), "backfill", *days], environment, folder / "said")
            print(f"{label}, marketpipe backfill: {cost.wall:.0f} s", flush=True)
            refuse_different(folder / "script" / "lake", folder / f"command {len(partition)}" / "lake")


if __name__ == "__main__":
    main()
