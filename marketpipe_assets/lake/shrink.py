"""Keep a symbol-day that a new answer would make smaller: what a provider once gave is not lost to a thin answer."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.lake.scan import read_bars

KEY = ("symbol", "session_date")


class Guarded(NamedTuple):
    """`bars` to store, and the symbol-days whose stored bars they keep.

    `shrunk` has `symbol`, `session_date`, and how many bars are `stored` and were `fetched`.
    """

    bars: pl.DataFrame
    shrunk: pl.DataFrame


def guard_shrink(
    lake: Path, market: str, table: str, bars: pl.DataFrame, symbols: Sequence[str], dates: Sequence[date]
) -> Guarded:
    """`bars`, but with the stored ones for each symbol-day of which more are stored."""
    held = read_bars(lake, market, table, symbols, dates, columns=("symbol", "ts", "session_date"))
    stored, fetched = _minutes(held, "stored"), _minutes(bars, "fetched")
    shrunk = (
        stored.join(fetched, on=KEY, how="left", maintain_order="left")
        .with_columns(pl.col("fetched").fill_null(0))
        .filter(pl.col("fetched") < pl.col("stored"))
    )
    if shrunk.is_empty():
        return Guarded(bars, shrunk)
    kept = read_bars(lake, market, table, symbols, shrunk["session_date"].unique().to_list())
    together = pl.concat([bars.join(shrunk, on=KEY, how="anti"), kept.join(shrunk, on=KEY, how="semi")])
    return Guarded(together.sort(KEY, maintain_order=True), shrunk)


def _minutes(bars: pl.DataFrame, name: str) -> pl.DataFrame:
    """How many different minutes each symbol-day has: copies of one that a provider takes back are no loss."""
    return bars.group_by(KEY, maintain_order=True).agg(pl.col("ts").n_unique().cast(pl.Int64).alias(name))
