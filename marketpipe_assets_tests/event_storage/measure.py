"""What a materialization costs in time and in bytes, by Dagster's storage and by ours, one after the other."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from marketpipe_assets_tests.event_storage.graph import SILENT
from marketpipe_assets_tests.event_storage.kills import postgres_home
from marketpipe_assets_tests.event_storage.logs import BATCHED, STOCK, STOCK_POSTGRES, Home
from marketpipe_assets_tests.postgres import Server

SYMBOLS = [f"S{number:02d}" for number in range(20)]
DATES = dg.DailyPartitionsDefinition("2024-01-01", end_date="2026-01-01").get_partition_keys()
PARTITIONS = dg.MultiPartitionsDefinition(
    {"date": dg.StaticPartitionsDefinition(DATES), "symbol": dg.StaticPartitionsDefinition(SYMBOLS)}
)
ASSETS = 5


class Cost(NamedTuple):
    """Of one materialization with its planned event."""

    milliseconds: float
    bytes: float


def chain() -> list[dg.AssetsDefinition]:
    """Assets that do nothing, each below the one before."""

    def link(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"table_{number}",
            deps=[f"table_{number - 1}"] if number else [],
            partitions_def=PARTITIONS,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def table() -> dg.MaterializeResult[None]:
            return dg.MaterializeResult(metadata={"rows": 390})

        return table

    return [link(number) for number in range(ASSETS)]


def cost(make: Callable[[Path], Home], count: int) -> Cost:
    """Of one in-process run of so many materializations, start and end of the run included."""
    os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
    days = count // (ASSETS * len(SYMBOLS))
    defs = dg.Definitions(assets=chain(), jobs=[dg.define_asset_job("chain", "*")], executor=dg.in_process_executor)
    tags = {
        "dagster/asset_partition_range_start": f"{DATES[0]}|{SYMBOLS[0]}",
        "dagster/asset_partition_range_end": f"{DATES[days - 1]}|{SYMBOLS[-1]}",
    }
    with tempfile.TemporaryDirectory() as folder:
        home = make(Path(folder))
        empty = _bytes(home)
        with home.instance() as instance:
            gc.collect()
            start = time.perf_counter()
            defs.resolve_job_def("chain").execute_in_process(instance=instance, tags=tags, run_config=SILENT)
            seconds = time.perf_counter() - start
        size = _bytes(home) - empty
    done = days * ASSETS * len(SYMBOLS)
    return Cost(1000 * seconds / done, size / done)


def _bytes(home: Home) -> int:
    if home.url:
        return int(home.rows("", "SELECT pg_database_size(current_database())")[0][0])
    return sum(path.stat().st_size for path in home.folder.glob("history/runs/*"))


def measured(count: int, server: Server | None) -> Iterator[str]:
    """A line for SQLite, and one for Postgres where there is a server."""
    pairs = [("SQLite", partial(Home.at, settings=STOCK), partial(Home.at, settings=BATCHED))]
    if server is not None:
        pairs.append(
            ("Postgres", partial(postgres_home, server, settings=STOCK_POSTGRES), partial(postgres_home, server))
        )
    for name, stock_home, batched_home in pairs:
        stock, batched = cost(stock_home, count), cost(batched_home, count)
        yield (
            f"{name}, {count} materializations: Dagster's {stock.milliseconds:.2f} ms and {stock.bytes / 1000:.1f} kB "
            f"each, ours {batched.milliseconds:.2f} ms and {batched.bytes / 1000:.1f} kB, "
            f"{stock.milliseconds / batched.milliseconds:.1f} times quicker"
        )
