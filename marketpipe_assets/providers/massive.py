"""Minute bars and reference data of Massive, formerly Polygon: by symbol over its API, or the whole market by day."""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.calendars import schedule
from marketpipe_assets.bars.schema import VENDOR_COLUMNS, VENDOR_DAY_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadFile,
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfRange,
    ProviderError,
    Rate,
    RateLimited,
)
from marketpipe_assets.providers.days import dated, whole_days
from marketpipe_assets.providers.formats.archive import Limits
from marketpipe_assets.providers.formats.massive import Massive
from marketpipe_assets.providers.formats.reader import READ_COLUMNS, Settings, local_dates
from marketpipe_assets.providers.http import (
    TORN_ATTEMPTS,
    Answer,
    HttpProvider,
    Request,
    by_status,
    closed_before,
    link_path,
)

T = TypeVar("T")
Results = TypeVar("Results", bound="Page[Any]")

PAGE = 50_000
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
LONGEST_SPAN = 31 * DAY
"""Asked for at once: with a bar in each of its minutes it is one page."""

DELAY = 15 * MINUTE
"""Age of the newest bar in an answer of status DELAYED."""

NEW_YORK = "America/New_York"
LAST_TRADE = time(20)
PUBLISHED = time(11)
"""New York time at which a day's flat file is there, the day after."""

STOCKS = "sip"
FEEDS: Mapping[str, str] = {"": STOCKS, "X": "crypto", "C": "forex"}
"""What stands before the colon of a ticker → feed. Options and indices have no such bars."""

LONGEST_REFUSAL = 4096
WORDS: Mapping[str, type[ProviderError]] = {
    "api key": AuthFailed,
    "maximum requests": RateLimited,
    "not_authorized": NotEntitled,
    "not_found": NotFound,
}
"""Words of a refusal that comes with status 200 → what it means, the first that is found."""

CODES: Mapping[str, type[ProviderError]] = {
    "InvalidAccessKeyId": AuthFailed,
    "SignatureDoesNotMatch": AuthFailed,
    "RequestTimeTooSkewed": AuthFailed,
}
"""Codes of S3 for a 403 that is no matter of the plan."""

DAILY: Mapping[str, pl.DataType] = {
    "session_date": pl.Date(),
    **{name: dtype for name, dtype in READ_COLUMNS.items() if name != "ts"},
}
"""Columns of `grouped_bars`."""

TIMED: Mapping[str, pl.DataType] = {
    "ts": pl.Int64(),
    **{name: dtype for name, dtype in READ_COLUMNS.items() if name not in ("symbol", "ts")},
}
"""A bar's fields, its time as the vendor says it."""

TICKERS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "name": pl.String(),
    "type": pl.String(),
    "primary_exchange": pl.String(),
    "active": pl.Boolean(),
    "currency": pl.String(),
    "cik": pl.String(),
    "composite_figi": pl.String(),
    "share_class_figi": pl.String(),
}
"""Columns of `tickers`."""

TICKER_EVENTS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "event": pl.String(),
    "event_date": pl.Date(),
    "new_symbol": pl.String(),
}
"""Columns of `ticker_events`."""

SPLITS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "execution_date": pl.Date(),
    "split_from": pl.Float64(),
    "split_to": pl.Float64(),
    "id": pl.String(),
}
"""Columns of `splits`."""

DIVIDENDS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "ex_dividend_date": pl.Date(),
    "cash_amount": pl.Float64(),
    "currency": pl.String(),
    "dividend_type": pl.String(),
    "frequency": pl.Int64(),
    "declaration_date": pl.Date(),
    "record_date": pl.Date(),
    "pay_date": pl.Date(),
    "id": pl.String(),
}
"""Columns of `dividends`."""

NAMES = {
    "symbol": "T",
    "ts": "t",
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
    "trade_count": "n",
    "vwap": "vw",
}
"""Our columns → the vendor's."""


class Bar(msgspec.Struct, gc=False, rename=NAMES):
    """A bar as Massive writes it; its time is in milliseconds."""

    ts: Annotated[int, msgspec.Meta(ge=0, lt=10**13)]
    open: float
    high: float
    low: float
    close: float
    volume: float
    trade_count: int | None = None
    vwap: float | None = None


