"""`make bench`: print what a symbol-day costs, and write bench.json."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.compare import differences
from marketpipe_assets_tests.bench.decode import decode_speedup
from marketpipe_assets_tests.bench.measure import (
    Cost,
    best,
    dagster_cost,
    functions_cost,
    own_process,
    script_cost,
)

RESULTS = Path("bench.json")
FAULTS = {"missing_minutes": 0.3, "ohlc_logic": 0.1, "conflicting_duplicate": 0.05, "negative_volume": 0.05}
"""As the packaged configuration has them."""

UNITS = {"": "ms CPU per symbol-day", "_wall": "ms wall per symbol-day"}
NOTES = (
    "CPU: user and system time of the process with its threads. Each way has a process of its own; the start of the "
    "process, imports, the calendar and, but for Dagster, the generation of the bars are not counted. Script and "
    "functions take turns, each time into an empty folder, and the least of {repetitions} turns counts. The Dagster "
    "run is the first of its instance, done {dagster_runs} time(s), and includes the generation of its bars and all "
    "checks. Every file was compared with the script's and holds the same rows."
)


class Row(NamedTuple):
    """One way to do the work: the name of its entries in bench.json, what it is, its cost and the script's."""

    name: str
    title: str
    case: Case
    cost: Cost
    script: Cost

    def milliseconds(self) -> Cost:
        return Cost(*(seconds * 1000 / self.case.symbol_days for seconds in self.cost))

    def ratios(self) -> Cost:
        return Cost(self.cost.cpu / self.script.cpu, self.cost.wall / self.script.wall)


class DifferentWorkError(Exception):
    """Two ways did not store the same bars, so that their times cannot be compared."""


def without_dagster(case: Case, repetitions: int, folder: Path) -> tuple[Cost, Cost]:
    """The least cost of the script and of the functions, in turns. Leaves their lakes in the folder."""
    ways: Sequence[tuple[Callable[[str, Path], Cost], Path]] = (
        (script_cost, folder / "script" / "lake"),
        (functions_cost, folder / "functions" / "lake"),
    )
    text = case.model_dump_json()
    with own_process() as one, own_process() as other:
        rounds = [
            [process.submit(way, text, lake).result() for process, (way, lake) in zip((one, other), ways, strict=True)]
            for _ in range(repetitions)
        ]
    refuse_different(*(lake for _, lake in ways))
    script, functions = (best([costs[way] for costs in rounds]) for way in range(2))
    return script, functions


def in_dagster(case: Case, runs: int, folder: Path) -> tuple[Cost, Cost]:
    """The least cost of a run and of generating its bars. The lake must equal the script's, which is in the folder."""
    costs = []
    for run in range(runs):
        lake = folder / f"dagster-{run}" / "lake"
        with own_process() as process:
            costs.append(process.submit(dagster_cost, case.model_dump_json(), lake).result())
        refuse_different(folder / "script" / "lake", lake)
    return best([run for run, _ in costs]), best([generation for _, generation in costs])


def refuse_different(expected: Path, found: Path) -> None:
    if lines := differences(expected, found):
        raise DifferentWorkError(f"{len(lines)} files differ, the first: {lines[0]}")


def measured(options: argparse.Namespace, folder: Path) -> list[Row]:
    clean = Case(symbol_count=options.symbols, session_count=options.sessions)
    faulty = clean.model_copy(update={"faults": FAULTS})
    script, functions = without_dagster(clean, options.repetitions, folder / "clean")
    faulty_script, faulty_functions = without_dagster(faulty, options.repetitions, folder / "faulty")
    rows = [
        Row("pipeline_script", "(a) script", clean, script, script),
        Row("pipeline_functions_vs_script", "(b) functions", clean, functions, script),
        Row("pipeline_script_with_faults", "(a) script, bars with faults", faulty, faulty_script, faulty_script),
        Row(
            "pipeline_functions_vs_script_with_faults",
            "(b) functions, bars with faults",
            faulty,
            faulty_functions,
            faulty_script,
        ),
    ]
    if options.dagster_runs:
        run, generation = in_dagster(clean, options.dagster_runs, folder / "clean")
        rows.insert(2, Row("pipeline_in_dagster_symbol_day_vs_script", "(c) one Dagster run", clean, run, script))
        rows.insert(3, Row("pipeline_generation_in_dagster", "    of it generating bars", clean, generation, script))
    return rows


def table(rows: Sequence[Row]) -> Table:
    case = rows[0].case
    bars = case.vendor_bars.height
    shown = Table(
        title=f"{case.symbol_count} symbols × {case.session_count} sessions, {bars:,} bars: ms per symbol-day"
    )
    for heading in ("", "CPU", "wall", "CPU / script", "wall / script"):
        shown.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        cost, ratio = row.milliseconds(), row.ratios()
        shown.add_row(row.title, f"{cost.cpu:.3f}", f"{cost.wall:.3f}", f"{ratio.cpu:.2f}", f"{ratio.wall:.2f}")
    return shown


def entries(rows: Sequence[Row]) -> list[dict[str, str | float]]:
    """What bench.json holds."""
    return [
        {"name": f"{row.name}{suffix}", "value": round(value, 4), "unit": unit, "ratio": round(ratio, 4)}
        for row in rows
        for (suffix, unit), value, ratio in zip(UNITS.items(), row.milliseconds(), row.ratios(), strict=True)
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=20, help="turns of script and functions")
    parser.add_argument("--dagster-runs", type=int, default=1, help="0 leaves Dagster out")
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder where not given")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        with (
            TemporaryDirectory(prefix="bench-", dir=options.folder) as folder,
            console.status("measuring; Dagster takes minutes"),
        ):
            rows = measured(options, Path(folder))
            decoded = decode_speedup()
    except DifferentWorkError as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        return 1
    RESULTS.write_text(json.dumps([*entries(rows), decoded], indent=2) + "\n", encoding="utf-8")
    console.print(table(rows))
    speed, times = decoded["value"], decoded["ratio"]
    console.print(f"Alpaca's page of bars: {speed:,} {decoded['unit']}, {times} × alpaca-py's .df")
    console.print(NOTES.format(repetitions=options.repetitions, dagster_runs=options.dagster_runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
