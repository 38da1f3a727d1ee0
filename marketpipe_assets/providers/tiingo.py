"""Minute bars of US stocks from Tiingo: the trades of one exchange, IEX."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import ClassVar
from urllib.parse import quote

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import PRICES, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    NotFound,
    ProviderError,
    Rate,
    RateLimited,
)
from marketpipe_assets.providers.http import Answer, HttpProvider, Request, by_status, closed_before

FEED = "iex"
DAY = timedelta(days=1)
HOUR = 3600

WORDS: Mapping[str, type[ProviderError]] = {
    "hourly request allocation": RateLimited,
    "daily request allocation": RateLimited,
    "have run over your": NotEntitled,  # symbols or bytes of the month: nothing to wait for within a run
    "permission": NotEntitled,
    "token": AuthFailed,
    "not found": NotFound,
    "error": BadRequest,
}
"""Words of a refusal → what it means, the first that is found. Most come with status 200."""


class Bar(msgspec.Struct, gc=False):
    """A bar as Tiingo writes it; `volume` is there because it is asked for."""

    date: str
    open: float
    high: float
    low: float
    close: float
    volume: float


class TiingoProvider(HttpProvider):
    """Volume is that of IEX alone, some 2-3 % of the market's.

    A day is asked for at a time, because a longer answer is cut at a number of rows Tiingo does not tell; symbols with
    a dot are asked for with a dash (BRK.B as BRK-B).
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity",),
        feeds=(FEED,),
        history="a limited number of past minutes for each symbol",
        times="ISO 8601, start of the bar; whole days; no row without a trade",
        page_size=2_000,
        symbols_per_request=1,
        rates=(Rate(50, HOUR), Rate(1_000, 24 * HOUR)),
        concurrency=1,
        secrets=(("TIINGO_API_KEY",),),
        longest_window=DAY,
        keyless=False,
        paid_plan="for more than 500 symbols a month",
    )
    hosts: ClassVar[tuple[str, ...]] = ("api.tiingo.com",)

    name: str = Field(default="tiingo", description="Name of the provider, kept with each bar")
    after_hours: bool = Field(default=False, description="Also bars before the open and after the close")

    def headers(self) -> Mapping[str, str]:
        (key,) = self.secrets()
        return {"Authorization": f"Token {key}"}

    def failure(self, answer: Answer) -> ProviderError | None:
        """Refusals are text or JSON, with status 200 or another: bars are a list, and nothing else is."""
        found = by_status(answer)
        if found is None and answer.text.startswith("["):
            return None
        if isinstance(found, Malformed) or answer.status in (408, 429) or answer.status >= 500:
            return found
        text = answer.text.lower()
        known = next((meaning for words, meaning in WORDS.items() if words in text), None)
        if text.startswith("<") or known is None:
            return found
        return known(f"status {answer.status}: {answer.text}")

    def vendor_wait(self, answer: Answer) -> float:  # noqa: ARG002  # Tiingo does not say: the quota is the hour's
        """Seconds to the full hour, when Tiingo counts anew."""
        return HOUR - datetime.now(UTC).timestamp() % HOUR

    def ping(self) -> None:
        """Ask whether the key is good."""
        self.body(Request("/api/test"))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Minutes of no volume, which are quotes and not trades, are dropped and counted."""
        end = closed_before(end)
        if start >= end:
            return empty(VENDOR_COLUMNS)
        days = _days(start, end)
        # One after another: 50 an hour are no reason to ask for several at one moment.
        answers = (self._day(symbol, day) for symbol in dict.fromkeys(symbols) for day in days)
        bars = pl.concat([empty(VENDOR_COLUMNS), *answers])
        # Tiingo answers whole days: what lies outside the window within a day was not asked for.
        return self._traded(bars.filter(pl.col("ts").is_between(start, end, closed="left")))

    def _day(self, symbol: str, day: datetime) -> pl.DataFrame:
        ticker = quote(symbol.replace(".", "-"), safe="")
        date = f"{day:%Y-%m-%d}"
        params = {
            "startDate": date,
            "endDate": date,
            "resampleFreq": "1min",
            "columns": "open,high,low,close,volume",
            "afterHours": str(self.after_hours).lower(),
            "forceFill": "false",
            "format": "json",
        }
        bars = self.fetch(Request(f"/iex/{ticker}/prices", params), list[Bar])
        # Beyond what it keeps Tiingo answers with other days than the one asked for.
        return self.checked(self._frame(symbol, bars), day, day + DAY)

    def _frame(self, symbol: str, bars: Sequence[Bar]) -> pl.DataFrame:
        columns = {name: [getattr(bar, name) for bar in bars] for name in (*PRICES, "volume")}
        times = pl.Series([bar.date for bar in bars], dtype=pl.String)
        try:
            ts = times.str.to_datetime("%+", time_unit="us", time_zone="UTC")
        except pl.exceptions.PolarsError as error:
            fault = f"{self.name}: expected times such as 2026-03-10T13:30:00.000Z, was: {error}"
        else:
            frame = pl.DataFrame({"ts": ts, **columns}, schema_overrides=dict.fromkeys(columns, pl.Float64))
            said = {"symbol": symbol, "provider": self.name, "feed": FEED}
            return conform(frame.with_columns(pl.lit(text).alias(name) for name, text in said.items()), VENDOR_COLUMNS)
        raise Malformed(fault)

    def _traded(self, bars: pl.DataFrame) -> pl.DataFrame:
        traded = bars.filter(pl.col("volume") != 0)
        self.count_filler(bars.height - traded.height)
        return traded


def _days(start: datetime, end: datetime) -> list[datetime]:
    first = datetime.combine(start.astimezone(UTC).date(), time(), UTC)
    last = (end - timedelta(microseconds=1)).astimezone(UTC)
    return [first + n * DAY for n in range((last - first).days + 1)]
