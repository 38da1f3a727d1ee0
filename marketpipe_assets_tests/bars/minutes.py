"""Literal minute bars of tests, and runs of them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import polars as pl

from marketpipe_assets.bars.schema import FLAGS, VENDOR_COLUMNS
from marketpipe_assets.bars.sessions import Sessions, sessions

Bar = tuple[str, float | None, float | None, float | None, float | None, float | None]
"""Begin, open, high, low, close, volume."""


def calendar_of(name: str = "XNYS") -> Sessions:
    return sessions(name, date(2024, 1, 1), date(2025, 1, 1))


def minute_bars(
    *bars: Bar,
    symbol: str = "ACME",
    day: str = "2024-01-02",
    calendar: Sessions | None = None,
    trade_count: Sequence[int | None] | None = None,
    vwap: Sequence[float | None] | None = None,
) -> pl.DataFrame:
    """Bars as a provider gives them and the calendar assigns them, in the order written.

    A bar begins at `HH:MM` or `HH:MM:SS` of `day` or at `YYYY-MM-DD HH:MM`, local to the calendar, or in UTC with a Z.
    """
    calendar = calendar or calendar_of()
    rows = [
        (symbol, _instant(begin, day, calendar.timezone), *numbers, trades, average, "test", "test")
        for (begin, *numbers), trades, average in zip(
            bars, trade_count or [None] * len(bars), vwap or [None] * len(bars), strict=True
        )
    ]
    vendor = ("symbol", "ts", "open", "high", "low", "close", "volume", "trade_count", "vwap", "provider", "feed")
    return calendar.assign(pl.DataFrame(rows, schema={name: VENDOR_COLUMNS[name] for name in vendor}, orient="row"))


def minute_run(
    begin: str, count: int, day: str = "2024-01-02", price: float = 10, volume: float = 100, reach: float = 0
) -> list[Bar]:
    """Bars of consecutive minutes that open and close at one price and reach so far to both sides.

    Every other one reaches a cent higher, so that no two in a row are alike.
    """
    hour, minute = map(int, begin.split(":"))
    first = hour * 60 + minute
    return [
        (f"{day} {each // 60:02}:{each % 60:02}", price, price + reach + each % 2 / 100, price - reach, price, volume)
        for each in range(first, first + count)
    ]


def flagged(bars: pl.DataFrame) -> pl.DataFrame:
    """As `bars_1m`, with no flag."""
    return bars.with_columns(pl.lit(None, FLAGS["flags"]).alias("flags"))


def _instant(begin: str, day: str, timezone: str) -> datetime:
    instant = datetime.fromisoformat(begin if "-" in begin else f"{day} {begin}")
    return (instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)
