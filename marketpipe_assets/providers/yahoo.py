"""Minute bars of Yahoo's charts: unofficial, of the last 30 days, without a key. Needs the extra `yahoo`."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar
from urllib.parse import quote

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import PRICES, TIMESTAMP, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    BadRequest,
    Capabilities,
    Malformed,
    NotFound,
    OutOfRange,
    ProviderError,
    Rate,
)
from marketpipe_assets.providers.browser import BrowserTransport
from marketpipe_assets.providers.http import Answer, HttpProvider, Request, by_status, closed_before

FEED = "chart"
LONGEST_WINDOW = timedelta(days=8)
MINUTE = 60
VALUES = (*PRICES, "volume")

REASONS: Mapping[str, type[ProviderError]] = {
    "last 30 days": OutOfRange,
    "granularity data are allowed": OutOfRange,
    "No data found": NotFound,
}
"""Words of an error → what it means, the first that is found; others are a request Yahoo does not take."""

SHARE_CLASS = re.compile(r"^([A-Z]+)\.([A-C])$")
"""A share and its class. Exchanges whose suffix is one letter have others: .L, .T, .F, .V."""

NO_BARS = "Data doesn't exist"
"""How Yahoo says that a window holds nothing, in place of a chart without times."""


class Quote(msgspec.Struct):
    """Columns of a chart, null in a minute without a trade; none of them where there are no bars."""

    open: list[float | None] = []
    high: list[float | None] = []
    low: list[float | None] = []
    close: list[float | None] = []
    volume: list[float | None] = []


class Indicators(msgspec.Struct):
    """Yahoo sends one quote, in a list."""

    quote: Annotated[list[Quote], msgspec.Meta(min_length=1, max_length=1)]


class Result(msgspec.Struct):
    """The bars of one symbol; `timestamp` is absent where there are none, and in seconds."""

    indicators: Indicators
    timestamp: list[Annotated[int, msgspec.Meta(ge=0, lt=10**11)]] = []


class Fault(msgspec.Struct):
    """Why there is no chart."""

    description: str


class Charts(msgspec.Struct):
    """One result, in a list, or an error."""

    result: Annotated[list[Result], msgspec.Meta(min_length=1, max_length=1)] | None
    error: Fault | None


class Envelope(msgspec.Struct):
    """What every chart stands in."""

    chart: Charts


class Refusal(msgspec.Struct):
    """The part of an answer that tells a fault, whatever the rest is."""

    error: Fault | None = None


class RefusedChart(msgspec.Struct):
    """Where a `Refusal` stands."""

    chart: Refusal


class YahooProvider(HttpProvider):
    """Classes of shares are asked for with a dash (BRK.B as BRK-B); what follows another dot is an exchange (SAP.DE).

    `symbols` names those that Yahoo spells otherwise (SPX as ^GSPC, BTC/USD as BTC-USD), and comes before the dash.

    Yahoo adjusts minutes for splits of the days it still has. Without the fingerprint of a browser it answers that
    there were too many requests; a cookie or a crumb, which its other pages want, it does not ask of charts.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "crypto", "fx", "future", "index"),
        feeds=(FEED,),
        history="30 days",
        times="seconds, start of the bar; end of a range exclusive; nulls without a trade; adjusted for splits",
        symbols_per_request=1,
        rates=(Rate(30, 60),),
        longest_window=LONGEST_WINDOW,
        quota_per="address",
        concurrency=1,
        keyless=True,
        paid_plan="no; personal use",
    )
    hosts: ClassVar[tuple[str, ...]] = ("query2.finance.yahoo.com", "query1.finance.yahoo.com")

    name: str = Field(default="yahoo", description="Name of the provider, kept with each bar")
    symbols: dict[str, str] = Field(default={}, description="Our symbols → Yahoo's, where they differ")
    extended_hours: bool = Field(default=False, description="Also bars before the open and after the close")

    def transport(self) -> BrowserTransport:
        return BrowserTransport(self.answer_seconds, direct=self.is_local)

    def failure(self, answer: Answer) -> ProviderError | None:
        """Errors are in the chart, with a status of 4xx or 200; a limit is text."""
        fault = _fault(answer)
        if answer.status in (408, 429) or answer.status >= 500 or fault is None:
            return by_status(answer)
        if NO_BARS in fault:
            return None
        return next((meaning for words, meaning in REASONS.items() if words in fault), BadRequest)(fault)

    def ping(self) -> None:
        """Ask for the last hour of one stock."""
        now = closed_before(datetime.now(UTC))
        self._chart("SPY", now - timedelta(hours=1), now)

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Minutes without a trade, which Yahoo leaves null, are dropped and counted.

        Raises `OutOfRange` where Yahoo does, for a start more than 30 days ago.
        """
        end = closed_before(end)
        if start >= end:
            return empty(VENDOR_COLUMNS)
        parts = [(symbol, *window) for symbol in dict.fromkeys(symbols) for window in _windows(start, end)]
        return self.checked(pl.concat([empty(VENDOR_COLUMNS), *(self._asked(*part) for part in parts)]), start, end)

    def _asked(self, symbol: str, start: datetime, end: datetime) -> pl.DataFrame:
        chart = self._chart(symbol, start, end)
        if chart.result is None and chart.error is None:
            raise Malformed(f"{self.name}: expected a chart of {symbol} or why there is none, was neither")
        if chart.result is None:
            return empty(VENDOR_COLUMNS)
        (result,) = chart.result
        # Yahoo appends the latest price, at the second of its trade and even where it lies after the end: no bar.
        bars = self._frame(symbol, result).filter(pl.col("ts") < end, pl.col("ts").dt.epoch("s") % MINUTE == 0)
        traded = bars.drop_nulls(PRICES)
        self.count_filler(bars.height - traded.height)
        return traded

    def _chart(self, symbol: str, start: datetime, end: datetime) -> Charts:
        ticker = quote(self.symbols.get(symbol, SHARE_CLASS.sub(r"\1-\2", symbol)), safe="")
        params: dict[str, str | int] = {
            "period1": int(start.timestamp()),
            "period2": int(end.timestamp()),
            "interval": "1m",
            "includePrePost": str(self.extended_hours).lower(),
        }
        return self.fetch(Request(f"/v8/finance/chart/{ticker}", params), Envelope).chart

    def _frame(self, symbol: str, result: Result) -> pl.DataFrame:
        columns = {name: getattr(result.indicators.quote[0], name) for name in VALUES}
        times = pl.Series(result.timestamp, dtype=pl.Int64) * 1_000_000
        if wrong := [name for name, values in columns.items() if len(values) != len(times)]:
            raise Malformed(
                f"{self.name}: expected {len(times)} values of {', '.join(wrong)} for {symbol}, as there are times, "
                f"was {', '.join(str(len(columns[name])) for name in wrong)}"
            )
        said = {"symbol": symbol, "provider": self.name, "feed": FEED}
        bars = pl.DataFrame(columns, schema=dict.fromkeys(VALUES, pl.Float64)).with_columns(ts=times.cast(TIMESTAMP))
        return conform(bars.with_columns(pl.lit(text).alias(name) for name, text in said.items()), VENDOR_COLUMNS)


def _fault(answer: Answer) -> str | None:
    try:
        error = msgspec.json.decode(answer.body, type=RefusedChart).chart.error
    except msgspec.DecodeError:
        return None
    return error.description if error is not None else None


def _windows(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    starts = [start + n * LONGEST_WINDOW for n in range(-(-(end - start) // LONGEST_WINDOW))]
    return [(first, min(first + LONGEST_WINDOW, end)) for first in starts]
