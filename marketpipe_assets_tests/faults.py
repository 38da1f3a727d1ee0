"""Kill writers and whole ingests at random moments, and say what they left.

The tests do it a few times. By hand: `python -m marketpipe_assets_tests.faults --kills 20 --writer-kills 25`. Exits 1
where a file cannot be read, where something committed is lost, or where the next run does not complete it.
"""

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl

from marketpipe_assets.config import Market, load_config
from marketpipe_assets.lake.layout import bar_file_of
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import WRITING, damage, metadata
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.query import tables_of
from marketpipe_assets_tests.lake.rows import MARKET, THURSDAY, TUESDAY, WEDNESDAY, bars_of

PATIENCE = 180  # seconds: the machine may be busy
SYMBOLS = ("AAPL", "MSFT")
DAYS = (TUESDAY, WEDNESDAY, THURSDAY)
RANGE = f"{DAYS[0]}|{SYMBOLS[0]}...{DAYS[-1]}|{SYMBOLS[-1]}"
MINUTES = 2000  # of a day a killed writer writes: enough for a write to take some milliseconds

CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  synthetic: {seed: 1, faults: {missing_minutes: 1, conflicting_duplicate: 1, negative_volume: 1}}
markets:
  us_equities:
    calendar: XNYS
    asset_class: equity
    provider: synthetic
    symbols: [AAPL, MSFT]
    start: 2024-01-02
    timeframes: [5m, 1h, 1d]
"""


def damaged_files(lake: Path) -> list[str]:
    """Every file of the lake that cannot be read or is not what it should be, with the reason."""
    files = [(path, bar_file_of(lake, path)) for path in sorted(lake.glob("*/*/*/*.parquet"))]
    reasons = [(path, damage(path, metadata(file.market, file.table, file.symbol))) for path, file in files]
    return [f"{path}: {reason}" for path, reason in reasons if reason is not None]


def left_over(lake: Path) -> int:
    """How many temporary files killed writers left."""
    return sum(1 for _ in (lake / WRITING).glob("*"))


@cache
def minutes(symbol: str, day: date) -> pl.DataFrame:
    return bars_of(symbol, day, [1.0] * MINUTES)


class Round(NamedTuple):
    """What a writer wrote: a day whose opens are all the number of the round."""

    symbol: str
    day: date
    number: int

    def write(self, lake: Path) -> None:
        bars = minutes(self.symbol, self.day).with_columns(open=pl.lit(float(self.number)))
        write_bars(lake, MARKET, "bars_1m", bars, [self.symbol], [self.day])


def write_rounds(lake: Path, days: Sequence[date], numbers: Sequence[int]) -> None:
    """Write each day once a round; the target of a process."""
    for number in numbers:
        for day in days:
            Round(SYMBOLS[0], day, number).write(lake)


def write_for_ever(lake: Path, committed: Connection) -> None:
    """Write rounds of every symbol and day and tell each when it is stored; the target of a process to be killed."""
    for number in count(1):
        for symbol in SYMBOLS:
            for day in DAYS:
                Round(symbol, day, number).write(lake)
                committed.send(Round(symbol, day, number))


def processes(*targets: tuple[Callable[..., None], tuple[object, ...]]) -> list[BaseProcess]:
    """Started processes that share no thread and no lock with this one."""
    context = multiprocessing.get_context("spawn")
    started: list[BaseProcess] = [context.Process(target=target, args=arguments) for target, arguments in targets]
    for process in started:
        process.start()
    return started


class Killed(NamedTuple):
    """`moment`: seconds after the first sign of work. `done`: what was committed by then. `problems`: none is good."""

    moment: float
    done: int
    left_over: int
    problems: Sequence[str]


def kill_writer(lake: Path, moment: float) -> Killed:
    """Kill a process that writes day after day into a new lake, then let another writer take its place."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    (writer,) = processes((write_for_ever, (lake, sender)))
    sender.close()
    committed = [receiver.recv()]
    time.sleep(moment)
    writer.kill()
    writer.join(PATIENCE)
    committed += told(receiver)
    left = left_over(lake)
    problems = damaged_files(lake) or lost_rounds(lake, committed)
    Round(SYMBOLS[0], DAYS[0], 0).write(lake)
    problems += left_after(lake, "the next write")
    return Killed(moment, len(committed), left, problems)


def told(receiver: Connection) -> Iterator[Round]:
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        return


def lost_rounds(lake: Path, committed: Sequence[Round]) -> list[str]:
    """Days that hold neither the round that was committed last nor, whole, the one after it."""
    last = {(each.symbol, each.day): each.number for each in committed}
    stored = read_bars(lake, MARKET, "bars_1m", SYMBOLS, DAYS, columns=("symbol", "session_date", "open"))
    days = stored.group_by("symbol", "session_date").agg(pl.len(), pl.col("open").unique()).rows()
    held = {(symbol, day): (rows, prices) for symbol, day, rows, prices in days}
    whole = {key: [(MINUTES, [number]), (MINUTES, [number + 1])] for key, number in last.items()}
    lost = [key for key, either in whole.items() if held.get(key) not in either]
    return [f"{key}: expected one of {whole[key]}, was {held.get(key)}" for key in lost]


