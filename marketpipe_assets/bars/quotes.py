"""Bid and ask as symbols of one market, `EURUSD.bid` and `EURUSD.ask`: minutes in which the ask is below the bid."""

from collections.abc import Iterable

import polars as pl

BID, ASK = ".bid", ".ask"


def pairs(symbols: Iterable[str]) -> list[str]:
    """The instruments of which both sides are among the symbols, sorted."""
    known = set(symbols)
    return sorted(each.removesuffix(BID) for each in known if each.endswith(BID) and each[: -len(BID)] + ASK in known)


def crossed(bars: pl.DataFrame) -> pl.DataFrame:
    """`instrument`, `session_date`, `minutes` both sides have, and how many of them are `crossed`.

    Compares closes: they are of the same instant, which highs and lows are not.
    """
    side = pl.col("symbol").str.slice(-len(BID))
    quotes = bars.filter(side.is_in([BID, ASK])).select(
        pl.col("symbol").str.head(-len(BID)).alias("instrument"), "session_date", "ts", "close", side.alias("side")
    )
    bid, ask = (quotes.filter(pl.col("side") == each).drop("side") for each in (BID, ASK))
    both = bid.join(ask, on=("instrument", "session_date", "ts"), suffix="_ask")
    return (
        both.group_by("instrument", "session_date")
        .agg(pl.len().alias("minutes"), (pl.col("close_ask") < pl.col("close")).sum().alias("crossed"))
        .sort("instrument", "session_date")
    )