class DailyBar(msgspec.Struct, gc=False, rename=NAMES):
    """A symbol's day as grouped daily bars have it."""

    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    trade_count: int | None = None
    vwap: float | None = None


class Ticker(msgspec.Struct, rename={"symbol": "ticker", "currency": "currency_name"}):
    """What a symbol stands for on a date."""

    symbol: str
    active: bool
    name: str | None = None
    type: str | None = None
    primary_exchange: str | None = None
    currency: str | None = None
    cik: str | None = None
    composite_figi: str | None = None
    share_class_figi: str | None = None


class Split(msgspec.Struct, rename={"symbol": "ticker"}):
    """`split_from` shares become `split_to`."""

    symbol: str
    execution_date: date
    split_from: float
    split_to: float
    id: str | None = None


class Dividend(msgspec.Struct, rename={"symbol": "ticker"}):
    """Cash per share."""

    symbol: str
    ex_dividend_date: date
    cash_amount: float
    currency: str | None = None
    dividend_type: str | None = None
    frequency: int | None = None
    declaration_date: date | None = None
    record_date: date | None = None
    pay_date: date | None = None
    id: str | None = None


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """`results` may be absent only where a count says that there are none."""

    status: Literal["OK", "DELAYED"]
    results: list[T] | None = None
    count: int | None = None
    told: int | None = msgspec.field(default=None, name="resultsCount")
    next_url: str | None = None


class BarsPage(Page[Bar], kw_only=True):
    """Bars of one ticker."""

    ticker: str
    adjusted: bool


class DailyPage(Page[DailyBar], kw_only=True):
    """One day of every ticker."""

    adjusted: bool


class Renamed(msgspec.Struct):
    """What a symbol became."""

    ticker: str


class Event(msgspec.Struct):
    """Something that happened to a symbol; a change of it where there is a `ticker_change`."""

    type: str
    date: date
    ticker_change: Renamed | None = None


class Events(msgspec.Struct):
    """What happened to one symbol."""

    events: list[Event]


class EventsAnswer(msgspec.Struct):
    """Events are not paged."""

    status: Literal["OK", "DELAYED"]
    results: Events


class Span(NamedTuple):
    """What one request asks for: a symbol of ours, its ticker there, and `[start, end)`."""

    symbol: str
    ticker: str
    feed: str
    start: datetime
    end: datetime


class Day(NamedTuple):
    """What one request for daily bars asks for: a symbol as `Span` has it, from the first to the last date."""

    symbol: str
    ticker: str
    feed: str
    first: date
    last: date


class Keys(NamedTuple):
    """Credentials of S3."""

    access: str
    secret: str


