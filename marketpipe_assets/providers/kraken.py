"""Minute bars of Kraken's spot market: the newest 720 minutes, and none before."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import PRICES, TIMESTAMP, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfRange,
    ProviderError,
    Rate,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.http import Answer, HttpProvider, Request, by_status, closed_before

FEED = "spot"
NEWEST = 720
"""Minutes Kraken tells, whatever it is asked, the running one among them."""

THEIRS: Mapping[str, str] = {"BTC": "XBT", "DOGE": "XDG"}
"""Our name of a currency → Kraken's, where they differ."""

ERRORS: Mapping[str, type[ProviderError]] = {
    "EGeneral:Too many requests": RateLimited,
    "EGeneral:Temporary lockout": RateLimited,
    "EAPI:Rate limit exceeded": RateLimited,
    "EService:Throttled": RateLimited,
    "EService": Transient,
    "EGeneral:Internal error": Transient,
    "EGeneral:Permission denied": NotEntitled,
    "EQuery:Unknown asset pair": NotFound,
    "E": BadRequest,
}
"""How an error begins → what it means, the first that fits. They come with status 200."""

WAIT = 5.0
LOCKOUT = 15 * 60.0


class Candle(msgspec.Struct, array_like=True, gc=False):
    """A bar as Kraken writes it. The time is in seconds."""

    time: Annotated[int, msgspec.Meta(ge=0, lt=10**11)]
    open: str
    high: str
    low: str
    close: str
    vwap: str
    volume: str
    trade_count: int


class Envelope(msgspec.Struct):
    """What every answer has: errors begin with E, warnings with W."""

    error: list[str]


class Candles(msgspec.Struct):
    """Bars under Kraken's own name of the pair, which is not the one asked by, and `last`, the newest that is over."""

    result: dict[str, list[Candle] | int]


