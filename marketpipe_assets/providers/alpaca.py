"""Minute bars and corporate actions of Alpaca: US stocks by feed, and crypto pairs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import VENDOR_COLUMNS, VENDOR_DAY_COLUMNS, empty
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    OutOfRange,
    ProviderError,
    Rate,
)
from marketpipe_assets.providers.days import dated, whole_days
from marketpipe_assets.providers.http import Answer, HttpProvider, Request, by_status, closed_before

PAGE = 10_000
KEY = ("APCA_API_KEY_ID", "ALPACA_KEY")
SECRET = ("APCA_API_SECRET_KEY", "ALPACA_SECRET")
"""Alpaca's own names of the two variables, and those of the earlier systems."""

LONGEST_SYMBOLS = 1_800
"""Characters of the list of symbols in one address; Alpaca takes some 2 kB of address."""

CRYPTO_FEED = "us"
NEW_YORK = "America/New_York"

ACTIONS: Mapping[str, pl.DataType] = {
    "action": pl.String(),
    "id": pl.String(),
    "symbol": pl.String(),
    "new_symbol": pl.String(),
    "old_rate": pl.Float64(),
    "new_rate": pl.Float64(),
    "rate": pl.Float64(),
    "cash_rate": pl.Float64(),
    "special": pl.Boolean(),
    "foreign": pl.Boolean(),
    "ex_date": pl.Date(),
    "process_date": pl.Date(),
    "record_date": pl.Date(),
    "payable_date": pl.Date(),
}
"""Columns of `corporate_actions`."""


class Bar(msgspec.Struct, gc=False):
    """A bar as Alpaca writes it."""

    t: str
    o: float
    h: float
    l: float  # noqa: E741  # the vendor's name
    c: float
    v: float
    n: int | None = None
    vw: float | None = None


class BarsPage(msgspec.Struct):
    """`bars` and `next_page_token` are always there: without them an answer is not taken for an empty one."""

    bars: dict[str, list[Bar]]
    next_page_token: str | None


class Action(msgspec.Struct, kw_only=True):
    """A corporate action of any kind: which of the fields are there depends on it."""

    id: str
    process_date: date
    symbol: str | None = None
    old_symbol: str | None = None
    source_symbol: str | None = None
    acquiree_symbol: str | None = None
    new_symbol: str | None = None
    acquirer_symbol: str | None = None
    old_rate: float | None = None
    source_rate: float | None = None
    acquiree_rate: float | None = None
    new_rate: float | None = None
    acquirer_rate: float | None = None
    rate: float | None = None
    cash_rate: float | None = None
    special: bool | None = None
    foreign: bool | None = None
    ex_date: date | None = None
    effective_date: date | None = None
    record_date: date | None = None
    payable_date: date | None = None


class ActionsPage(msgspec.Struct):
    """Kind of action, in the plural → actions."""

    corporate_actions: dict[str, list[Action]]
    next_page_token: str | None


class Endpoint(NamedTuple):
    """Where bars of one kind of symbol are, what is asked beside symbols and times, and the feed kept with them."""

    path: str
    params: Mapping[str, str | int]
    feed: str


