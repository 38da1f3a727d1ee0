"""Which sessions of each symbol are due: while it is listed, and neither removed by retention nor old enough to be.

Whether they were fetched, and when to ask for them, is wanted.py's.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.bars.sessions import today
from marketpipe_assets.catalog.asking import pruned_through
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market


class DueSpan(NamedTuple):
    """Half-open session dates; empty where `end` is not after `first`."""

    first: date
    end: date

    def of(self, dates: Sequence[date]) -> Sequence[date]:
        """Those of these dates, which are in order, that lie within."""
        return dates[bisect_left(dates, self.first) : bisect_left(dates, self.end)]


def due_spans(catalog: Catalog, market: Market) -> Mapping[str, DueSpan]:
    """Configured symbol → the dates of which bars of it are due once they are published."""
    pruned = pruned_through(catalog, market.name, (RAW, "bars_1m"))
    kept = first_kept(market)
    spans = {}
    for symbol in market.symbols:
        first, end = listed_span(market, symbol)
        after = pruned[symbol] + timedelta(days=1) if symbol in pruned else date.min
        spans[symbol] = DueSpan(max(first, kept, after), end)
    return spans


def within(days: pl.DataFrame, spans: Mapping[str, DueSpan]) -> pl.DataFrame:
    """The rows, in their order, whose `session_date` lies within the span of their `symbol`; none of other symbols."""
    rows = [(symbol, *span) for symbol, span in spans.items()]
    ends = pl.DataFrame(rows, schema={"symbol": pl.String(), "first": pl.Date(), "end": pl.Date()}, orient="row")
    is_due = pl.col("session_date").is_between("first", "end", closed="left")
    joined = days.select("symbol", "session_date").join(ends, on="symbol", how="left", maintain_order="left")
    return days.filter(joined.select(is_due.fill_null(False)).to_series())


def first_kept(market: Market) -> date:
    """The first date of which the market keeps raw bars."""
    return max(market.start, market.kept_from(RAW, today()) or date.min)


def listed_span(market: Market, symbol: str) -> DueSpan:
    """The dates on which a symbol could be traded, as far as `listings` tells."""
    listing = market.listings.get(symbol)
    if listing is None:
        return DueSpan(date.min, date.max)
    return DueSpan(listing.first or date.min, listing.end or date.max)