class MassiveProvider(HttpProvider):
    """US stocks of the whole tape by their ticker, coins as `BTC/USD`, currencies as Massive spells them, `C:EURUSD`.

    The quota is that of the free plan, 5 requests a minute: set `requests_per_minute` and `concurrency` on a paid one.
    Bars of a day may still change until the next morning.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "crypto", "fx"),
        feeds=tuple(FEEDS.values()),
        history="2 years on the free plan",
        times="milliseconds, start of the bar; end of a range inclusive; no row without a trade",
        page_size=PAGE,
        symbols_per_request=1,
        rates=(Rate(5, 60),),
        longest_window=LONGEST_SPAN,
        concurrency=1,
        secrets=(("MASSIVE_API_KEY", "POLYGON_API_KEY", "MP_POLYGON_API_KEY"),),
        keyless=False,
        daily_bars=True,
        paid_plan="for the current day and for more than 2 years",
    )
    hosts: ClassVar[tuple[str, ...]] = ("api.massive.com", "api.polygon.io")

    name: str = Field(default="massive", description="Name of the provider, kept with each bar")

    def headers(self) -> Mapping[str, str]:
        # As a parameter the key would be in the address, which proxies and logs keep.
        (key,) = self.secrets()
        return {"Authorization": f"Bearer {key}"}

    def failure(self, answer: Answer) -> ProviderError | None:
        """A refusal with status 200 is known by the `status` in it; pages of bars are not read twice for that."""
        found = by_status(answer)
        if found is not None or len(answer.body) > LONGEST_REFUSAL or '"status"' not in answer.text:
            return found
        text = answer.text.lower().replace(" ", "")
        if '"status":"ok"' in text or '"status":"delayed"' in text:
            return None
        known = (meaning for words, meaning in WORDS.items() if words in answer.text.lower())
        return next(known, BadRequest)(answer.text)

    def vendor_wait(self, answer: Answer) -> float:  # noqa: ARG002  # Massive does not say: the quota is the minute's
        return 60.0

    def ping(self) -> None:
        """Ask for the name of one ticker."""
        self.body(Request("/v3/reference/tickers", {"ticker": "SPY", "limit": 1}))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Raises `OutOfRange` for minutes that the plan gives only once they are older."""
        spans = list(_spans(symbols, _next_minute(start), closed_before(end)))
        # The first alone, so that a key or a plan that is refused costs one request.
        frames = [*map(self._bars, spans[:1]), *self.in_parallel(self._bars, spans[1:])]
        return pl.concat([empty(VENDOR_COLUMNS), *frames])

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """As `BarProvider` says: by symbol, or the whole market by date where the symbols are more than the dates."""
        listed = {symbol: _listing(symbol) for symbol in symbols}
        if not symbols or not dates:
            return empty(VENDOR_DAY_COLUMNS)
        if len(dates) < len(listed) and all(feed == STOCKS for _, feed in listed.values()):
            days = pl.concat(self.in_parallel(self.grouped_bars, dates)).filter(pl.col("symbol").is_in(list(listed)))
            named = days.with_columns(provider=pl.lit(self.name), feed=pl.lit(STOCKS))
            return whole_days(named, symbols, dates)
        asked = [Day(symbol, *listing, min(dates), max(dates)) for symbol, listing in listed.items()]
        return whole_days(pl.concat(self.in_parallel(self._days, asked)), symbols, dates)

    def grouped_bars(self, on: date) -> pl.DataFrame:
        """The day of every US stock that traded, unadjusted; columns are `DAILY`, sorted by symbol.

        What the minutes are to add up to, but for volume: some trades count for the day and are in no bar. A day
        without trading has no rows. Raises `OutOfRange` until the day's last trade.
        """
        over = datetime.combine(on, LAST_TRADE, ZoneInfo(NEW_YORK)).astimezone(UTC)
        if datetime.now(UTC) < over:
            raise OutOfRange(f"{self.name}: expected a day that is over, was {on}", retry_at=over)
        request = Request(f"/v2/aggs/grouped/locale/us/market/stocks/{on}", {"adjusted": "false"})
        pages = self._pages(request, DailyPage)
        self._check_raw(pages)
        rows = [row for page in pages for row in page.results or ()]
        return _frame(rows, DAILY, session_date=on).sort("symbol")

    def tickers(self, on: date) -> pl.DataFrame:
        """The US stocks that could be traded on a date, those delisted since among them; columns are `TICKERS`."""
        params: Mapping[str, str | int] = {"market": "stocks", "date": f"{on}", "active": "true"}
        return self._table("/v3/reference/tickers", Ticker, TICKERS, {**params, "sort": "ticker"})

    def ticker_events(self, symbol: str) -> pl.DataFrame:
        """From which date the company of this symbol traded as what; columns are `TICKER_EVENTS`, sorted by date.

        Raises `NotFound` for a symbol Massive has no events of.
        """
        path = f"/vX/reference/tickers/{quote(symbol, safe='')}/events"
        events = self.fetch(Request(path, {"types": "ticker_change"}), EventsAnswer).results.events
        columns = {
            "symbol": [symbol] * len(events),
            "event": [event.type for event in events],
            "event_date": [event.date for event in events],
            "new_symbol": [event.ticker_change.ticker if event.ticker_change else None for event in events],
        }
        return pl.DataFrame(columns, schema=dict(TICKER_EVENTS)).sort("event_date")

    def splits(self, start: date, end: date, symbol: str | None = None) -> pl.DataFrame:
        """Splits executed in `[start, end)`, of one symbol or of the market; columns are `SPLITS`, sorted by date.

        A share becomes `split_to / split_from` shares.
        """
        return self._between("/v3/reference/splits", Split, SPLITS, "execution_date", (start, end, symbol))

    def dividends(self, start: date, end: date, symbol: str | None = None) -> pl.DataFrame:
        """Dividends with an ex-date in `[start, end)`, of one symbol or of the market; columns are `DIVIDENDS`.

        Sorted by ex-date. `cash_amount` is per share as of the ex-date, in `currency`.
        """
        return self._between("/v3/reference/dividends", Dividend, DIVIDENDS, "ex_dividend_date", (start, end, symbol))

    def _bars(self, span: Span) -> pl.DataFrame:
        first, last = (_milliseconds(instant) for instant in (span.start, span.end))
        path = f"/v2/aggs/ticker/{quote(span.ticker, safe=':')}/range/1/minute/{first}/{last - 1}"
        pages = self._pages(Request(path, {"adjusted": "false", "sort": "asc", "limit": PAGE}), BarsPage)
        self._check_of(span.ticker, pages)
        if any(page.status == "DELAYED" for page in pages) and span.end + DELAY > datetime.now(UTC):
            raise OutOfRange(
                f"{self.name}: expected an end at least 15 minutes ago, as the plan is delayed, was {span.end}",
                retry_at=span.end + DELAY,
            )
        rows = [row for page in pages for row in page.results or ()]
        bars = _frame(rows, TIMED, symbol=span.symbol, provider=self.name, feed=span.feed)
        utc = bars.with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us"))
        return self.checked(traded(self, conform(utc, VENDOR_COLUMNS)), span.start, span.end)

    def _days(self, asked: Day) -> pl.DataFrame:
        path = f"/v2/aggs/ticker/{quote(asked.ticker, safe=':')}/range/1/day/{asked.first}/{asked.last}"
        pages = self._pages(Request(path, {"adjusted": "false", "sort": "asc", "limit": PAGE}), BarsPage)
        self._check_of(asked.ticker, pages)
        rows = [row for page in pages for row in page.results or ()]
        bars = _frame(rows, TIMED, symbol=asked.symbol, provider=self.name, feed=asked.feed)
        utc = pl.col("ts").cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us")
        return dated(bars.with_columns(utc), NEW_YORK if asked.feed == STOCKS else "UTC")

    def _check_of(self, ticker: str, pages: Sequence[BarsPage]) -> None:
        self._check_raw(pages)
        if foreign := sorted({page.ticker for page in pages} - {ticker}):
            raise Malformed(f"{self.name}: expected bars of {ticker}, was of {', '.join(foreign)}")

    def _between(
        self,
        path: str,
        row: type[T],
        schema: Mapping[str, pl.DataType],
        day: str,
        asked: tuple[date, date, str | None],
    ) -> pl.DataFrame:
        start, end, symbol = asked
        if start >= end:
            return empty(schema)
        of_one = {} if symbol is None else {"ticker": symbol}
        window = {f"{day}.gte": f"{start}", f"{day}.lt": f"{end}", "sort": day, **of_one}
        found = self._table(path, row, schema, window).sort(day, "symbol", maintain_order=True)
        outside = found.filter(~pl.col(day).is_between(start, end, closed="left"))
        if outside.height:
            raise Malformed(f"{self.name}: expected {day} from {start} until before {end}, was {outside[day][0]}")
        return found

    def _table(
        self, path: str, row: type[T], schema: Mapping[str, pl.DataType], params: Mapping[str, str | int]
    ) -> pl.DataFrame:
        pages = self._pages(Request(path, {**params, "order": "asc", "limit": 1000}), Page[row])  # type: ignore[valid-type]  # msgspec reads it at run time
        return _frame([each for page in pages for each in page.results or ()], schema)

    def _pages(self, request: Request, shape: type[Results]) -> list[Results]:
        def page(link: str | None) -> tuple[Results, str | None]:
            answer = self.fetch(request if link is None else Request(link), shape)
            if answer.results is None and (answer.count if answer.told is None else answer.told) != 0:
                raise Malformed(f"{self.name}: expected results, or a count of 0, there are neither")
            return answer, link_path(answer.next_url) if answer.next_url else None

        pages = list(self.pages(page))
        told = max(answer.told or 0 for answer in pages)
        if (was := sum(len(answer.results or ()) for answer in pages)) < told:
            raise Malformed(f"{self.name}: expected {told} results as counted, was {was}")
        return pages

    def _check_raw(self, pages: Sequence[BarsPage] | Sequence[DailyPage]) -> None:
        if any(page.adjusted for page in pages):
            raise Malformed(f"{self.name}: expected unadjusted prices, the answer says they are adjusted")


