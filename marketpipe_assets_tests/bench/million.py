"""How quick the entry points are at 1.26 million symbol-days: `python -m marketpipe_assets_tests.bench.million`.

Makes a ledger of 500 symbols × 10 years, Dagster's state of every partition, and a lake of as many files as those would
have, of which each holds one day of bars: what is measured is what grows with their number. Prints seconds and memory
of fresh processes, of ticks and pages without the load of the code location that goes before.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import dagster as dg

from marketpipe_assets import definitions
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.defs.partitions import grid_of
from marketpipe_assets.defs.rebuild import Change, rebuild
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
    partition: {{symbols: {symbols_of_a_group}, dates: month}}
    symbols: [{symbols}]
"""
TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_15m", "bars_1h", "bars_1d", "coverage")
LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(done.returncode)
"""
"""A small Python that starts a command: to the memory of a process counts that of the one which starts it."""
TICK = 1 / os.sysconf("SC_CLK_TCK")
MEGABYTE = 1024
PATIENCE = 120

ASSET_PAGE = """
query Asset($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) { ... on Asset {
    key { path } hasDefinitionOrRecord
    assetMaterializations(limit: 1) { timestamp runId partition metadataEntries { label } }
    definition {
      groupName isExecutable description partitionDefinition { description dimensionTypes { type } }
      partitionKeysByDimension { name } owners { __typename } backfillPolicy { description }
      partitionStats { numMaterialized numPartitions numFailed numMaterializing }
      assetChecksOrError { ... on AssetChecks { checks { name } } }
      dependencyKeys { path } dependedByKeys { path } metadataEntries { label }
    }
  } }
}
"""
PARTITIONS_PAGE = """
query Health($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionKeysByDimension { name type partitionKeys }
    assetPartitionStatuses { ... on MultiPartitionStatuses {
      primaryDimensionName
      ranges {
        primaryDimStartKey primaryDimEndKey primaryDimStartTime primaryDimEndTime
        secondaryDim {
          ... on TimePartitionStatuses { ranges { status startKey endKey } }
          ... on DefaultPartitionStatuses { materializedPartitions materializingPartitions failedPartitions }
        }
      }
    } }
  } }
}
"""
PARTITION_PAGE = """
query Partition($key: AssetKeyInput!, $partition: String!) {
  assetOrError(assetKey: $key) { ... on Asset {
    definition { latestRunForPartition(partition: $partition) { id status endTime } }
    assetEventHistory(
      partitions: [$partition], limit: 1000, eventTypeSelectors: [MATERIALIZATION, OBSERVATION, FAILED_TO_MATERIALIZE]
    ) { results { ... on MaterializationEvent { runId timestamp partition metadataEntries { label } } } }
  } }
}
"""


class Taken(NamedTuple):
    """Seconds of wall time, of CPU, and the largest memory in MB of a process, or of those of a server together."""

    wall: float
    cpu: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s wall, {self.cpu:.2f} s CPU, {self.memory:,.0f} MB"


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


def states_of(home: str, keys: Sequence[str]) -> int:
    """A materialization of every partition of every table in the instance, and how many those are."""
    with dg.DagsterInstance.from_config(home) as instance:
        return sum(
            rebuild(instance, Change(dg.AssetKey([MARKET, table]), keys, [], keys), replace=False) for table in TABLES
        )


def commands() -> Iterator[tuple[str, Sequence[str]]]:
    read = f"from marketpipe_assets.query import load_bars; load_bars({SYMBOLS!r}, '1d', '{DAY}', '2024-01-03')"
    yield "import dagster, for comparison", [sys.executable, "-c", "import dagster"]
    yield "marketpipe status", [str(COMMAND), "status"]
    yield "load_bars, 500 symbols × one day of 1d", [sys.executable, "-c", read]
    loaded = "from marketpipe_assets.definitions import defs; defs().get_repository_def()"
    yield "code location", [sys.executable, "-c", loaded]


def taken(command: Sequence[str], environment: dict[str, str], said: Path) -> Taken:
    """Of a process. Raises `RuntimeError` where it fails."""
    with said.open("w") as told:
        done = subprocess.run(
            [sys.executable, "-S", "-c", LAUNCHER, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(said.read_text())
    wall, cpu, kilobytes = map(float, done.stdout.split())
    return Taken(wall, cpu, kilobytes / MEGABYTE)


def tick(name: str) -> None:
    """Evaluate a sensor or a schedule of the code location twice, which starts nothing, and print what it takes."""
    loaded = definitions.defs()
    repository, resources = loaded.get_repository_def(), dict(loaded.resources or {})
    market = load_config().markets[MARKET]
    at = market.sessions.published_by(DAY) + timedelta(minutes=market.schedules.after_close)
    for turn in ("first", "second"):
        with dg.DagsterInstance.get() as instance:
            began, worked = time.perf_counter(), time.process_time()
            asked = _sensor if name.endswith("_heal_gaps") else partial(_schedule, at=at)
            runs = asked(name, instance, repository, resources)
            cost = Taken(time.perf_counter() - began, time.process_time() - worked, _largest([os.getpid()]))
        print(f"{name}, {turn} tick: {cost}; {runs} runs asked for", flush=True)


def _sensor(
    name: str, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, resources: dict[str, Any]
) -> int:
    context = dg.build_sensor_context(instance, repository_def=repository, resources=resources)
    return len(repository.get_sensor_def(name).evaluate_tick(context).run_requests or ())


def _schedule(
    name: str,
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    resources: dict[str, Any],
    at: datetime,
) -> int:
    context = dg.build_schedule_context(
        instance, scheduled_execution_time=at, repository_def=repository, resources=resources
    )
    return len(repository.get_schedule_def(name).evaluate_tick(context).run_requests or ())


@contextmanager
def webserver(environment: Mapping[str, str], said: Path) -> Iterator[tuple[str, int]]:
    """`dagster-webserver` on loopback: its address and its process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(COMMAND.with_name("dagster-webserver")), "-m", "marketpipe_assets.definitions"]
    with said.open("w") as told:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", f"{port}"],
            env=dict(environment),
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"expected a webserver within {PATIENCE} s, was: {said.read_text()}")
            with suppress(OSError), urllib.request.urlopen(f"{url}/server_info", timeout=5):
                break
            time.sleep(0.2)
        yield url, process.pid
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        process.wait(PATIENCE)


