"""Expected minutes against received ones, per symbol and session."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from marketpipe_assets.bars.clock import MICROSECONDS_PER_MINUTE
from marketpipe_assets.bars.sessions import Sessions


def coverage(bars: pl.DataFrame, sessions: Sessions, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    """One row per symbol and session, also where there is no bar at all.

    `symbol`, `session_date`, `expected_minutes` of the regular session, `received_minutes` (distinct regular minutes in
    `bars`, raw or valid, those in a break not counted), `missing_minutes`.
    """
    expected = pl.DataFrame({"symbol": list(symbols)}).join(sessions.expected_minutes(dates), how="cross")
    breaks = sessions.table.select("session_date", "break_start", "break_end")
    minute = pl.col("ts").to_physical() // MICROSECONDS_PER_MINUTE
    in_break = pl.col("ts").is_between("break_start", "break_end", closed="left").fill_null(False)
    regular = bars.filter(pl.col("session") == "regular").select("symbol", "session_date", "ts")
    if breaks["break_start"].null_count() < breaks.height:
        regular = regular.join(breaks, on="session_date", how="left").filter(~in_break)
    received = regular.group_by("symbol", "session_date").agg(minute.n_unique().alias("received_minutes"))
    return (
        expected.join(received, on=("symbol", "session_date"), how="left", maintain_order="left")
        .with_columns(pl.col("received_minutes").fill_null(0).cast(pl.Int64))
        .with_columns((pl.col("expected_minutes") - pl.col("received_minutes")).alias("missing_minutes"))
    )


def covered_share(rows: pl.DataFrame) -> float:
    """Received minutes over expected ones, 1.0 where none is expected."""
    received, expected = rows.select(pl.sum("received_minutes", "expected_minutes")).row(0)
    return 1.0 if expected == 0 else float(received / expected)