class MassiveFlatProvider(HttpProvider):
    """US stocks from Massive's flat files: one file a day holds the whole market, so many symbols cost what one does.

    A file is there from about 11:00 New York time of the next day on; it is the settled form of the day's bars, without
    vwap. Flat files have keys of their own and need a paid plan.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity",),
        feeds=("sip",),
        history="since September 2003, by plan; to the day before",
        times="nanoseconds, start of the bar; a file is a New York date; no row without a trade",
        concurrency=2,
        secrets=(("MASSIVE_S3_ACCESS_KEY_ID",), ("MASSIVE_S3_SECRET_ACCESS_KEY",)),
        keyless=False,
        paid_plan="yes",
    )
    hosts: ClassVar[tuple[str, ...]] = ("files.massive.com", "files.polygon.io")

    name: str = Field(default="massive_flat", description="Name of the provider, kept with each bar")

    def failure(self, answer: Answer) -> ProviderError | None:
        """A 403 is a matter of the plan unless its code says that the keys, their signature or the clock are wrong."""
        found = by_status(answer)
        known = (meaning for code, meaning in CODES.items() if code in answer.text)
        return next(known, NotEntitled)(str(found)) if answer.status == 403 else found

    def ping(self) -> None:
        """Ask for the name of one file."""
        self.body(self._signed("/flatfiles", {"list-type": "2", "max-keys": "1", "prefix": "us_stocks_sip/"}))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Raises `OutOfRange` for a session whose file is not there."""
        end = closed_before(end)
        wanted = list(dict.fromkeys(symbols))
        if foreign := [symbol for symbol in wanted if ":" in symbol or "/" in symbol]:
            raise BadRequest(f"{self.name}: expected US stocks, was also {', '.join(foreign)}")
        if start >= end or not wanted:
            return empty(VENDOR_COLUMNS)
        first, *others = local_dates(start, end, NEW_YORK)
        # The first alone, so that keys or a plan that are refused cost one request.
        days = [self._day(first, wanted), *self.in_parallel(lambda day: self._day(day, wanted), others)]
        # A file is a whole day: what lies outside the window was not asked for.
        bars = pl.concat(days).filter(pl.col("ts").is_between(start, end, closed="left"))
        place = pl.col("symbol").replace_strict(wanted, range(len(wanted)), return_dtype=pl.Int64)
        said = bars.sort(place, maintain_order=True).with_columns(provider=pl.lit(self.name), feed=pl.lit("sip"))
        return traded(self, conform(said, VENDOR_COLUMNS))

    def _day(self, day: date, symbols: Sequence[str]) -> pl.DataFrame:
        key = f"us_stocks_sip/minute_aggs_v1/{day:%Y/%m/%Y-%m-%d}.csv.gz"
        try:
            return self._whole_file(key, day, symbols)
        except (NotFound, NotEntitled) as error:
            if not schedule("XNYS", day, day + DAY).hours.height:
                return empty(READ_COLUMNS)
            if isinstance(error, NotEntitled):
                raise
        ready = datetime.combine(day + DAY, PUBLISHED, ZoneInfo(NEW_YORK)).astimezone(UTC)
        retry_at = ready if ready > datetime.now(UTC) else None
        raise OutOfRange(f"{self.name}: expected {key}, there is none; files come at 11:00 of the next day", retry_at)

    def _whole_file(self, key: str, day: date, symbols: Sequence[str]) -> pl.DataFrame:
        fault = ""
        for _ in range(TORN_ATTEMPTS):
            with self.downloaded(self._signed(f"/flatfiles/{key}")) as file:
                try:
                    return _read(file, key, day, symbols)
                except BadFile as error:
                    fault = str(error).replace(f"{file.parent}/", "")
                    torn = isinstance(error.__cause__, EOFError)
            if not torn:
                break
        raise Malformed(f"{self.name}: {fault}")

    def _signed(self, path: str, query: Mapping[str, str] = {}) -> Request:
        access, secret = self.secrets()
        host = urlsplit(self.base_url or f"https://{self.hosts[0]}").netloc
        # As long as it may be asked again.
        seconds = int(self.deadline_seconds) + 60
        return Request(presigned(path, query, host, Keys(access, secret), datetime.now(UTC), seconds))


