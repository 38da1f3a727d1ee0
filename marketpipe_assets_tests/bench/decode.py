"""What it costs to turn one page of Alpaca's bars into a table: ours against alpaca-py's."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
from alpaca.data.models import BarSet

from marketpipe_assets.providers.alpaca import BarsPage, page_frame
from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.measure import Cost, best, timed
from marketpipe_assets_tests.bench.options import Options

BARS = 10_000
REPETITIONS = 15
START = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)


def measured(_: Options) -> Iterator[Entry]:
    """Bars per CPU second of ours and, as `ratio`, how many times alpaca-py's that is.

    Both begin with the same bytes of a page of one symbol and end with the same rows and columns.
    """
    body = page()
    refuse_different(body)
    costs = [(timed(lambda: ours(body)), timed(lambda: theirs(body))) for _ in range(REPETITIONS)]
    mine, vendors = (best([cost[side] for cost in costs]) for side in range(2))
    yield Entry(
        "decode_speedup_vs_alpaca_py",
        round(per_second(mine)),
        "bars per CPU second",
        per_second(mine) / per_second(vendors),
        "times alpaca-py's .df",
    )


def page() -> bytes:
    """A full page, as the vendor writes it."""
    bars = [
        {
            "t": (START + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "o": round(41.1 + number / 100, 4),
            "h": round(41.22 + number / 100, 4),
            "l": round(41.05 + number / 100, 4),
            "c": round(41.18 + number / 100, 4),
            "v": 5210 + number,
            "n": 88 + number % 7,
            "vw": round(41.1402 + number / 100, 6),
        }
        for number in range(BARS)
    ]
    return json.dumps({"bars": {"ACME": bars}, "next_page_token": None}, separators=(",", ":")).encode()


def ours(body: bytes) -> pl.DataFrame:
    return page_frame(msgspec.json.decode(body, type=BarsPage).bars, "alpaca", "iex")


def theirs(body: bytes) -> object:
    return BarSet(json.loads(body)["bars"]).df  # as its client does with a response


def refuse_different(body: bytes) -> None:
    expected = pl.from_pandas(BarSet(json.loads(body)["bars"]).df.reset_index())
    columns = ["symbol", "open", "high", "low", "close", "volume", "vwap"]
    found = ours(body)
    if not found.select(columns).equals(expected.select(columns)) or found.height != BARS:
        raise ValueError(f"expected the rows alpaca-py reads, was {found}")


def per_second(cost: Cost) -> float:
    return BARS / cost.cpu
