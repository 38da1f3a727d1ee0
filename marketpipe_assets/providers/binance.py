"""Minute bars of Binance's spot market: from its archives, and by REST what is too young or too short for one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from re import fullmatch, search
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar, NamedTuple
from urllib.parse import quote

import msgspec
import polars as pl
from pydantic import Field

from marketpipe_assets.bars.schema import PRICES, TIMESTAMP, VENDOR_COLUMNS, VENDOR_DAY_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    BadFile,
    BadRequest,
    Capabilities,
    Malformed,
    NotFound,
    ProviderError,
    Rate,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.days import dated, whole_days
from marketpipe_assets.providers.formats.archive import Limits
from marketpipe_assets.providers.formats.binance import Binance
from marketpipe_assets.providers.formats.reader import DatedFile, Settings, folder_name
from marketpipe_assets.providers.formats.text import Text
from marketpipe_assets.providers.http import TORN_ATTEMPTS, Answer, HttpProvider, Request, by_status, closed_before

FEED = "spot"
REST = "data-api.binance.vision"
ARCHIVES = "data.binance.vision"

PAGE = 1_000
PAGE_WEIGHT = 2
MOST_WEIGHT = 4_800
"""Weight used by an address in a minute, ours and others', from which on nothing is asked; Binance's limit is 6,000."""

DAY = timedelta(days=1)
MINUTE_MS = 60_000

DAY_PUBLISHED = DAY
"""How long after its end a day is in the archives: Binance says the next day, without an hour."""

MONTH_PUBLISHED = 8 * DAY
"""How long after its end a month is in the archives: until the day after the first Monday of the next."""

MONTH_FROM = 8 * DAY
"""Time of one month from which on its archive is read in place of those of its days."""

JUST_NOW = timedelta(minutes=10)
"""Age from which on a minute is over even where the clock of this machine is fast."""

LONGEST_CHECKSUM = 1_000
FIREWALL_SECONDS = 300.0
SHORTEST_BAN = 120.0

CODES: Mapping[int, type[ProviderError]] = {
    -1001: Transient,
    -1003: RateLimited,
    -1007: Transient,
    -1008: Transient,
    -1121: NotFound,
}
"""What Binance's own codes mean where the status does not tell."""


class Kline(msgspec.Struct, array_like=True, gc=False):
    """The first fields of a bar as Binance writes it. Times are milliseconds: microseconds are larger."""

    opened: Annotated[int, msgspec.Meta(ge=0, lt=10**14)]
    open: str
    high: str
    low: str
    close: str
    volume: str
    closed: int
    quote_volume: str
    trade_count: int


class ServerTime(msgspec.Struct):
    serverTime: Annotated[int, msgspec.Meta(ge=0, lt=10**14)]  # noqa: N815  # the vendor's name


class Refusal(msgspec.Struct):
    code: int


class Span(NamedTuple):
    """`[start, end)`, and the month or the day whose archive has it; empty: none, ask by REST."""

    start: datetime
    end: datetime
    stamp: str = ""


class Interval(NamedTuple):
    """A length of bars, as Binance names it."""

    name: str
    milliseconds: int


MINUTELY, DAILY = Interval("1m", MINUTE_MS), Interval("1d", 86_400_000)


