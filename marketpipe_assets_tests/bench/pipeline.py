"""What a symbol-day costs from vendor bars to every table: the product's functions and a Dagster run, and the script's.

CPU is user and system time of the process with its threads. Each way has a process of its own; the start of the
process, imports, the calendar and, but for Dagster, the generation of the bars are not counted. Script and functions
take turns, each time into an empty folder, and the least counts. Dagster runs are those of a warm process: after one
over as many symbol-days, each with symbols of its own, and the least counts. A run includes ledger, reports and all
checks; generating its bars is measured apart and taken off, since script and functions begin with bars in memory. It is
done with a partition per symbol-day, and with one for all symbols in a month. Every file of the last is compared with
the script's and holds the same rows. The system before this one was measured over days of 1,440 bars, and so are the
functions beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.compare import differences
from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.measure import (
    Cost,
    best,
    dagster_cost,
    functions_cost,
    own_process,
    script_cost,
)
from marketpipe_assets_tests.bench.options import Options

FAULTS = {"missing_minutes": 0.3, "ohlc_logic": 0.1, "conflicting_duplicate": 0.05, "negative_volume": 0.05}
"""As the packaged configuration has them."""

EARLIER_MILLISECONDS = 217 / 1440  # per bar of the system this one follows, measured in process: 217 ms for 1,440 bars
ALL_HOURS = "24/7"
BARS = 1440  # of its days
UNITS = {"": "ms CPU per symbol-day", "_wall": "ms wall per symbol-day"}


class Row(NamedTuple):
    """One way to do the work: the name of its entries, its cost and the script's."""

    name: str
    case: Case
    cost: Cost
    script: Cost

    def milliseconds(self) -> Cost:
        return Cost(*(seconds * 1000 / self.case.symbol_days for seconds in self.cost))

    def entries(self) -> Iterator[Entry]:
        ratios = (mine / scripts for mine, scripts in zip(self.cost, self.script, strict=True))
        for (suffix, unit), value, ratio in zip(UNITS.items(), self.milliseconds(), ratios, strict=True):
            yield Entry(f"{self.name}{suffix}", value, unit, ratio, "the script")


class DifferentWorkError(Exception):
    """Two ways did not store the same bars, so that their times cannot be compared."""


def measured(options: Options) -> Iterator[Entry]:
    """The script, the functions and a Dagster run on the same bars; bars with faults; the system before this one."""
    clean = Case(symbol_count=options.symbols, session_count=options.sessions)
    faulty = clean.model_copy(update={"faults": FAULTS})
    with TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        script, functions = without_dagster(clean, options.turns, Path(folder, "clean"))
        yield from Row("pipeline_script", clean, script, script).entries()
        yield from Row("pipeline_functions_vs_script", clean, functions, script).entries()
        whole_days = clean.model_copy(update={"calendar": ALL_HOURS})
        cost = functions_alone(whole_days, options.turns, Path(folder, "whole days"))
        per_bar = cost.cpu * 1000 / whole_days.symbol_days / BARS
        yield Entry(
            "bar_vs_earlier_system",
            per_bar * 1000,
            "µs CPU per bar",
            EARLIER_MILLISECONDS / per_bar,
            "times less than the system before",
        )
        if options.dagster_runs:
            grouped = {"symbols": options.symbols, "dates": "month"}
            for name, partition in (("symbol_day", {}), ("grouped", grouped)):
                runs = clean.model_copy(update={"partition": partition, "batches": 1 + options.dagster_runs})
                cost = in_dagster(runs, Path(folder, "clean"), name)
                yield from Row(f"pipeline_in_dagster_{name}_vs_script", clean, cost, script).entries()
        faulty_script, faulty_functions = without_dagster(faulty, options.turns, Path(folder, "faulty"))
        yield from Row("pipeline_script_with_faults", faulty, faulty_script, faulty_script).entries()
        yield from Row("pipeline_functions_vs_script_with_faults", faulty, faulty_functions, faulty_script).entries()


def without_dagster(case: Case, turns: int, folder: Path) -> tuple[Cost, Cost]:
    """The least cost of the script and of the functions, in turns. Leaves their lakes in the folder."""
    ways: Sequence[tuple[Callable[[str, Path], Cost], Path]] = (
        (script_cost, folder / "script" / "lake"),
        (functions_cost, folder / "functions" / "lake"),
    )
    text = case.model_dump_json()
    with own_process() as one, own_process() as other:
        rounds = [
            [process.submit(way, text, lake).result() for process, (way, lake) in zip((one, other), ways, strict=True)]
            for _ in range(turns)
        ]
    refuse_different(*(lake for _, lake in ways))
    script, functions = (best([costs[way] for costs in rounds]) for way in range(2))
    return script, functions


def functions_alone(case: Case, turns: int, folder: Path) -> Cost:
    text, lake = case.model_dump_json(), folder / "functions" / "lake"
    with own_process() as process:
        return best([process.submit(functions_cost, text, lake).result() for _ in range(turns)])


def in_dagster(case: Case, folder: Path, name: str) -> Cost:
    """Of a run without generating its bars. The lake must equal the script's, which is in the folder."""
    lake = folder / f"dagster-{name}" / "lake"
    with own_process() as process:
        cost, generation = process.submit(dagster_cost, case.model_dump_json(), lake).result()
    refuse_different(folder / "script" / "lake", lake)
    return Cost(*(whole - apart for whole, apart in zip(cost, generation, strict=True)))


def refuse_different(expected: Path, found: Path) -> None:
    if lines := differences(expected, found):
        raise DifferentWorkError(f"{len(lines)} files differ, the first: {lines[0]}")
