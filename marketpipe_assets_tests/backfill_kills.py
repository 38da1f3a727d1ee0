"""Kill a backfill of 200 partitions, its vendor and the daemon beside it at random moments, and let it be completed.

By hand: `python -m marketpipe_assets_tests.backfill_kills --rounds 20`. Each round is a project of its own: `marketpipe
backfill` runs, a daemon with run monitoring watches the same instance, one of the three is killed with SIGKILL, started
again, and the backfill is repeated until it says that nothing is missing. Exits 1 where a symbol-day is not complete,
was fetched more often than once and once more for the kill, has doubled bars, or where Dagster, the ledger and the lake
do not say the same.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import polars as pl

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.query import tables_of
from marketpipe_assets_tests.faults import damaged_files

PATIENCE = 600  # seconds: the machine may be busy
VICTIMS = ("backfill", "vendor", "daemon")
SYMBOLS = tuple(f"S{number}" for number in range(10))
COMMAND = "from marketpipe_assets.cli.app import app; app()"
HOLIDAY = date(2024, 1, 15)
FIRST, END = date(2024, 1, 2), date(2024, 1, 31)
CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  alpaca: {{base_url: "http://127.0.0.1:{port}", attempts: 2, first_wait: 0.1, longest_wait: 0.2, deadline_seconds: 10,
    requests_per_minute: 100000, quota_file: {folder}/quota}}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: alpaca
    symbols: [{symbols}]
    start: 2024-01-02
    timeframes: [1h, 1d]
    max_symbol_days_per_run: 40
"""
INSTANCE = """
telemetry: {enabled: false}
run_monitoring: {enabled: true, poll_interval_seconds: 5}
"""


def serve(port: int, log: Path) -> None:
    """Answer as Alpaca does, with a bar for each minute of each session's regular hours; note what was answered."""

    class Vendor(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            first, last = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
            symbols = asked["symbols"].split(",")
            days = [first.date() + timedelta(days=n) for n in range((last.date() - first.date()).days + 1)]
            bars = [bar for day in days if day.weekday() < 5 and day != HOLIDAY for bar in _bars(day, first, last)]
            body = json.dumps({"bars": dict.fromkeys(symbols, bars) if bars else {}, "next_page_token": None}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            held = sorted({str(bar["t"])[:10] for bar in bars})
            with log.open("a") as file:
                file.write(json.dumps([symbols, held]) + "\n")

        def log_message(self, *_: object) -> None:
            """What was answered is in the log."""

    ThreadingHTTPServer(("127.0.0.1", port), Vendor).serve_forever()


def _bars(day: date, first: datetime, last: datetime) -> Iterator[Mapping[str, str | int]]:
    opened = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
    for minute in range(390):
        at = opened + timedelta(minutes=minute)
        if first <= at <= last:
            yield {"t": f"{at:%Y-%m-%dT%H:%M:%SZ}", "o": 10, "h": 10, "l": 10, "c": 10, "v": 100, "n": 1, "vw": 10}


class Project(NamedTuple):
    """A folder with a configuration, a vendor on a port, a lake and a Dagster instance."""

    folder: Path
    port: int

    @classmethod
    def at(cls, folder: Path) -> "Project":
        (folder / "home").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = CONFIGURATION.format(port=port, folder=folder, symbols=", ".join(SYMBOLS))
        (folder / "marketpipe.yaml").write_text(text)
        (folder / "home" / "dagster.yaml").write_text(INSTANCE)
        with dg.DagsterInstance.from_config(str(folder / "home")):
            pass  # its files: two processes that make them at once fail
        return cls(folder, port)

    @property
    def log(self) -> Path:
        return self.folder / "answered.jsonl"

    def start(self, what: str) -> subprocess.Popen[bytes]:
        commands = {
            "backfill": ["-c", COMMAND, "backfill", "--from", f"{FIRST}", "--end", f"{END}"],
            "vendor": ["-m", "marketpipe_assets_tests.backfill_kills", "--serve", str(self.port), str(self.log)],
            "daemon": ["-m", "dagster._daemon", "run", "-m", "marketpipe_assets.definitions"],
        }
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.folder / "home"),
            "MARKETPIPE_CONFIG": str(self.folder / "marketpipe.yaml"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "APCA_API_KEY_ID": "invented",
            "APCA_API_SECRET_KEY": "invented",
        }
        with (self.folder / f"{what}.txt").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, *commands[what]],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answered(self) -> Counter[tuple[str, date]]:
        """How often the vendor answered about each symbol-day."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(
            (symbol, date.fromisoformat(day))
            for symbols, days in map(json.loads, lines)
            for symbol in symbols
            for day in days
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """The process and all it started, as a machine that loses power does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


