"""What is known of each symbol-day from its bars: how many, from whom, which content. Why some lack is reasons.py's."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from marketpipe_assets.bars.content import content_hashes
from marketpipe_assets.bars.coverage import coverage
from marketpipe_assets.bars.order import symbol_day_starts
from marketpipe_assets.bars.schema import KEY
from marketpipe_assets.bars.sessions import Sessions


class SymbolDays(NamedTuple):
    """`facts` has a row per symbol-day that was fetched, with the columns of `catalog.ledger.FACTS`; `holes` are
    `coverage`'s of these days.
    """

    facts: pl.DataFrame
    holes: pl.DataFrame


def symbol_days(
    bars: Mapping[str, pl.DataFrame],
    fetches: pl.DataFrame,
    sessions: Sessions,
    symbols: Sequence[str],
    dates: Sequence[date],
) -> SymbolDays:
    """The facts of every symbol on every session of which there is a fetch or a bar.

    `bars` are the minute tables by name; `fetches` says by `symbol` and `session_date` which run fetched a day
    (`run_id`), since when its content stands (`fetched_at`) and by when it was confirmed (`settled_at`). Bars of the
    closed days before a session count with it.
    """
    raw, valid = bars["raw_bars_1m"], bars["bars_1m"]
    covered = coverage(raw, valid, sessions, symbols, dates)
    counts = {name: _counted(frame, sessions, name) for name, frame in bars.items()}
    firsts = raw.select(*KEY, "provider", "feed")[symbol_day_starts(raw)]
    who = firsts.unique(KEY, keep="first", maintain_order=True).with_columns(pl.col("provider", "feed").cast(pl.String))
    days = covered.days
    for frame in (*counts.values(), who, content_hashes(raw), fetches):
        days = days.join(frame, on=KEY, how="left", maintain_order="left")
    known = days.with_columns(pl.col(*COUNTED.values()).fill_null(0)).filter(
        pl.col("fetched_at").is_not_null() | (pl.col("raw_bars") > 0)
    )
    return SymbolDays(known, covered.holes.join(known, on=KEY, how="semi", maintain_order="left"))


COUNTED = {"raw_bars_1m": "raw_bars", "bars_1m": "valid_bars", "quarantined_bars_1m": "quarantined_bars"}


def counted(bars: pl.DataFrame) -> pl.DataFrame:
    """`symbol`, `session_date`, `bars` of a frame, in order of appearance."""
    starts = symbol_day_starts(bars)
    rows = pl.Series("bars", np.diff(starts, append=bars.height), dtype=pl.Int64)
    return bars.select(KEY)[starts].with_columns(rows).group_by(KEY, maintain_order=True).sum()


def _counted(bars: pl.DataFrame, sessions: Sessions, table: str) -> pl.DataFrame:
    days = counted(bars)
    owned = days.with_columns(sessions.owners(days).alias("session_date")).rename({"bars": COUNTED[table]})
    return owned.group_by(KEY, maintain_order=True).sum()