class BinanceProvider(HttpProvider):
    """Symbols are `BTC/USDT`, `BTC-USDT` or `BTCUSDT`. An archive that is not there is made up for by REST.

    `requests_per_minute` counts weight, of which a page of REST has 2 and an archive none. Binance counts by address:
    what other programs use is heard from its answers. Filler rows of an archive are counted over the whole of it.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("crypto",),
        feeds=(FEED,),
        history="since 2017",
        times="milliseconds, in archives since 2025 microseconds, start of the bar; end of a range inclusive; "
        "minutes without a trade are rows without volume",
        page_size=PAGE,
        symbols_per_request=1,
        rates=(Rate(3_000, 60),),
        request_weight=PAGE_WEIGHT,
        quota_per="address",
        daily_bars=True,
        concurrency=8,
    )
    hosts: ClassVar[tuple[str, ...]] = (REST, ARCHIVES)

    name: str = Field(default="binance", description="Name of the provider, kept with each bar")
    archive_minutes: int = Field(
        default=PAGE, gt=0, le=1_440, description="Least minutes of a day to read its archive for; fewer come by REST"
    )

    def failure(self, answer: Answer) -> ProviderError | None:
        """Binance's codes stand above the status; 403 is its firewall, which lets an address in again later."""
        self._heed_weight(answer)
        found, code = by_status(answer), _code(answer)
        said = f"status {answer.status}: {answer.text}"
        if code is not None and code in CODES:
            return CODES[code](said)
        if answer.status == 403 and "country" not in answer.text:
            return RateLimited(f"{said}; the firewall keeps this address out for some minutes")
        if found is None and code is not None:
            return BadRequest(said)
        return found

    def vendor_wait(self, answer: Answer) -> float:
        """Until a ban ends, as its text says, or for as long as the shortest; else until the next minute's quota."""
        banned = search(r"banned until (\d{13})", answer.text)
        if banned is not None:
            return max(int(banned[1]) / 1000 - datetime.now(UTC).timestamp(), 0.0)
        seconds = {403: FIREWALL_SECONDS, 418: SHORTEST_BAN}
        return seconds.get(answer.status, _next_minute() - datetime.now(UTC).timestamp())

    def ping(self) -> None:
        """Ask whether the REST interface answers."""
        self.body(Request("/api/v3/ping"))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Minutes without a trade, which Binance fills in, are dropped and counted."""
        spans = list(_joined(_spans(start, self._closed_before(end), timedelta(minutes=self.archive_minutes))))
        asked = [(symbol, span) for symbol in dict.fromkeys(symbols) for span in spans]
        if not asked:
            return empty(VENDOR_COLUMNS)
        # An address Binance does not serve is told by the first answer, before the others are asked for.
        first = self._bars(*asked[0])
        return pl.concat([first, *self.in_parallel(lambda each: self._bars(*each), asked[1:])])

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """As `BarProvider` says, by REST: Binance's days are UTC's."""
        if not symbols or not dates:
            return empty(VENDOR_DAY_COLUMNS)
        first, last = (datetime.combine(day, time(), UTC) for day in (min(dates), max(dates)))
        span, wanted = Span(first, last + DAY), list(dict.fromkeys(symbols))
        bars = [self._asked(wanted[0], span, DAILY)]
        bars += self.in_parallel(lambda symbol: self._asked(symbol, span, DAILY), wanted[1:])
        return whole_days(dated(pl.concat(bars), "UTC"), symbols, dates)

    def _closed_before(self, end: datetime) -> datetime:
        end = closed_before(end)
        if datetime.now(UTC) - end > JUST_NOW:
            return end
        theirs = self.fetch(Request("/api/v3/time"), ServerTime).serverTime
        return min(end, _instant(theirs - theirs % MINUTE_MS))

    def _heed_weight(self, answer: Answer) -> None:
        used = answer.headers.get("x-mbx-used-weight-1m", "")
        if used.isdecimal() and int(used) > MOST_WEIGHT:
            self.connection.pause(_next_minute())

    def _bars(self, symbol: str, span: Span) -> pl.DataFrame:
        with suppress(NotFound):  # not published yet, or from before the symbol was listed
            if span.stamp:
                return self._archived(symbol, span)
        return self._asked(symbol, span)

    def _asked(self, symbol: str, span: Span, interval: Interval = MINUTELY) -> pl.DataFrame:
        end = _milliseconds(span.end)

        def page(token: str | None) -> tuple[tuple[datetime, list[Kline]], str | None]:
            first = int(token or _milliseconds(span.start))
            params: Mapping[str, str | int] = {
                "symbol": _spelled(symbol),
                "interval": interval.name,
                "startTime": first,
                "endTime": end - 1,
                "limit": PAGE,
            }
            klines = self.fetch(Request("/api/v3/klines", params, weight=PAGE_WEIGHT), list[Kline])
            following = max((kline.opened for kline in klines), default=end) + interval.milliseconds
            return (_instant(first), klines), f"{following}" if following < end else None

        frames = [self.checked(self._frame(symbol, klines), first, span.end) for first, klines in self.pages(page)]
        bars = pl.concat(frames)
        traded = bars.filter((pl.col("volume") != 0) | (pl.col("trade_count") != 0))
        self.count_filler(bars.height - traded.height)
        return traded

    def _frame(self, symbol: str, klines: Sequence[Kline]) -> pl.DataFrame:
        texts = {name: [getattr(kline, name) for kline in klines] for name in (*PRICES, "volume")}
        times = pl.Series([kline.opened for kline in klines], dtype=pl.Int64) * 1000
        counts = pl.Series([kline.trade_count for kline in klines], dtype=pl.Int64)
        try:
            numbers = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String)).cast(pl.Float64)
        except pl.exceptions.PolarsError as error:
            fault = f"{error}"
        else:
            if all(column.is_finite().all() for column in numbers):
                return self._named(numbers.with_columns(ts=times.cast(TIMESTAMP), trade_count=counts), symbol)
            fault = "infinite, or not a number"
        raise Malformed(f"{self.name}: expected numbers as prices and volumes of {symbol}, was: {fault}")

    def _archived(self, symbol: str, span: Span) -> pl.DataFrame:
        spelled = folder_name(_spelled(symbol))
        file = f"{spelled}-1m-{span.stamp}.zip"
        period = "monthly" if len(span.stamp) == len("2024-01") else "daily"
        path = f"/data/spot/{period}/klines/{quote(spelled, safe='')}/1m/{quote(file, safe='')}"
        stated = self.connection.ask(Request(f"{path}.CHECKSUM", host=ARCHIVES, weight=0), _stated_hash)
        zipped = self.connection.ask(Request(path, host=ARCHIVES, weight=0), partial(_verified, stated))
        with TemporaryDirectory(prefix="marketpipe-") as folder:
            Path(folder, file).write_bytes(zipped)
            reader = CountingReader(Settings(Path(folder), Limits()))
            try:
                bars = reader.bars([spelled], span.start, span.end)
            except BadFile as error:
                fault = str(error).replace(f"{folder}/", "")
                raise Malformed(f"{self.name}: {fault}") from None  # the file it names is gone
        self.count_filler(reader.rows - bars.height)
        return self._named(bars.filter(pl.col("ts").is_between(span.start, span.end, closed="left")), symbol)

    def _named(self, bars: pl.DataFrame, symbol: str) -> pl.DataFrame:
        said = {"symbol": symbol, "provider": self.name, "feed": FEED}
        return conform(bars.with_columns(pl.lit(text).alias(name) for name, text in said.items()), VENDOR_COLUMNS)


class CountingReader(Binance):
    """The reader of archives, which drops filler rows; `rows` is how many there were with them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rows = 0

    def _text(self, file: DatedFile) -> Text:
        text = super()._text(file)
        self.rows += len(text.content.split())
        return text


