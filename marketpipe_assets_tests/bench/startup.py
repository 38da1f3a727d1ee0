"""How long the parts take until they can be used: CPU and wall time of fresh processes, the least of several.

The reference is the import that none of them can do without.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.measure import Cost, best
from marketpipe_assets_tests.bench.options import Options

TURNS = 5
COMMAND = Path(sys.executable).with_name("marketpipe")
DAGSTER = Path(sys.executable).with_name("dagster")
FIRST = "2026-01-05|ACME"

CONFIGURATION = """
config_version: 1
lake: ./lake
providers: {synthetic: {}}
markets:
  us_equities: {calendar: XNYS, asset_class: equity, provider: synthetic, start: 2026-01-02, symbols: [ACME]}
"""

STARTED: Mapping[str, tuple[Sequence[str], str]] = {
    "startup_help": ([str(COMMAND), "--help"], "python"),
    "startup_load_bars": ([sys.executable, "-c", "from marketpipe_assets.query import load_bars"], "polars"),
    "startup_code_location": (
        [sys.executable, "-c", "from marketpipe_assets.definitions import defs; defs().get_repository_def()"],
        "dagster",
    ),
    "startup_materialize_one_partition": (
        [
            *(str(DAGSTER), "asset", "materialize", "-m", "marketpipe_assets.definitions"),
            *("--select", "key:us_equities/*", "--partition", FIRST),
        ],
        "dagster",
    ),
}
"""Name → the process, and the module whose import it is compared with."""


def measured(options: Options) -> Iterator[Entry]:
    with TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        environment = prepared(Path(folder))
        references = {
            name: started([sys.executable, "-c", f"import {name}" if name != "python" else ""], environment)
            for name in ("python", "polars", "dagster")
        }
        for name, (command, reference) in STARTED.items():
            mine, beside = started(command, environment), references[reference]
            said = "an empty Python" if reference == "python" else f"import {reference}"
            yield Entry(name, mine.cpu, "s CPU", mine.cpu / beside.cpu, said)
            yield Entry(f"{name}_wall", mine.wall, "s wall", mine.wall / beside.wall, said)


def prepared(folder: Path) -> Mapping[str, str]:
    """An environment with a configuration of its own."""
    written = folder / "marketpipe.yaml"
    written.write_text(CONFIGURATION, encoding="utf-8")
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return {**inherited, "MARKETPIPE_CONFIG": str(written), "DAGSTER_HOME": str(home)}


def started(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """The least of several turns of a process. Raises `CalledProcessError` where it fails."""
    return best([_once(command, environment) for _ in range(TURNS)])


def _once(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(usage.ru_utime + usage.ru_stime, wall)