class Project(NamedTuple):
    """A folder with a configuration, a lake and a Dagster instance of its own."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Project":
        (folder / "home").mkdir(parents=True)
        (folder / "marketpipe.yaml").write_text(CONFIGURATION)
        (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        with dg.DagsterInstance.from_config(str(folder / "home")):
            pass  # Dagster's SQLite files: two processes that make them at once fail, and may spoil them for good
        return cls(folder)

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def market(self) -> Market:
        return load_config(self.folder / "marketpipe.yaml").markets[MARKET]

    @property
    def runs(self) -> int:
        """How many runs have begun."""
        return sum(1 for path in (self.folder / "home" / "history" / "runs").glob("*.db") if path.stem != "index")

    def materialize(self, *keys: str) -> subprocess.Popen[bytes]:
        """`dagster asset materialize` of the market, in a process group of its own."""
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", f'key:"{MARKET}/*"', *keys]
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.folder / "home"),
            "MARKETPIPE_CONFIG": str(self.folder / "marketpipe.yaml"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        with (self.folder / "out.txt").open("ab") as out:
            return subprocess.Popen(
                [*command, "-m", "marketpipe_assets.definitions"],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def bars(self) -> Mapping[str, pl.DataFrame]:
        """Table → everything it holds."""
        return {table: read_bars(self.lake, MARKET, table, SYMBOLS, DAYS) for table in tables_of(self.market)}

    def materialized(self) -> list[tuple[str, str, date]]:
        """Table, symbol and session of each partition Dagster calls materialized."""
        with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
            keys = [
                (table, key.split("|"))
                for table in tables_of(self.market)
                for key in sorted(instance.get_materialized_partitions(dg.AssetKey([MARKET, table])))
            ]
        return [(table, symbol, date.fromisoformat(day)) for table, (day, symbol) in keys]


class Reference(NamedTuple):
    """What a run that nobody kills stores, and how many seconds it takes from its first sign."""

    bars: Mapping[str, pl.DataFrame]
    seconds: float


def uninterrupted(project: Project) -> Reference:
    """A whole run. Raises `RuntimeError` where it fails."""
    with begun(project) as run:
        start = time.monotonic()
        finish(project, run)
    return Reference(project.bars(), time.monotonic() - start)


@contextmanager
def begun(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """An ingest of the whole range, from the moment its run exists."""
    before = project.runs
    process = project.materialize("--partition-range", RANGE)
    deadline = time.monotonic() + PATIENCE
    while project.runs == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def finish(project: Project, process: subprocess.Popen[bytes]) -> None:
    if process.wait(PATIENCE) != 0:
        raise RuntimeError(f"expected the run to succeed, was {process.returncode}: see {project.folder / 'out.txt'}")


def kill_ingest(project: Project, reference: Reference, moment: float) -> Killed:
    """Kill an ingest `moment` seconds after its run began, and compare what is left with the reference."""
    with begun(project):
        time.sleep(moment)
    materialized = project.materialized()
    problems = damaged_files(project.lake) or lost_partitions(project, reference, materialized)
    return Killed(moment, len(materialized), left_over(project.lake), problems)


def lost_partitions(project: Project, reference: Reference, materialized: Sequence[tuple[str, str, date]]) -> list[str]:
    stored = project.bars()
    return [
        f"{table} {symbol} {day} is materialized and not stored as it should be"
        for table, symbol, day in materialized
        if not of_day(stored[table], symbol, day).equals(of_day(reference.bars[table], symbol, day))
    ]


def of_day(bars: pl.DataFrame, symbol: str, day: date) -> pl.DataFrame:
    return bars.filter(symbol=symbol, session_date=day)


def completion(project: Project, reference: Reference) -> list[str]:
    """What is wrong after the next uninterrupted run."""
    if damaged := damaged_files(project.lake):
        return damaged
    stored = uninterrupted(project).bars
    unequal = [table for table, bars in stored.items() if not bars.equals(reference.bars[table])]
    assets = stored.keys() - {"superseded_bars_1m"}  # which is a table and no asset
    partitions, expected = len(project.materialized()), len(assets) * len(SYMBOLS) * len(DAYS)
    return [
        *damaged_files(project.lake),
        *(f"{table} is not what an uninterrupted run stores" for table in unequal),
        *([f"expected {expected} partitions, was {partitions}"] if partitions != expected else []),
        *left_after(project.lake, "the next run"),
    ]


def left_after(lake: Path, what: str) -> list[str]:
    number = left_over(lake)
    return [f"{number} temporary files are left after {what}"] if number else []


def kill_writers(folder: Path, kills: int, seed: int) -> Iterator[Killed]:
    seeded = random.Random(seed)
    for number in range(kills):
        yield kill_writer(folder / f"writer-{number}" / "lake", seeded.uniform(0, 0.25))


def kill_ingests(folder: Path, kills: int, seed: int) -> Iterator[Killed]:
    """Each in a project of its own, completed by a run that is not killed."""
    seeded = random.Random(seed)
    reference = uninterrupted(Project.at(folder / "reference"))
    for number in range(kills):
        project = Project.at(folder / f"ingest-{number}")
        killed = kill_ingest(project, reference, seeded.uniform(0, 0.7 * reference.seconds))  # the rest is its exit
        yield killed._replace(problems=[*killed.problems, *completion(project, reference)])


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--kills", type=int, default=20, help="of an ingest")
    arguments.add_argument("--writer-kills", type=int, default=25, help="of a process that writes files")
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        for what, kills in (
            ("writer", kill_writers(Path(name), asked.writer_kills, asked.seed)),
            ("ingest", kill_ingests(Path(name), asked.kills, asked.seed)),
        ):
            for number, killed in enumerate(kills, 1):
                said = "; ".join(killed.problems) or "nothing lost"
                print(
                    f"{what} {number:2}: killed after {killed.moment:.3f} s, {killed.done:3} committed, "
                    f"{killed.left_over} left over: {said}",
                    flush=True,
                )
                failed += bool(killed.problems)
    print(f"{failed} of {asked.kills + asked.writer_kills} kills lost something")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