@contextmanager
def running(project: Project, what: str) -> Iterator[subprocess.Popen[bytes]]:
    process = project.start(what)
    try:
        yield process
    finally:
        kill(process)


def one_round(project: Project, victim: str, moment: float) -> list[str]:
    """Kill one of them `moment` seconds after the first answer, complete the backfill, and say what is wrong."""
    with ExitStack() as stack:
        alive = {what: stack.enter_context(running(project, what)) for what in ("vendor", "daemon")}
        alive["backfill"] = stack.enter_context(running(project, "backfill"))
        deadline = time.monotonic() + PATIENCE
        while not project.log.exists() and alive["backfill"].poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moment)
        kill(alive[victim])
        if victim != "backfill":
            time.sleep(1)
            stack.enter_context(running(project, victim))
            alive["backfill"].wait(PATIENCE)
        for _ in range(3):
            again = stack.enter_context(running(project, "backfill"))
            if again.wait(PATIENCE) == 0:
                break
    return problems(project)


def problems(project: Project) -> list[str]:
    config = load_config(project.folder / "marketpipe.yaml")
    market, found = config.markets["shares"], list[str](damaged_files(config.lake))
    days = market.sessions.between(FIRST, END)
    every = {(symbol, day) for symbol in SYMBOLS for day in days}
    ledger = symbol_days_of(Catalog(config.catalog_url), "shares").filter(pl.col("session_date") < END)
    complete = set(ledger.filter(pl.col("valid") == 390).select("symbol", "session_date").iter_rows())
    if complete != every:
        found.append(f"the ledger has {len(complete)} of {len(every)} symbol-days complete")
    often = {key: times for key, times in project.answered().items() if times > 2}
    if often:
        found.append(f"{len(often)} symbol-days were fetched more than once more than needed")
    tables = [name for name in tables_of(market) if name not in ("quarantined_bars_1m", "superseded_bars_1m")]
    for table in tables:
        bars = read_bars(config.lake, "shares", table, SYMBOLS, days)
        if set(bars.select("symbol", "session_date").unique().iter_rows()) != every:
            found.append(f"{table} does not hold every symbol-day")
        if bars.select("symbol", "ts").is_duplicated().any():
            found.append(f"{table} has doubled bars")
    return [*found, *_dagster(project, tables, every)]


def _dagster(project: Project, tables: Sequence[str], every: set[tuple[str, date]]) -> list[str]:
    keys = {f"{day}|{symbol}" for symbol, day in every}
    with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
        unequal = [
            f"Dagster has {len(done)} of {len(keys)} partitions of {table}"
            for table in (*tables, "coverage")
            if (done := instance.get_materialized_partitions(dg.AssetKey(["shares", table]))) != keys
        ]
        going = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return unequal + [f"run {run.run_id} is shown as started" for run in going]


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--longest", type=float, default=20.0, help="seconds from the first answer to the kill")
    arguments.add_argument("--serve", nargs=2, metavar=("PORT", "LOG"), help="be the vendor")
    asked = arguments.parse_args()
    if asked.serve:
        serve(int(asked.serve[0]), Path(asked.serve[1]))
    seeded, failed = random.Random(asked.seed), 0
    for number in range(asked.rounds):
        victim, moment = VICTIMS[number % len(VICTIMS)], seeded.uniform(0, asked.longest)
        with tempfile.TemporaryDirectory() as folder:
            project = Project.at(Path(folder) / "project")
            found = one_round(project, victim, moment)
            twice = sum(times > 1 for times in project.answered().values())
        failed += bool(found)
        said = "; ".join(found) or f"complete, {twice} symbol-days were fetched twice"
        print(f"round {number + 1:2}: {victim} killed after {moment:.1f} s: {said}", flush=True)
    print(f"{failed} of {asked.rounds} rounds went wrong")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