def pages(environment: Mapping[str, str], said: Path, partition: str) -> Iterator[str]:
    """What the asset's page, its partitions and one partition ask for, once and again."""
    key = {"path": [MARKET, "bars_1m"]}
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "asset page": (ASSET_PAGE, {"key": key}),
        "partitions page": (PARTITIONS_PAGE, {"key": key}),
        "partition page": (PARTITION_PAGE, {"key": key, "partition": partition}),
    }
    with webserver(environment, said) as (url, group):
        yield f"webserver and code server, started: {_largest(_of_group(group)):,.0f} MB"
        for turn in ("first", "second"):
            for name, (query, variables) in asked.items():
                began, worked = time.perf_counter(), _worked(group)
                answer = _answer(url, query, variables)
                cost = Taken(time.perf_counter() - began, _worked(group) - worked, _largest(_of_group(group)))
                yield f"{name}, {turn} time: {cost}; {len(json.dumps(answer)):,} bytes"


def _answer(url: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        answer = json.load(response)
    if "errors" in answer:
        raise RuntimeError(f"expected data of {query.split('(', 1)[0].strip()}, was {answer}")
    found: dict[str, Any] = answer["data"]
    return found


def _of_group(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(_stat(folder)[2]) == group:
                found.append(int(folder.name))
    return found


def _worked(group: int) -> float:
    """Seconds of CPU of a group's processes."""
    return sum(TICK * sum(map(int, _stat(Path("/proc", f"{process}"))[11:13])) for process in _of_group(group))


def _stat(folder: Path) -> Sequence[str]:
    """Fields of a process from its state on; its name before them may hold blanks."""
    return (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _largest(processes: Sequence[int]) -> float:
    """The sum of the most memory each of them had, in MB."""
    lines = (line for each in processes for line in Path(f"/proc/{each}/status").read_text("utf-8").splitlines())
    return sum(int(line.split()[1]) / MEGABYTE for line in lines if line.startswith("VmHWM:"))


def measure(folder: Path, symbols_of_a_group: int) -> None:
    """Print what each entry point takes with partitions of so many symbols × month."""
    environment = dict(prepared(folder))
    home = environment["DAGSTER_HOME"]
    copyfile(Path(definitions.__file__).with_name("dagster.yaml"), Path(home, "dagster.yaml"))
    written = Path(environment["MARKETPIPE_CONFIG"])
    text = CONFIGURATION.format(market=MARKET, symbols=", ".join(SYMBOLS), symbols_of_a_group=symbols_of_a_group)
    written.write_text(text, encoding="utf-8")
    os.environ.update(environment)
    said = folder / "said"
    rows = fill(Catalog(load_config(written).catalog_url))
    config = load_config()
    grid = grid_of(config.markets[MARKET], Catalog(config.catalog_url))
    keys = list(grid.definition.get_partition_keys())
    files, states = lake_of(folder), states_of(home, keys)
    print(
        f"groups of {symbols_of_a_group} symbols × month: {rows:,} symbol-days in the ledger, {files:,} files in the "
        f"lake, {states:,} partition states",
        flush=True,
    )
    for label, command in commands():
        print(f"{label}: {taken(command, environment, said)}", flush=True)
    for name in (f"{MARKET}_heal_gaps", f"{MARKET}_after_close"):
        subprocess.run([sys.executable, "-m", __spec__.name, "--tick", name], env=environment, check=True)
    for line in pages(environment, said, keys[0]):
        print(line, flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--tick"]:
        tick(sys.argv[2])
        return
    for symbols_of_a_group in (100, 1):
        with TemporaryDirectory(prefix="bench-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
            measure(Path(name), symbols_of_a_group)


if __name__ == "__main__":
    main()