class AlpacaProvider(HttpProvider):
    """Symbols with a slash (`BTC/USD`) are crypto and need no key; all others are US stocks of the `feed`.

    `iex` is one exchange, 2-3 % of the volume, and free; `sip` is the whole tape. The free plan refuses bars of the
    tape that are younger than 15 minutes: with `delay_minutes: 16` they are refused before they are asked for, with the
    time at which they can be had. Symbols are those of the day (`asof=-`): bars of FB stay under FB.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "crypto"),
        feeds=("iex", "sip", "otc"),
        history="since 2016; crypto since 2021",
        times="RFC 3339, start of the bar; end of a range inclusive; no row without a trade",
        page_size=PAGE,
        symbols_per_request=100,
        rates=(Rate(200, 60),),
        concurrency=4,
        secrets=(KEY, SECRET),
        keyless=True,
        daily_bars=True,
        paid_plan="for the last 15 minutes of sip",
    )
    hosts: ClassVar[tuple[str, ...]] = ("data.alpaca.markets",)

    name: str = Field(default="alpaca", description="Name of the provider, kept with each bar")
    feed: Literal["iex", "sip", "otc"] = Field(default="iex", description="Feed of stocks: iex, sip or otc")
    delay_minutes: int = Field(default=0, ge=0, description="Age bars of sip must have: 16 on the free plan")
    symbols_per_request: int = Field(default=100, gt=0, le=200, description="Most symbols in one request")

    def headers(self) -> Mapping[str, str]:
        """None without secrets: crypto is answered all the same."""
        if not self.has_secrets:
            return {}
        key, secret = self.secrets()
        return {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}

    def failure(self, answer: Answer) -> ProviderError | None:
        """401 and 403 stand for a wrong key and for a plan that does not cover the request: the words tell."""
        found = by_status(answer)
        if answer.status not in (401, 403):
            return found
        if "subscription" in answer.text or "permit" in answer.text:
            return NotEntitled(f"{found}; feed iex is in every plan, and sip once it is 15 minutes old (delay_minutes)")
        return AuthFailed(str(found))

    @property
    def feed_asked(self) -> str:
        return self.feed

    def ping(self) -> None:
        """Ask for the latest bar of one stock, or of bitcoin where no key is set."""
        if self.has_secrets:
            self.body(Request("/v2/stocks/bars/latest", {"symbols": "SPY", "feed": self.feed}))
        else:
            self.body(Request(f"/v1beta3/crypto/{CRYPTO_FEED}/latest/bars", {"symbols": "BTC/USD"}))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Crypto minutes without a trade, which Alpaca fills in, are dropped and counted."""
        end = closed_before(end)
        wanted = list(dict.fromkeys(symbols))
        if start >= end:
            return empty(VENDOR_COLUMNS)
        stocks = [symbol for symbol in wanted if "/" not in symbol]
        if stocks:
            self.secrets()  # says which is missing before anything is asked
            self._check_age(end)
        asked = [
            *((self._stocks, batch) for batch in self._batches(stocks)),
            *((self._crypto, batch) for batch in self._batches([symbol for symbol in wanted if "/" in symbol])),
        ]
        pages = chain.from_iterable(self.in_parallel(lambda each: self._bars(*each, start, end), asked))
        bars = self._traded(pl.concat([empty(VENDOR_COLUMNS), *pages]))
        place = pl.col("symbol").replace_strict(wanted, range(len(wanted)), return_dtype=pl.Int64)
        return self.checked(bars.sort(place, maintain_order=True), start, end)

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """As `BarProvider` says, for stocks: the day of the feed. Days of coins are refused, they are not UTC's."""
        if coins := [symbol for symbol in symbols if "/" in symbol]:
            raise BadRequest(f"{self.name}: expected stocks to give days of, was {', '.join(coins)}")
        first, last = (datetime.combine(day, time(), UTC) for day in (min(dates), max(dates)))
        end = closed_before(last + timedelta(days=1))
        if first >= end or not symbols:
            return empty(VENDOR_DAY_COLUMNS)
        self.secrets()  # says which is missing before anything is asked
        self._check_age(end)
        batches = list(self._batches(list(dict.fromkeys(symbols))))
        pages = self.in_parallel(lambda batch: self._bars(self._stocks, batch, first, end, "1Day"), batches)
        bars = self.checked(pl.concat([empty(VENDOR_COLUMNS), *chain.from_iterable(pages)]), first, end)
        return whole_days(dated(bars, NEW_YORK), symbols, dates)

    def corporate_actions(self, symbols: Sequence[str], start: date, end: date) -> pl.DataFrame:
        """Actions of every kind that Alpaca processed in `[start, end)`; columns are `ACTIONS`.

        Sorted by symbol, process date and id. `action` is the vendor's word (`forward_splits`, `cash_dividends` …), a
        split multiplies shares by `new_rate / old_rate`, `rate` is per share. `start` and `end` are process dates, not
        ex-dates, and actions arrive late: read the last 30 days again.
        """
        if start >= end or not symbols:
            return pl.DataFrame(schema=dict(ACTIONS))
        self.secrets()  # says which is missing before anything is asked
        last = end - timedelta(days=1)
        window: Mapping[str, str | int] = {"start": f"{start}", "end": f"{last}", "limit": 1000, "sort": "asc"}
        frames = self.in_parallel(lambda batch: self._actions(batch, window), list(self._batches(symbols)))
        return pl.concat(frames).sort("symbol", "process_date", "id")

    @property
    def _stocks(self) -> Endpoint:
        return Endpoint("/v2/stocks/bars", {"adjustment": "raw", "asof": "-", "feed": self.feed}, self.feed)

    @property
    def _crypto(self) -> Endpoint:
        return Endpoint(f"/v1beta3/crypto/{CRYPTO_FEED}/bars", {}, CRYPTO_FEED)

    def _check_age(self, end: datetime) -> None:
        if self.feed != "sip" or not self.delay_minutes:
            return
        delay = timedelta(minutes=self.delay_minutes)
        if end + delay > datetime.now(UTC):
            raise OutOfRange(
                f"{self.name}: expected an end at least {self.delay_minutes} minutes ago (delay_minutes), was {end}",
                retry_at=end + delay,
            )

    def _batches(self, symbols: Sequence[str]) -> Iterator[Sequence[str]]:
        batch: list[str] = []
        for symbol in symbols:
            if len(batch) == self.symbols_per_request or len(",".join([*batch, symbol])) > LONGEST_SYMBOLS:
                yield batch
                batch = []
            batch.append(symbol)
        if batch:
            yield batch

    def _bars(
        self, endpoint: Endpoint, symbols: Sequence[str], start: datetime, end: datetime, timeframe: str = "1Min"
    ) -> list[pl.DataFrame]:
        params = {
            "symbols": ",".join(symbols),
            "timeframe": timeframe,
            "start": _rfc3339(start),
            "end": _rfc3339(end - timedelta(microseconds=1)),
            "limit": PAGE,
            "sort": "asc",
            **endpoint.params,
        }

        def page(token: str | None) -> tuple[BarsPage, str | None]:
            answer = self.fetch(Request(endpoint.path, _with(params, token)), BarsPage)
            return answer, answer.next_page_token

        return [self._frame(answer.bars, symbols, endpoint.feed) for answer in self.pages(page)]

    def _frame(self, bars: Mapping[str, Sequence[Bar]], symbols: Sequence[str], feed: str) -> pl.DataFrame:
        if foreign := sorted(bars.keys() - set(symbols)):
            raise Malformed(f"{self.name}: expected bars of {', '.join(symbols)}, was also {', '.join(foreign)}")
        try:
            return page_frame(bars, self.name, feed)
        except pl.exceptions.PolarsError as error:
            raise Malformed(f"{self.name}: expected times such as 2026-03-10T13:30:00Z, was: {error}") from error

    def _traded(self, bars: pl.DataFrame) -> pl.DataFrame:
        has_trades = (pl.col("volume") != 0) | (pl.col("trade_count").fill_null(0) != 0)
        traded = bars.filter((pl.col("feed") != CRYPTO_FEED) | has_trades)
        self.count_filler(bars.height - traded.height)
        return traded

    def _actions(self, symbols: Sequence[str], window: Mapping[str, str | int]) -> pl.DataFrame:
        params = {"symbols": ",".join(symbols), **window}

        def page(token: str | None) -> tuple[ActionsPage, str | None]:
            answer = self.fetch(Request("/v1/corporate-actions", _with(params, token)), ActionsPage)
            return answer, answer.next_page_token

        kinds = chain.from_iterable(answer.corporate_actions.items() for answer in self.pages(page))
        rows = [_action(kind, action) for kind, actions in kinds for action in actions]
        return pl.DataFrame(rows, schema=dict(ACTIONS), orient="row")