def traded(provider: HttpProvider, bars: pl.DataFrame) -> pl.DataFrame:
    """Bars but for made-up ones, of no volume and no trade, which are counted."""
    kept = bars.filter((pl.col("volume") != 0) | (pl.col("trade_count").fill_null(0) != 0))
    provider.count_filler(bars.height - kept.height)
    return kept


def presigned(
    path: str, query: Mapping[str, str], host: str, keys: Keys, at: datetime, seconds: int, region: str = "us-east-1"
) -> str:
    """Path and query of a GET to S3, signed by AWS Signature Version 4 in the query, good for so many seconds.

    AWS, "Authenticating Requests: Using Query Parameters". It takes a dozen lines of hashes; botocore, which has
    them too, is larger than all of this package.
    """
    scope = [f"{at:%Y%m%d}", region, "s3", "aws4_request"]
    moment = f"{at:%Y%m%dT%H%M%SZ}"
    signing = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "/".join([keys.access, *scope]),
        "X-Amz-Date": moment,
        "X-Amz-Expires": f"{seconds}",
        "X-Amz-SignedHeaders": "host",
    }
    address = quote(path)
    parameters = urlencode(sorted({**query, **signing}.items()), quote_via=quote, safe="")
    request = "\n".join(["GET", address, parameters, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, "/".join(scope), sha256(request.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{address}?{parameters}&X-Amz-Signature={key.hex()}"


def _read(file: Path, key: str, day: date, symbols: Sequence[str]) -> pl.DataFrame:
    place = file.parent / key
    place.parent.mkdir(parents=True)
    file.rename(place)
    midnight = datetime.combine(day, time(), ZoneInfo(NEW_YORK))
    return Massive(Settings(root=file.parent, limits=Limits())).bars(symbols, midnight, midnight + DAY)


def _frame(rows: Sequence[object], schema: Mapping[str, pl.DataType], **constants: object) -> pl.DataFrame:
    columns = {name: list(map(attrgetter(name), rows)) for name in schema if name not in constants}
    frame = pl.DataFrame(columns, schema={name: schema[name] for name in columns})
    return frame.with_columns(pl.lit(value).alias(name) for name, value in constants.items()).select(
        *schema, *(name for name in constants if name not in schema)
    )


def _spans(symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Span]:
    for symbol in dict.fromkeys(symbols):
        ticker, feed = _listing(symbol)
        begin = start
        while begin < end:
            until = min(begin + LONGEST_SPAN, end)
            yield Span(symbol, ticker, feed, begin, until)
            begin = until


def _listing(symbol: str) -> tuple[str, str]:
    ticker = f"X:{symbol.replace('/', '')}" if "/" in symbol else symbol
    market = ticker.split(":")[0] if ":" in ticker else ""
    if market not in FEEDS:
        raise BadRequest(f"expected a symbol such as BRK.B, BTC/USD, X:BTCUSD or C:EURUSD, was {symbol!r}")
    return ticker, FEEDS[market]


def _next_minute(instant: datetime) -> datetime:
    utc = instant.astimezone(UTC)
    whole = utc.replace(second=0, microsecond=0)
    return whole if whole == utc else whole + MINUTE


def _milliseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
