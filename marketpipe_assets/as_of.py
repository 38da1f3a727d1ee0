"""Tables as they were at an instant: raw bars as they stood, the others built from them by today's rules."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import polars as pl

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.resample import Anchor, resample
from marketpipe_assets.bars.schema import QUARANTINED, RAW, VALID, columns_of, empty
from marketpipe_assets.bars.timeframes import TIMEFRAMES
from marketpipe_assets.config import Market
from marketpipe_assets.lake.superseded import raw_as_of


def bars_as_of(
    lake: Path, market: Market, table: str, symbols: Sequence[str], dates: Sequence[date], moment: datetime
) -> pl.DataFrame:
    """What `table` held of these symbols and dates at an instant, as `read_bars` gives what it holds now.

    Symbols are read some at a time, so that no more raw bars are held at once than by a run of the market.
    """
    if not dates:
        return empty(columns_of(table))
    at_once = max(market.max_symbol_days_per_run // len(dates), 1)
    parts = [
        _part(lake, market, table, symbols[first : first + at_once], dates, moment)
        for first in range(0, len(symbols), at_once)
    ]
    return pl.concat([empty(columns_of(table)), *parts])


def _part(
    lake: Path, market: Market, table: str, symbols: Sequence[str], dates: Sequence[date], moment: datetime
) -> pl.DataFrame:
    owned = market.sessions.owned_dates(sorted({*dates} & {*market.sessions.dates}))
    raw = raw_as_of(lake, market.name, symbols, owned, moment)
    return _derived(market, table, raw).filter(pl.col("session_date").is_in(list(dates)))


def _derived(market: Market, table: str, raw: pl.DataFrame) -> pl.DataFrame:
    """A table of the market from its raw bars, by the functions that its assets are built with."""
    if table == RAW:
        return raw
    split = split_by_rules(raw, market.rule_set, market.sessions)
    if table == VALID:
        return split.valid
    if table == QUARANTINED:  # stored by time, ties in their order of arrival
        return split.quarantined.sort(pl.col("symbol").rle_id(), "ts", maintain_order=True)
    timeframes = [TIMEFRAMES[label] for label in market.timeframes]  # all: a day adds up hours where they are built
    longer = resample(split.valid, timeframes, market.sessions, market.session, Anchor(market.anchor))
    return next(longer[each.label] for each in timeframes if each.table == table)
