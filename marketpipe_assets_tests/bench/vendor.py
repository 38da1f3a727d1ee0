"""What an ingest over the wire costs: `python -m marketpipe_assets_tests.bench.vendor`.

An Alpaca-shaped server on this machine, in a process of its own, gives 50 symbols × 20 sessions of regular minutes to
the market's Dagster job. Prints bars per second, requests against the fewest possible, and memory.
"""

import argparse
import os
import resource
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import polars as pl

from marketpipe_assets.providers.alpaca import PAGE
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, vendor_server

CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  alpaca: {{base_url: "{url}", requests_per_minute: 100000, quota_file: "{folder}/quota.sqlite"}}
markets:
  shares: {{calendar: XNYS, asset_class: equity, provider: alpaca, start: 2024-01-02, symbols: [{symbols}]}}
"""
START = date(2024, 1, 2)
KEYS = {"APCA_API_KEY_ID": "bench", "APCA_API_SECRET_KEY": "bench"}


def main(symbol_count: int, session_count: int) -> None:
    """Run the ingest once and print what it took."""
    symbols = [f"S{number:03}" for number in range(symbol_count)]
    ours, theirs = Pipe()
    server = get_context("spawn").Process(target=serve, args=(symbols, session_count, theirs), daemon=True)
    server.start()
    url, bars = ours.recv()
    try:
        with TemporaryDirectory(prefix="marketpipe-bench-") as folder:
            alone, whole, stored = ingest(url, Path(folder), symbols, session_count)
        requests = requests_seen(ours)
    finally:
        ours.send("stop")
        server.join()
    if stored != bars:
        raise SystemExit(f"expected {bars:,} bars in the lake, was {stored:,}")
    fewest = -(-bars // PAGE)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{symbol_count} symbols × {session_count} sessions: {bars:,} bars, all of them in the lake")
    print(f"provider alone: {bars / alone:,.0f} bars per second ({alone:.2f} s)")
    print(f"Dagster job, every table and check: {bars / whole:,.0f} bars per second ({whole:.1f} s)")
    print(f"requests of both: {requests:,}; the fewest possible: {2 * fewest:,}")
    print(f"most memory of the process: {memory:,.0f} MB")


def requests_seen(server: "Connection[str, int]") -> int:
    server.send("requests")
    return server.recv()


def ingest(url: str, folder: Path, symbols: Sequence[str], session_count: int) -> tuple[float, float, int]:
    """Seconds of the provider alone and of the job, and the raw bars then stored."""
    import dagster as dg

    from marketpipe_assets.config import export_dagster_home, load_config
    from marketpipe_assets.definitions import provider_of
    from marketpipe_assets.defs.launch import run_job
    from marketpipe_assets.defs.partitions import Grid, Selection
    from marketpipe_assets.lake.scan import read_bars
    from marketpipe_assets_tests.bench.in_dagster import SILENT

    written = folder / "marketpipe.yaml"
    written.write_text(CONFIGURATION.format(url=url, folder=folder, symbols=", ".join(symbols)))
    os.environ.update(KEYS)
    os.environ.pop("DAGSTER_HOME", None)
    config = load_config(written)
    export_dagster_home(config)
    market = config.markets["shares"]
    dates = list(market.sessions.dates[:session_count])
    began = perf_counter()
    provider_of("alpaca", config.providers["alpaca"]).minute_bars(symbols, *market.sessions.request(dates))
    alone = perf_counter() - began
    with dg.DagsterInstance.get() as instance:
        began = perf_counter()
        failures = [
            step.failure
            for step in run_job(instance, "shares_ingest", Grid(market).tags(Selection(symbols, dates)), SILENT)
            if step.failure
        ]
        whole = perf_counter() - began
    if failures:
        raise SystemExit("; ".join(failures))
    return alone, whole, read_bars(config.lake, "shares", "raw_bars_1m", symbols, dates, columns=("ts",)).height


def serve(symbols: Sequence[str], session_count: int, told: "Connection[object, str]") -> None:
    """Answer Alpaca's bars until told to stop; say the address and the number of bars first."""
    points = list(bars_of(symbols, session_count))
    with vendor_server() as server:
        server.vendor = lambda seen: page_of(points, seen)
        told.send((server.url, len(points)))
        while told.recv() != "stop":
            told.send(len(server.seen))


def bars_of(symbols: Sequence[str], session_count: int) -> Iterator[tuple[str, str, str]]:
    """Symbol, time and JSON of every bar, as Alpaca orders them."""
    from marketpipe_assets.bars.sessions import Sessions
    from marketpipe_assets.providers.synthetic import SyntheticProvider

    sessions = Sessions("XNYS", START, date(2025, 1, 1))
    request = sessions.request(sessions.dates[:session_count])
    bars = SyntheticProvider().minute_bars(symbols, *request)
    times = bars["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    bodies = bars.select(
        pl.struct(
            times.alias("t"),
            *(pl.col(name).alias(name[0]) for name in ("open", "high", "low", "close", "volume")),
            pl.col("trade_count").alias("n"),
            pl.col("vwap").alias("vw"),
        ).struct.json_encode()
    ).to_series()
    return zip(bars["symbol"], times, bodies, strict=True)


def page_of(points: Sequence[tuple[str, str, str]], seen: Seen) -> Reply:
    asked = set(seen.params["symbols"].split(","))
    start, end = (f"{datetime.fromisoformat(seen.params[name]):%Y-%m-%dT%H:%M:%SZ}" for name in ("start", "end"))
    first = int(seen.params.get("page_token", "0"))
    last = min(first + int(seen.params["limit"]), len(points))
    pages: dict[str, list[str]] = {}
    for symbol, time, body in points[first:last]:
        if symbol in asked and start <= time <= end:
            pages.setdefault(symbol, []).append(body)
    bars = ", ".join(f'"{symbol}": [{", ".join(bodies)}]' for symbol, bodies in pages.items())
    token = f'"{last}"' if last < len(points) else "null"
    return Reply(f'{{"bars": {{{bars}}}, "next_page_token": {token}}}'.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    main(options.symbols, options.sessions)
