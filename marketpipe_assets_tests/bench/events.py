"""What a materialization costs in one run, stored by Dagster's own storages and in batches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.options import Options
from marketpipe_assets_tests.event_storage.kills import postgres_home
from marketpipe_assets_tests.event_storage.logs import BATCHED, STOCK, STOCK_POSTGRES, Home
from marketpipe_assets_tests.event_storage.measure import cost
from marketpipe_assets_tests.postgres import HAS_POSTGRES, Server, running_server

COUNT = 1000
Make = Callable[[Path], Home]


def measured(_: Options) -> Iterator[Entry]:
    """Postgres is left out where there is none."""
    with running_server() if HAS_POSTGRES else nullcontext() as server:
        for name, (stock, batched) in pairs(server).items():
            theirs, ours = cost(stock, COUNT), cost(batched, COUNT)
            times = f"times less than Dagster's {theirs.milliseconds:.2f} ms"
            ratio = theirs.milliseconds / ours.milliseconds
            yield Entry(f"event_storage_{name}", ours.milliseconds, "ms wall per materialization", ratio, times)
            smaller = theirs.bytes / ours.bytes
            yield Entry(f"event_bytes_{name}", ours.bytes, "bytes per materialization", smaller, "times fewer")


def pairs(server: Server | None) -> Mapping[str, tuple[Make, Make]]:
    """Database → Dagster's own storage and ours."""
    sqlite = {"sqlite": (partial(Home.at, settings=STOCK), partial(Home.at, settings=BATCHED))}
    if server is None:
        return sqlite
    return {
        **sqlite,
        "postgres": (partial(postgres_home, server, settings=STOCK_POSTGRES), partial(postgres_home, server)),
    }
