"""Days that a new answer would make smaller: what a provider once gave is not lost to a thin answer."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

import polars as pl


class Shrunk(NamedTuple):
    """A symbol-day, and of how many different minutes bars are `stored` and were `fetched`."""

    symbol: str
    session_date: date
    stored: int
    fetched: int


SHRUNK: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "stored": pl.Int64(),
    "fetched": pl.Int64(),
}
"""Columns of a frame of `Shrunk`s."""


def shrunk_days(symbol: str, stored: pl.DataFrame, fetched: pl.DataFrame) -> list[Shrunk]:
    """The days, in order, of which an answer has fewer minutes than are stored. The frames are one symbol's bars."""
    both = _minutes(stored, "stored").join(_minutes(fetched, "fetched"), on="session_date", how="left")
    fewer = both.with_columns(pl.col("fetched").fill_null(0)).filter(pl.col("fetched") < pl.col("stored"))
    return [Shrunk(symbol, *row) for row in fewer.sort("session_date").iter_rows()]


def _minutes(bars: pl.DataFrame, name: str) -> pl.DataFrame:
    """How many different minutes each day has: copies of one that a provider takes back are no loss."""
    return bars.group_by("session_date").agg(pl.col("ts").n_unique().cast(pl.Int64).alias(name))
