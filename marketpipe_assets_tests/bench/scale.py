"""What a symbol-day costs as a lake grows: `python -m marketpipe_assets_tests.bench.scale 1000 10000 100000`.

Every size is built from nothing by the product's functions, in batches of 10,000 symbol-days and in a process of its
own; bars are invented between them, which is not counted. Draws docs/scale.png. A million symbol-days take 20 GB.
"""

import argparse
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from marketpipe_assets_tests.bench import functions
from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.measure import own_process, timed

SESSIONS = 250
BATCH = 40  # symbols
PICTURE = Path(__file__).parents[2] / "docs" / "scale.png"


class Point(NamedTuple):
    """Of one size: milliseconds and bytes on disk per symbol-day, and the process's largest memory in MB."""

    symbol_days: int
    cpu: float
    wall: float
    bytes: float
    memory: float


def measured(symbol_days: int, folder: Path) -> Point:
    """Build a lake of so many symbol-days. Fewer than a batch's are fewer sessions."""
    symbols = max(symbol_days // SESSIONS, 4)
    sessions = symbol_days // symbols
    lake = folder / "lake"
    cpu = wall = 0.0
    for first in range(0, symbols, BATCH):
        case = Case(symbol_count=min(BATCH, symbols - first), session_count=sessions, first_symbol=first)
        _ = case.vendor_bars
        cost = timed(partial(functions.pipeline, case, lake))
        cpu, wall = cpu + cost.cpu, wall + cost.wall
    done = symbols * sessions
    size = sum(path.stat().st_size for path in lake.rglob("*.parquet"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Point(done, cpu * 1000 / done, wall * 1000 / done, size / done, memory)


def draw(points: Sequence[Point], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    costs, memory = figure.subplots(1, 2)
    sizes = [point.symbol_days for point in points]
    for label in ("cpu", "wall"):
        costs.plot(sizes, [getattr(point, label) for point in points], marker="o", label=label)
    costs.set(xscale="log", ylim=(0, None), xlabel="symbol-days", ylabel="ms per symbol-day")
    costs.legend(frameon=False)
    memory.plot(sizes, [point.memory for point in points], marker="o", color="tab:gray")
    memory.set(xscale="log", ylim=(0, None), xlabel="symbol-days", ylabel="largest memory, MB")
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder where not given")
    options = parser.parse_args()
    points = []
    for size in options.sizes:
        with TemporaryDirectory(prefix="bench-", dir=options.folder) as folder, own_process() as process:
            points.append(process.submit(measured, size, Path(folder)).result())
        print(
            f"{points[-1].symbol_days:,} symbol-days: {points[-1].cpu:.3f} ms CPU and {points[-1].wall:.3f} ms wall "
            f"each, {points[-1].bytes / 1000:.1f} kB each, largest memory {points[-1].memory:,.0f} MB",
            flush=True,
        )
    draw(points, PICTURE)


if __name__ == "__main__":
    main()
