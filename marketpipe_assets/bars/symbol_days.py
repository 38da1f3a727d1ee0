"""What is known of each symbol-day from its bars: how many, from whom, which content. Why some lack is reasons.py's."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.content import content_hashes
from marketpipe_assets.bars.coverage import KEY, coverage
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
    (`run_id`) and since when its content stands (`fetched_at`). Bars of the closed days before a session count with it.
    """
    raw, valid = bars["raw_bars_1m"], bars["bars_1m"]
    covered = coverage(raw, valid, sessions, symbols, dates)
    counts = {name: _counted(frame, sessions, name) for name, frame in bars.items()}
    who = raw.group_by(KEY, maintain_order=True).agg(pl.col("provider", "feed").first().cast(pl.String))
    days = covered.days
    for frame in (*counts.values(), who, content_hashes(raw), fetches):
        days = days.join(frame, on=KEY, how="left", maintain_order="left")
    known = days.with_columns(pl.col(*COUNTED.values()).fill_null(0)).filter(
        pl.col("fetched_at").is_not_null() | (pl.col("raw_bars") > 0)
    )
    return SymbolDays(known, covered.holes.join(known, on=KEY, how="semi", maintain_order="left"))


COUNTED = {"raw_bars_1m": "raw_bars", "bars_1m": "valid_bars", "quarantined_bars_1m": "quarantined_bars"}


def _counted(bars: pl.DataFrame, sessions: Sessions, table: str) -> pl.DataFrame:
    owned = bars.select("symbol", sessions.owners(bars).alias("session_date"))
    return owned.group_by(KEY, maintain_order=True).agg(pl.len().cast(pl.Int64).alias(COUNTED[table]))
