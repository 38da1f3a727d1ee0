"""`make bench`: measure each claim beside its reference, print them, and write bench.json.

`make bench ARGS="reads startup"` measures these topics only, and leaves the other figures of bench.json as they are.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.options import Options

RESULTS = Path("bench.json")

TOPICS = {
    "pipeline": "from vendor bars to every table: functions and a Dagster run, against the leanest script",
    "backfill": "100 symbols × 252 sessions, from the provider to every table: marketpipe backfill, against the script",
    "validation": "every rule over all bars in one call, against the rules as plain polars expressions",
    "reads": "load_bars, against polars that knows the paths and against ArcticDB",
    "startup": "the command, load_bars and the code location, until they can be used",
    "events": "a materialization, stored by Dagster and in batches",
    "decode": "a vendor's page of bars, against alpaca-py",
}
"""Topic → what it measures. Each is a module here whose `measured` gives entries."""


def main(arguments: Sequence[str]) -> int:
    options, topics = asked(arguments)
    console = Console(width=max(Console().width, 130))  # units and references in one line
    entries: list[Entry] = []
    for topic in topics:
        began = time.perf_counter()
        with console.status(f"{topic}: {TOPICS[topic]}"):
            found = list(import_module(f"marketpipe_assets_tests.bench.{topic}").measured(options))
        entries += found
        console.print(table(f"{topic} ({time.perf_counter() - began:.0f} s): {TOPICS[topic]}", found))
    write(entries, RESULTS)
    return 0


def asked(arguments: Sequence[str]) -> tuple[Options, Sequence[str]]:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("topics", nargs="*", help=", ".join(TOPICS))
    parser.add_argument("--symbols", type=int, default=Options().symbols)
    parser.add_argument("--sessions", type=int, default=Options().sessions)
    parser.add_argument("--turns", type=int, default=Options().turns, help="the least of them counts")
    parser.add_argument(
        "--dagster-runs",
        type=int,
        default=Options().dagster_runs,
        help="the least of them counts; 0 leaves Dagster out",
    )
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder where not given")
    parser.add_argument("--arctic", type=Path, help="a Python that has arcticdb; without it ArcticDB is left out")
    chosen = vars(parser.parse_args(arguments))
    topics = chosen.pop("topics") or list(TOPICS)
    if unknown := sorted(set(topics) - TOPICS.keys()):
        parser.error(f"expected topics of {', '.join(TOPICS)}, was {', '.join(unknown)}")
    return Options(**chosen), topics


def table(title: str, entries: Sequence[Entry]) -> Table:
    shown = Table(title=title, title_justify="left")
    for heading in ("", "value", "unit", "ratio", "to"):
        shown.add_column(heading, justify="right" if heading in {"value", "ratio"} else "left", no_wrap=not heading)
    for entry in entries:
        shown.add_row(entry.name, f"{entry.value:,.3f}", entry.unit, f"{entry.ratio:.2f}", entry.reference)
    return shown


def write(entries: Sequence[Entry], results: Path) -> None:
    """Put the figures into bench.json in place of those of the same names."""
    before = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    by_name = {each["name"]: each for each in [*before, *(entry.written() for entry in entries)]}
    results.write_text(json.dumps(list(by_name.values()), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
