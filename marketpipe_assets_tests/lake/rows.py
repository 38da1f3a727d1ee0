"""Literal bars for the tests of the lake."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from marketpipe_assets.bars.schema import columns_of, conform
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import metadata

MARKET = "us_equities"
TUESDAY, WEDNESDAY, THURSDAY = date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)
FEBRUARY = date(2024, 2, 1)

LISTS: dict[str, list[str]] = {"flags": ["waived"], "broken_rules": ["ohlc_logic", "negative_volume"]}
"""What every third bar holds in a table's list column."""


def bars_of(
    symbol: str,
    day: date,
    prices: Sequence[float] = (10.0, 11.0, 12.0),
    *,
    table: str = "bars_1m",
    provider: str = "synthetic",
    feed: str | None = None,
) -> pl.DataFrame:
    """Consecutive minutes from 14:30 UTC, one for each price; `trade_count` and `vwap` are null."""
    columns = columns_of(table)
    first = datetime.combine(day, time(14, 30), UTC)
    rows = [
        {
            "symbol": symbol,
            "ts": first + timedelta(minutes=minute),
            "session_date": day,
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price,
            "volume": 100.0,
            "trade_count": None,
            "vwap": None,
            "session": "regular",
            "provider": provider,
            "feed": feed,
            **{name: LISTS[name] if minute % 3 == 0 else [] for name in LISTS if name in columns},
        }
        for minute, price in enumerate(prices)
    ]
    plain = {name: pl.String() if dtype == pl.Categorical else dtype for name, dtype in columns.items()}
    return conform(pl.DataFrame(rows, schema=plain), columns)


def store(lake: Path, *frames: pl.DataFrame, table: str = "bars_1m") -> None:
    """Write each frame as all that is known of its symbols and dates."""
    for bars in frames:
        symbols, dates = bars["symbol"].unique().to_list(), bars["session_date"].unique().to_list()
        write_bars(lake, MARKET, table, bars, symbols, dates)


def path_of(lake: Path, folder: str, period: str = "2024-01", table: str = "bars_1m") -> Path:
    return lake / MARKET / table / f"symbol={folder}" / f"{period}.parquet"


def said_of(symbol: str, table: str = "bars_1m") -> dict[str, str]:
    """The metadata of a file of this symbol."""
    return dict(metadata(MARKET, table, symbol))
