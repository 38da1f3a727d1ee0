"""Daily bars as vendors say them, brought to one form."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from marketpipe_assets.bars.schema import VENDOR_DAY_COLUMNS, conform
from marketpipe_assets.providers.base import Malformed

KEY = ("symbol", "session_date")


def dated(bars: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Bars with the date of the zone that `ts` falls on as `session_date`, in place of it."""
    day = pl.col("ts").dt.convert_time_zone(zone).dt.date()
    return bars.with_columns(day.alias("session_date")).drop("ts")


def whole_days(days: pl.DataFrame, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    """The days asked for, as `BarProvider.daily_bars` gives them. Raises `Malformed` where one comes twice."""
    asked = days.filter(pl.col("session_date").is_in(list(dates)))
    twice = asked.filter(pl.struct(KEY).is_duplicated()).head(1)
    if twice.height:
        symbol, day = twice.select(KEY).row(0)
        raise Malformed(f"expected one bar of {symbol} for {day}, there are two")
    order = pl.DataFrame({"symbol": list(dict.fromkeys(symbols))}, schema={"symbol": pl.String()}).with_row_index()
    placed = asked.join(order, on="symbol", how="inner").sort("index", "session_date")
    return conform(placed.select(*VENDOR_DAY_COLUMNS), VENDOR_DAY_COLUMNS)
