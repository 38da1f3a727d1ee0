"""Kill processes that store events before each of their writes, and say what run monitoring makes of what is left."""

import multiprocessing
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from marketpipe_assets_tests.event_storage.graph import run_range
from marketpipe_assets_tests.event_storage.logs import (
    BATCHED,
    BATCHED_POSTGRES,
    RUN_ID,
    Home,
    batch,
    disagreements,
    keys_of,
    started_run,
)
from marketpipe_assets_tests.postgres import Server

PATIENCE = 120  # seconds: the machine may be busy
SIZE = 20  # events of a batch: some hundred kilobytes in both files, so that a batch is many writes
WRITE = re.compile(r"(?:pwrite64|sendto)\(\d+<([^>]+)>")

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


class Killed(NamedTuple):
    """`before`: the write the process did not come to, with its file. `problems`: none is good."""

    before: str
    stored: int
    problems: Sequence[str]


def store_batches(folder: Path, kinds: Sequence[str], count: int, told: Connection) -> None:
    """Tell each batch once it is stored; the target of a process."""
    with Home(folder).instance() as instance:
        told.send(None)
        told.recv()
        for number in range(1, count + 1):
            for kind in kinds:
                instance.event_log_storage.store_event_batch(batch(kind, number, SIZE))
                told.send((kind, number))


def store_run(folder: Path, _kinds: Sequence[str], count: int, told: Connection) -> None:
    """A whole run, from its planned events to its end; the target of a process."""
    with Home(folder).instance() as instance:
        told.send(None)
        told.recv()
        run_range(instance, days=count)


def sqlite_home(folder: Path) -> Home:
    return Home.at(folder, BATCHED)


def postgres_home(server: Server, folder: Path, settings: str = BATCHED_POSTGRES) -> Home:
    """With a database of its own, named after the folder."""
    return Home.at(folder, settings, server.create("-".join(folder.parts[-2:])))


class Work(NamedTuple):
    """What a process is killed at: `call` is the system call by which it writes."""

    target: Callable[[Path, Sequence[str], int, Connection], None]
    kinds: Sequence[str] = ()
    rounds: int = 1
    make: Callable[[Path], Home] = sqlite_home
    call: str = "pwrite64"

    def on(self, server: Server) -> "Work":
        """The same on Postgres, where what a process writes it sends."""
        return self._replace(make=partial(postgres_home, server), call="sendto")

    def home(self, folder: Path) -> Home:
        home = self.make(folder)
        with home.instance() as instance:
            if self.target is store_batches:
                run = started_run(instance)
                for kind in self.kinds:
                    instance.event_log_storage.store_event_batch(batch(kind, 0, SIZE))
                assert run.run_id == RUN_ID
        return home

    def begun(self, home: Home) -> tuple[BaseProcess, Connection]:
        """A process that has loaded its instance and waits to be told to go."""
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=self.target, args=(home.folder, self.kinds, self.rounds, theirs))
        process.start()
        theirs.close()
        ours.recv()
        return process, ours

    def writes(self, folder: Path) -> list[str]:
        """The file of each write of a process that nobody kills."""
        home = self.home(folder)
        process, told = self.begun(home)
        traced = folder / "writes.txt"
        with _traced(process, self.call, "-y", "-o", str(traced)):
            told.send("go")
            process.join(PATIENCE)
        return [Path(name).name for name in WRITE.findall(traced.read_text())]

    def kill_before(self, folder: Path, write: int, name: str) -> Killed:
        """Kill a process before its n-th write (from 1) and look at what it left, after run monitoring has seen it."""
        home = self.home(folder)
        process, told = self.begun(home)
        with _traced(
            process, self.call, "-e", f"inject={self.call}:signal=KILL:when={write}", "-o", str(folder / "trace.txt")
        ):
            told.send("go")
            process.join(PATIENCE)
        return self._left(home, process, told, f"write {write}, to {name}")

    def kill_after(self, folder: Path, seconds: float) -> Killed:
        home = self.home(folder)
        process, told = self.begun(home)
        told.send("go")
        time.sleep(seconds)
        process.kill()
        process.join(PATIENCE)
        return self._left(home, process, told, f"second {seconds:.4f}")

    def _left(self, home: Home, process: BaseProcess, told: Connection, moment: str) -> Killed:
        problems = [] if process.exitcode == -9 else [f"expected the process to be killed, was {process.exitcode}"]
        stored = list(_told(told))
        recover(home)
        problems += disagreements(home)
        for kind in self.kinds:
            problems += _broken_batches(home, kind, {number for each, number in stored if each == kind} | {0})
        return Killed(moment, len(stored), problems)


def recover(home: Home) -> None:
    """What run monitoring does about a run whose process is gone."""
    with home.instance() as instance:
        for run in instance.get_runs():
            if not run.is_finished:
                instance.report_run_failed(run)


def _broken_batches(home: Home, kind: str, told: set[int]) -> list[str]:
    """Batches that were told as stored and are not, or are there in part or twice, in either file."""
    problems = []
    for shard in ("index", RUN_ID):
        keys = keys_of(home, kind, shard)
        for number in {int(key.split("|")[0]) for key in keys} | told:
            counts = [keys[f"{number}|S{each}"] for each in range(SIZE)]
            if counts != [1] * SIZE:
                problems.append(f"expected each event of {kind} batch {number} once in {shard}, was {counts}")
    return problems


def _told(told: Connection) -> Iterator[tuple[str, int]]:
    try:
        while True:
            yield told.recv()
    except (EOFError, ConnectionResetError):
        return


@contextmanager
def _traced(process: BaseProcess, call: str, *options: str) -> Iterator[None]:
    """Attached to a process by strace until it ends. Raises `RuntimeError` where that is not allowed here."""
    command = ["strace", "-f", "-p", str(process.pid), "-e", f"trace={call}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            process.kill()
            raise RuntimeError(f"expected strace to attach, was {said.strip()}")
        yield


def kill_at_random(work: Work, folder: Path, kills: int, seed: int = 1) -> Iterator[Killed]:
    """Before so many of its writes, spread over all of them."""
    names = work.writes(folder / "writes")
    chosen = random.Random(seed)
    share = len(names) / kills
    for kill in range(kills):
        write = max(1, min(len(names), round((kill + chosen.random()) * share)))
        yield work.kill_before(folder / f"{kill}", write, names[write - 1])
