"""Minute bars of Finnhub: stocks, and crypto and currency pairs of the venues it names."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Literal, NamedTuple

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import TIMESTAMP, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import AuthFailed, Capabilities, NotEntitled, ProviderError, Rate, RateLimited
from marketpipe_assets.providers.http import Answer, HttpProvider, Request, by_status, closed_before

LONGEST_WINDOW = timedelta(days=30)
"""Minutes of more than a month are not answered at once."""

PATHS: Mapping[str, str] = {"equity": "stock", "crypto": "crypto", "fx": "forex"}
"""Class of assets → the part of the path, which is also the feed kept with the bars."""

COLUMNS: Mapping[str, str] = {"t": "ts", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
"""Finnhub's columns → ours."""


class Candles(msgspec.Struct):
    """Columns of one length; none where the vendor has no data."""

    s: Literal["ok", "no_data"]
    t: list[int] | None = None
    o: list[float] | None = None
    h: list[float] | None = None
    l: list[float] | None = None  # noqa: E741  # the vendor's name
    c: list[float] | None = None
    v: list[float] | None = None

    def __post_init__(self) -> None:
        lengths = {name: None if column is None else len(column) for name, column in self.columns.items()}
        if self.s == "ok" and (None in lengths.values() or len(set(lengths.values())) > 1):
            raise ValueError(f"expected columns of one length, was {lengths}")

    @property
    def columns(self) -> Mapping[str, list[int] | list[float] | None]:
        return {name: getattr(self, name) for name in COLUMNS}


class Window(NamedTuple):
    """One symbol in `[start, end)`."""

    symbol: str
    start: datetime
    end: datetime


class FinnhubProvider(HttpProvider):
    """Symbols are Finnhub's own: `BRK.B`; `BINANCE:BTCUSDT` for crypto, `OANDA:EUR_USD` for fx.

    Candles are in no free plan. Intraday prices are not adjusted, though the vendor's daily ones are.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=tuple(PATHS),
        feeds=tuple(PATHS.values()),
        history="as far as the plan goes",
        times="seconds, start of the bar; end of a range inclusive; no entry without a trade",
        symbols_per_request=1,
        rates=(Rate(60, 60), Rate(30, 1)),
        concurrency=4,
        secrets=(("FINNHUB_API_KEY", "MP_FINNHUB_API_KEY"),),
        longest_window=LONGEST_WINDOW,
        keyless=False,
        paid_plan="yes",
    )
    hosts: ClassVar[tuple[str, ...]] = ("finnhub.io",)

    name: str = Field(default="finnhub", description="Name of the provider, kept with each bar")
    asset_class: Literal["equity", "crypto", "fx"] = Field(
        default="equity", description="What the symbols are: equity, crypto or fx"
    )

    def headers(self) -> Mapping[str, str]:
        (key,) = self.secrets()
        return {"X-Finnhub-Token": key}

    def failure(self, answer: Answer) -> ProviderError | None:
        """A request without a key is told as one too many: the words tell, also where the status is 200."""
        told = f"status {answer.status}: {answer.text}"
        if "Please sign up" in answer.text:
            return AuthFailed(told)
        if "API limit reached" in answer.text:
            return RateLimited(told)
        found = by_status(answer)
        if answer.status == 403:
            return NotEntitled(f"{told}; candles need a paid plan of Finnhub")
        return AuthFailed(told) if answer.status == 401 else found

    @property
    def feed_asked(self) -> str:
        return PATHS[self.asset_class]

    def ping(self) -> None:
        """Ask for a quote, which every plan has: that candles need a paid one is told when they are asked for."""
        self.body(Request("/api/v1/quote", {"symbol": "SPY"}))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        end = closed_before(end)
        windows = [Window(symbol, *part) for symbol in dict.fromkeys(symbols) for part in _months(start, end)]
        # A plan without candles is told by the first answer, before the others are asked for.
        first = [self._bars(window) for window in windows[:1]]
        return pl.concat([empty(VENDOR_COLUMNS), *first, *self.in_parallel(self._bars, windows[1:])])

    def _bars(self, window: Window) -> pl.DataFrame:
        symbol, start, end = window
        params: Mapping[str, str | int] = {
            "symbol": symbol,
            "resolution": "1",
            "from": int(start.timestamp()),
            "to": int(end.timestamp()) - 1,
        }
        path = PATHS[self.asset_class]
        candles = self.fetch(Request(f"/api/v1/{path}/candle", params), Candles)
        if candles.s == "no_data":
            return empty(VENDOR_COLUMNS)
        types = {name: pl.Int64 if name == "t" else pl.Float64 for name in COLUMNS}
        said = {"symbol": symbol, "provider": self.name, "feed": path}
        bars = (
            pl.DataFrame(dict(candles.columns), schema=types)
            .rename(dict(COLUMNS))
            .with_columns(
                pl.from_epoch("ts", time_unit="s").cast(TIMESTAMP),
                *(pl.lit(text).alias(name) for name, text in said.items()),
            )
        )
        return self.checked(conform(bars, VENDOR_COLUMNS), start, end)


def _months(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    parts = -(-(end - start) // LONGEST_WINDOW)
    starts = [start + n * LONGEST_WINDOW for n in range(parts)]
    return [(first, min(first + LONGEST_WINDOW, end)) for first in starts]