def _spans(start: datetime, end: datetime, least: timedelta) -> Iterator[Span]:
    now = datetime.now(UTC)
    for first, last in _pieces(start.astimezone(UTC), end.astimezone(UTC), _next_month):
        if last - first >= MONTH_FROM and _next_month(first) + MONTH_PUBLISHED <= now:
            yield Span(first, last, f"{first:%Y-%m}")
            continue
        for begin, until in _pieces(first, last, _next_day):
            archived = until - begin >= least and _next_day(begin) + DAY_PUBLISHED <= now
            yield Span(begin, until, f"{begin:%Y-%m-%d}" if archived else "")


def _pieces(
    start: datetime, end: datetime, following: Callable[[datetime], datetime]
) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        until = min(end, following(start))
        yield start, until
        start = until


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    for stamp, group in groupby(spans, key=lambda span: span.stamp):
        parts = list(group)
        yield Span(parts[0].start, parts[-1].end, stamp)


def _next_day(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0) + DAY


def _next_month(instant: datetime) -> datetime:
    return _next_day(instant.replace(day=1) + 30 * DAY).replace(day=1)


def _stated_hash(answer: Answer, attempt: int) -> str:
    stated = fullmatch(rb"([0-9a-f]{64})\s+\S+\s*", answer.body[:LONGEST_CHECKSUM])
    if stated is None:
        raise _torn(attempt)(f"expected a sha256 and the name of a file, was: {answer.text[:80]!r}")
    return stated[1].decode()


def _verified(stated: str, answer: Answer, attempt: int) -> bytes:
    actual = sha256(answer.body).hexdigest()
    if actual != stated:
        raise _torn(attempt)(f"expected sha256 {stated}, was {actual} of {len(answer.body):,} bytes")
    return answer.body


def _torn(attempt: int) -> type[ProviderError]:
    return Transient if attempt < TORN_ATTEMPTS else Malformed


def _code(answer: Answer) -> int | None:
    if not answer.body.startswith(b"{"):
        return None
    try:
        return msgspec.json.decode(answer.body, type=Refusal).code
    except msgspec.DecodeError:
        return None


def _spelled(symbol: str) -> str:
    return symbol.replace("/", "").replace("-", "")


def _next_minute() -> float:
    return (datetime.now(UTC).timestamp() // 60 + 1) * 60


def _milliseconds(instant: datetime) -> int:
    return -((datetime(1970, 1, 1, tzinfo=UTC) - instant) // timedelta(milliseconds=1))  # the first not before it


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