class KrakenProvider(HttpProvider):
    """Symbols are `BTC/USD` or `BTC-USD`, or as Kraken spells them: `XBTUSD`.

    Kraken tells the newest 720 minutes and no others: a range that begins before them is refused whole. Ingest before
    they are gone, or name another provider for what is older. Sessions of more than 12 hours are never told whole:
    with `parts` the minutes that are left of one are kept where no other provider has the session, and those that are
    gone are missing from it as from any other.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("crypto",),
        feeds=(FEED,),
        history="the newest 720 minutes: of sessions of more than 12 hours the end",
        times="seconds, start of the bar; no end of a range; minutes without a trade are rows without volume",
        page_size=NEWEST,
        symbols_per_request=1,
        rates=(Rate(1, 1),),
        quota_per="address",
        concurrency=1,
    )
    hosts: ClassVar[tuple[str, ...]] = ("api.kraken.com",)

    name: str = Field(default="kraken", description="Name of the provider, kept with each bar")
    parts: bool = Field(default=False, description="Keep what is left of sessions that began before 720 minutes")

    def failure(self, answer: Answer) -> ProviderError | None:
        """Errors come with status 200, in `error`."""
        errors = [error for error in _errors(answer) if error.startswith("E")]
        if not errors:
            return by_status(answer)
        known = next(meaning for beginning, meaning in ERRORS.items() if errors[0].startswith(beginning))
        return known(", ".join(errors))

    def vendor_wait(self, answer: Answer) -> float:
        """A lockout lasts 15 minutes; the quota fills up within seconds."""
        return LOCKOUT if "lockout" in answer.text else WAIT

    def ping(self) -> None:
        """Ask for the time."""
        self.body(Request("/0/public/Time"))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Minutes without a trade, which Kraken fills in, are dropped and counted.

        Raises `OutOfRange` where the newest 720 minutes begin after `start`.
        """
        end = closed_before(end)
        if start >= end:
            return empty(VENDOR_COLUMNS)
        # one a second is the quota, so a pair that is out of reach is told before the next one is asked for
        told = {symbol: self._candles(symbol, start, end) for symbol in dict.fromkeys(symbols)}
        # The last one is the minute that is running, or was when Kraken answered.
        parts = [self._frame(symbol, candles[:-1]) for symbol, candles in told.items()]
        bars = pl.concat([empty(VENDOR_COLUMNS), *parts]).filter(pl.col("ts").is_between(start, end, closed="left"))
        traded = bars.filter((pl.col("volume") != 0) | (pl.col("trade_count") != 0))
        self.count_filler(bars.height - traded.height)
        first = max(map(_reach, told.values()), default=start)
        if _is_before(start, first):
            raise self._out_of_range(start, first, traded)
        return traded

    def _candles(self, symbol: str, start: datetime, end: datetime) -> list[Candle]:
        request = Request("/0/public/OHLC", {"pair": _spelled(symbol), "interval": 1})
        candles = self._checked(symbol, self.fetch(request, Candles).result)
        first = _reach(candles)
        if _is_before(start, first) and not (self.parts and first < end):
            raise self._out_of_range(start, first)
        return candles

    def _checked(self, symbol: str, result: Mapping[str, list[Candle] | int]) -> list[Candle]:
        last = result.get("last")
        found = [candles for candles in result.values() if isinstance(candles, list)]
        if len(found) != 1 or not found[0] or not isinstance(last, int):
            raise Malformed(
                f"{self.name}: expected one pair's bars, the running one at least, and `last` for {symbol}, "
                f"was {', '.join(result) or 'nothing'} with {sum(map(len, found))} bars"
            )
        newest = max((candle.time for candle in found[0][:-1]), default=last)
        if newest > last:
            raise Malformed(f"{self.name}: expected bars of {symbol} until {_instant(last)}, was {_instant(newest)}")
        return found[0]

    def _out_of_range(self, start: datetime, first: datetime, part: pl.DataFrame | None = None) -> OutOfRange:
        return OutOfRange(
            f"{self.name}: expected a start of {first} or later (Kraken tells the newest {NEWEST} minutes only, "
            f"whatever it is asked), was {start}; name another provider for older ones, or set `parts` to keep what is "
            "left of a session",
            part=part,
        )

    def _frame(self, symbol: str, candles: Sequence[Candle]) -> pl.DataFrame:
        texts = {name: [getattr(candle, name) for candle in candles] for name in (*PRICES, "volume", "vwap")}
        times = pl.Series([candle.time for candle in candles], dtype=pl.Int64) * 1_000_000
        counts = pl.Series([candle.trade_count for candle in candles], dtype=pl.Int64)
        try:
            numbers = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String)).cast(pl.Float64)
        except pl.exceptions.PolarsError as error:
            fault = f"{error}"
        else:
            if all(column.is_finite().all() for column in numbers):
                said = {"symbol": symbol, "provider": self.name, "feed": FEED}
                bars = numbers.with_columns(ts=times.cast(TIMESTAMP), trade_count=counts)
                return conform(
                    bars.with_columns(pl.lit(text).alias(name) for name, text in said.items()), VENDOR_COLUMNS
                )
            fault = "infinite, or not a number"
        raise Malformed(f"{self.name}: expected numbers as prices and volumes of {symbol}, was: {fault}")


def _errors(answer: Answer) -> list[str]:
    try:
        return msgspec.json.decode(answer.body, type=Envelope).error
    except msgspec.DecodeError:
        return []


def _reach(candles: Sequence[Candle]) -> datetime:
    told = min(candle.time for candle in candles)
    # Where fewer are told, the pair is younger; the reach of the vendor is the same.
    return _instant(min(told, candles[-1].time - (NEWEST - 1) * 60))


def _is_before(start: datetime, first: datetime) -> bool:
    return start <= first - timedelta(minutes=1)


def _spelled(symbol: str) -> str:
    return "".join(THEIRS.get(name, name) for name in symbol.replace("-", "/").split("/"))


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