def page_frame(bars: Mapping[str, Sequence[Bar]], provider: str, feed: str) -> pl.DataFrame:
    """The bars of a page in their order, as `VENDOR_COLUMNS`. Raises polars' error for a time that is none."""
    rows = list(chain.from_iterable(bars.values()))
    times, opens, highs, lows, closes, volumes, trades, vwaps = (
        list(map(attrgetter(field), rows)) for field in Bar.__struct_fields__
    )
    names = pl.Series(list(bars), dtype=pl.String)
    of_row = np.repeat(np.arange(len(bars)), np.array([len(each) for each in bars.values()], dtype=np.intp))
    return pl.DataFrame(
        {
            "symbol": names.gather(of_row),
            "ts": _times(times),
            "open": pl.Series(opens, dtype=pl.Float64),
            "high": pl.Series(highs, dtype=pl.Float64),
            "low": pl.Series(lows, dtype=pl.Float64),
            "close": pl.Series(closes, dtype=pl.Float64),
            "volume": pl.Series(volumes, dtype=pl.Float64),
            "trade_count": pl.Series(trades, dtype=pl.Int64),
            "vwap": pl.Series(vwaps, dtype=pl.Float64),
        }
    ).with_columns(
        pl.lit(provider).cast(pl.Categorical()).alias("provider"), pl.lit(feed).cast(pl.Categorical()).alias("feed")
    )


def _times(texts: Sequence[str]) -> pl.Series:
    # Whole seconds in a fixed form, as bars have them, are read in half the time.
    column = pl.Series(texts, dtype=pl.String)
    fixed = column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False)
    if fixed.null_count():
        return column.str.to_datetime("%+", time_unit="us", time_zone="UTC")
    return fixed


def _action(kind: str, action: Action) -> tuple[Any, ...]:
    return (
        kind,
        action.id,
        action.symbol or action.old_symbol or action.source_symbol or action.acquiree_symbol,
        action.new_symbol or action.acquirer_symbol,
        action.old_rate or action.source_rate or action.acquiree_rate,
        action.new_rate or action.acquirer_rate,
        action.rate,
        action.cash_rate,
        action.special,
        action.foreign,
        action.ex_date or action.effective_date,
        action.process_date,
        action.record_date,
        action.payable_date,
    )


def _with(params: Mapping[str, str | int], token: str | None) -> Mapping[str, str | int]:
    return params if token is None else {**params, "page_token": token}


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
