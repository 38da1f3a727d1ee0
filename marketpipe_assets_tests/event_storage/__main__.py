"""Kill writers and runs by hand, many times: `python -m marketpipe_assets_tests.event_storage --kills 50`.

On SQLite and, where there is a server of it, on Postgres. Prints every kill that left something wrong and exits 1 where
there is one. Needs strace. `--measure 1000 7000` prints what a materialization costs in time and in bytes instead, by
Dagster's storages and by ours.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from marketpipe_assets_tests.event_storage.kills import Work, kill_at_random, store_batches, store_run
from marketpipe_assets_tests.event_storage.measure import measured
from marketpipe_assets_tests.postgres import HAS_POSTGRES, MISSING, Server, running_server

WORKS = {
    "planned events": Work(store_batches, ("planned",)),
    "materializations": Work(store_batches, ("materialized",)),
    "several batches": Work(store_batches, ("planned", "materialized"), 3),
    "whole runs": Work(store_run, rounds=4),
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=50, help="of each kind of work")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--measure", type=int, nargs="*", default=())
    chosen = arguments.parse_args()
    with running_server() if HAS_POSTGRES else nullcontext() as server:
        if server is None:
            print(f"without Postgres: {MISSING}")
        for count in chosen.measure:
            print(*measured(count, server), sep="\n", flush=True)
        return 0 if chosen.measure else kill_each(chosen.kills, chosen.seed, server)


def kill_each(kills: int, seed: int, server: Server | None) -> int:
    """1 where a kill left something wrong."""
    works = {f"SQLite, {name}": work for name, work in WORKS.items()}
    if server is not None:
        works |= {f"Postgres, {name}": work.on(server) for name, work in WORKS.items()}
    bad = 0
    for name, work in works.items():
        with tempfile.TemporaryDirectory() as folder:
            all_killed = list(kill_at_random(work, Path(folder), kills, seed))
        wrong = [killed for killed in all_killed if killed.problems]
        files = Counter(killed.before.rsplit(" ", 1)[-1].rsplit(".", 1)[-1].split(":")[0] for killed in all_killed)
        said = f"{name}: {len(all_killed)} kills, {len(wrong)} left something wrong; before writes to {dict(files)}"
        print(said, flush=True)
        for killed in wrong:
            print(f"  before {killed.before}, {killed.stored} batches told:", *killed.problems[:5], sep="\n    ")
        bad += len(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
