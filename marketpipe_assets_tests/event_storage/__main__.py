"""Kill writers and runs by hand, many times: `python -m marketpipe_assets_tests.event_storage --kills 50`.

Prints every kill that left something wrong and exits 1 where there is one. Needs strace. `--measure 1000 7000` prints
what a materialization costs in time and in bytes instead, by either storage.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from marketpipe_assets_tests.event_storage.kills import Work, kill_at_random, store_batches, store_run
from marketpipe_assets_tests.event_storage.measure import measured

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
    for count in chosen.measure:
        print(measured(count))
    return 0 if chosen.measure else kill_each(chosen.kills, chosen.seed)


def kill_each(kills: int, seed: int) -> int:
    """1 where a kill left something wrong."""
    bad = 0
    for name, work in WORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            all_killed = list(kill_at_random(work, Path(folder), kills, seed))
        wrong = [killed for killed in all_killed if killed.problems]
        files = Counter(killed.before.rsplit(" ", 1)[-1].rsplit(".", 1)[-1] for killed in all_killed)
        print(f"{name}: {len(all_killed)} kills, {len(wrong)} left something wrong; before writes to {dict(files)}")
        for killed in wrong:
            print(f"  before {killed.before}, {killed.stored} batches told:", *killed.problems[:5], sep="\n    ")
        bad += len(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
