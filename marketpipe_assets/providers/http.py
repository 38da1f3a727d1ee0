"""How a vendor is asked over HTTP: quota, waits, retries, page guards, and no secret in any text. No vendor's details.

A vendor is a subclass of `HttpProvider`: its hosts and capabilities, `headers`, `failure` where errors hide in its
bodies, and `minute_bars` by `fetch`, `pages` and `in_parallel`.
"""

import logging
import random
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from ipaddress import ip_address
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import polars as pl
import stamina
from pydantic import Field, PrivateAttr, model_validator

from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    BarProvider,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfTime,
    ProviderError,
    Rate,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.quota import SHARED_FILE, Bucket
from marketpipe_assets.providers.redaction import redactor
from marketpipe_assets.providers.traffic import Traffic, Wait

if TYPE_CHECKING:
    import httpx  # takes a tenth of what a code location has to load, and only asking needs it

LOG = logging.getLogger("marketpipe.http")
stamina.instrumentation.set_on_retry_hooks([])  # it would print what is logged here

T = TypeVar("T")
Item = TypeVar("Item")

CONNECT_SECONDS = 5.0
POOL_SECONDS = 60.0
LONGEST_BODY = 256 * 1024 * 1024
LONGEST_PAUSE = 4 * 24 * 3600.0
"""Longest pause a vendor is believed: the longest ban known is Binance's three days."""

TORN_ATTEMPTS = 3
"""Attempts at an answer whose JSON breaks off before it is called malformed."""

STATUSES: Mapping[int, type[ProviderError]] = {
    400: BadRequest,
    401: AuthFailed,
    402: NotEntitled,
    403: NotEntitled,
    404: NotFound,
    408: Transient,
    418: RateLimited,
    422: BadRequest,
    429: RateLimited,
    451: NotEntitled,
    499: Transient,
}
"""What a status means where a vendor's body does not say otherwise. 2xx is no failure, 3xx malformed, 5xx transient."""


class Request(NamedTuple):
    """`path` begins with a slash and may have a query; a `form` is posted; `host`: one of the vendor's other hosts."""

    path: str
    params: Mapping[str, str | int] = MappingProxyType({})
    form: Mapping[str, str | int] | None = None
    host: str | None = None
    weight: int = 1


class Answer(NamedTuple):
    """Names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The first of the body, for messages and for words to look for."""
        return self.body[:500].decode(errors="replace").strip()


class HttpProvider(BarProvider):
    """Settings of every vendor that is asked over HTTP."""

    hosts: ClassVar[tuple[str, ...]] = ()
    """The hosts that may be asked, the usual one first."""

    name: str = Field(default="", description="Name of the provider, kept with each bar")
    base_url: str = Field(default="", description="Another address of the vendor's, or one of this machine")
    requests_per_minute: int | None = Field(default=None, gt=0, description="Quota of your plan, if not the smallest")
    concurrency: int | None = Field(default=None, gt=0, description="Requests at one moment")
    deadline_seconds: float = Field(default=300, gt=0, description="Longest time to try to have one request answered")
    run_deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Longest time from a run's first request on; if none, as long as the quota takes",
    )
    attempts: int = Field(default=10, gt=0, description="Most attempts at one request")
    first_wait: float = Field(default=0.5, ge=0, description="Most seconds before attempt 2; then twice that")
    longest_wait: float = Field(default=60, ge=0, description="Most seconds between attempts unless told")
    read_timeout: float = Field(default=30, gt=0, description="Most seconds between two pieces of an answer")
    answer_seconds: float = Field(default=120, gt=0, description="Most seconds for one answer")
    download_seconds: float = Field(default=3600, gt=0, description="Most seconds for one file")
    quota_file: str = Field(default=str(SHARED_FILE), description="Where the processes of this machine count requests")

    _lock: Any = PrivateAttr(default_factory=Lock)
    _connection: "Connection | None" = PrivateAttr(default=None)
    _run_end: float | None = PrivateAttr(default=None)
    _traffic: Traffic = PrivateAttr(default_factory=Traffic)

    @model_validator(mode="after")
    def _base_url_is_the_vendors_or_here(self) -> Self:
        if self.base_url:
            _check_address(self.base_url, self.hosts)
        return self

    @abstractmethod
    def ping(self) -> None:
        """Ask for as little as shows that the vendor answers and takes the secrets. Raises `ProviderError`."""

    def transport(self) -> "httpx.BaseTransport | None":
        """What sends the requests; None: httpx's own."""
        return None

    def headers(self) -> Mapping[str, str]:
        """Who asks. Raises `AuthFailed` where secrets are missing and nothing is answered without them."""
        return {}

    def failure(self, answer: Answer) -> ProviderError | None:
        """What an answer says went wrong; None: nothing. Also asked of status 200. Without the name and the request."""
        return by_status(answer)

    def vendor_wait(self, answer: Answer) -> float | None:  # noqa: ARG002  # vendors read it
        """Seconds to wait after this `RateLimited` answer where its headers do not say; None: ever longer."""
        return None

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    @property
    def is_local(self) -> bool:
        """Whether it asks this machine, past any proxy of the environment."""
        return bool(self.base_url) and _is_loopback(self.base_url)

    @property
    def run_end(self) -> float:
        """The instant of `time.time` at which the run is out of time: it began with the first request."""
        with self._lock:
            if self._run_end is None:
                self._run_end = time.time() + (self.run_deadline_seconds or inf)
            return self._run_end

    def remaining_requests(self) -> int | None:
        """As `BarProvider` says, by the count that all processes of this machine share."""
        try:
            left = self.connection.remaining()
        except AuthFailed:  # the quota is the key's
            return None
        return None if left is None else left // self.capabilities.request_weight

    @property
    def connection(self) -> "Connection":
        """The client of this instance, opened when first asked for."""
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self)
            return self._connection

    def teardown_after_execution(self, context: object) -> None:  # noqa: ARG002  # Dagster's signature
        """Close what is open. What is asked afterwards opens it again, and is another run."""
        with self._lock:
            self._run_end = None
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def has_secrets(self) -> bool:
        """Whether all of them are set."""
        return not self.capabilities.missing(self._secrets)

    def secrets(self) -> list[str]:
        """The values of `capabilities.secrets`, in that order. Raises `AuthFailed` that names those not set."""
        if missing := self.capabilities.missing(self._secrets):
            raise AuthFailed(f"{self.name}: expected {missing} in the environment, was not set")
        return [
            next(self._secrets[name] for name in names if name in self._secrets) for names in self.capabilities.secrets
        ]

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The quota to keep to."""
        own = self.requests_per_minute
        return (Rate(own, 60.0),) if own else self.capabilities.rates

    def body(self, request: Request) -> Answer:
        """The answer to a request, whole and no failure. Raises `ProviderError`."""
        return self.connection.ask(request, lambda answer, _: answer)

    def count_filler(self, rows: int) -> None:
        """Rows of the vendor that stand for no trade and were dropped."""
        with self._lock:
            self.traffic.filler_rows += rows

    def fetch(self, request: Request, shape: type[T]) -> T:
        """The answer's JSON as `shape`, a msgspec type: a key it requires and does not find is `Malformed`."""

        def decoded(answer: Answer, attempt: int) -> T:
            try:
                return msgspec.json.decode(answer.body, type=shape)
            except msgspec.DecodeError as error:
                fault = f"expected the JSON of this path, was: {error}: {answer.text[:80]!r}"
                torn = "truncated" in str(error) and attempt < TORN_ATTEMPTS
            raise Transient(fault) if torn else Malformed(fault)

        return self.connection.ask(request, decoded)

    @contextmanager
    def downloaded(self, request: Request) -> Iterator[Path]:
        """The answer as a file, as long as the context lasts; its size is what the server said it would be."""
        with TemporaryDirectory(prefix="marketpipe-") as folder:
            file = Path(folder, "download")
            self.connection.download(request, file)
            yield file

    def pages(self, fetch: Callable[[str | None], tuple[T, str | None]], most: int = 100_000) -> Iterator[T]:
        """Every page: `fetch` takes a page's token, None for the first, and gives the page and the next one's token.

        Raises `Malformed` for a token seen before and for more than `most` pages. A page that fails fails them all.
        """
        token: str | None = None
        seen: set[str | None] = {None}
        for _ in range(most):
            page, token = fetch(token)
            if token is not None and token in seen:
                raise Malformed(f"{self.name}: expected the token of another page, was one seen before")
            seen.add(token)
            yield page
            if token is None:
                return
        raise Malformed(f"{self.name}: expected at most {most:,} pages, was more")

    def checked(self, bars: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
        """The same bars. Raises `Malformed` where one lies outside `[start, end)`."""
        outside = bars.filter(~pl.col("ts").is_between(start, end, closed="left"))
        if outside.height:
            first = outside.row(0, named=True)
            raise Malformed(
                f"{self.name}: expected bars from {start} until before {end}, was {first['symbol']} at {first['ts']}"
            )
        return bars

    def in_parallel(self, work: Callable[[Item], T], items: Sequence[Item]) -> list[T]:
        """`work` of each item, in order, `concurrency` at a time. The first failure is raised; the rest not begun."""
        failed = Event()

        def begun(item: Item) -> T:
            if failed.is_set():
                raise CancelledError
            try:
                return work(item)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(self.concurrency or self.capabilities.concurrency) as pool:
            futures = [pool.submit(begun, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if first := next((error for error in errors if not isinstance(error, CancelledError)), None):
            raise first
        return [future.result() for future in futures]


class Connection:
    """One HTTP client, its place in the quota, and the rules by which it asks again."""

    def __init__(self, provider: HttpProvider) -> None:
        import httpx

        self._provider = provider
        self._headers = provider.headers()
        self._redact = redactor(list(provider._secrets.values()))  # noqa: SLF001  # the provider keeps them from all others
        self._base = provider.base_url.rstrip("/")
        self._lock = Lock()
        credential = sha256("\n".join(self._headers.values()).encode()).hexdigest()[:16] if self._headers else "address"
        vendor = type(provider).__name__
        self._bucket = Bucket(Path(provider.quota_file), f"{vendor} {self._base} {credential}", provider.rates)
        self._client = httpx.Client(
            timeout=httpx.Timeout(provider.read_timeout, connect=CONNECT_SECONDS, pool=POOL_SECONDS),
            transport=provider.transport(),
            follow_redirects=False,
            trust_env=not provider.is_local,
        )
        logging.getLogger("httpx").addFilter(self._redact_record)

    def close(self) -> None:
        """Give back the connections and the quota's file."""
        logging.getLogger("httpx").removeFilter(self._redact_record)
        self._client.close()
        self._bucket.close()

    def pause(self, until: float) -> None:
        """Let no process of this machine ask with this quota before `until` (seconds since 1970)."""
        self._bucket.pause(until)

    def remaining(self) -> int | None:
        """Requests the quota has left at this moment; None: it has none."""
        return self._bucket.remaining()

    def ask(self, request: Request, read: Callable[[Answer, int], T]) -> T:
        """What `read` makes of the answer and the number of the attempt; where it is `Transient`, it is asked again."""

        def attempted(response: "httpx.Response", attempt: int) -> T:
            answer = self._whole(response, self._provider.answer_seconds)
            self._raise_failure(answer, attempt)
            return read(answer, attempt)

        return self._retried(request, attempted)

    def download(self, request: Request, file: Path) -> None:
        """Write the answer's body to a file, anew with each attempt."""

        def attempted(response: "httpx.Response", attempt: int) -> None:
            if response.status_code >= 300:
                self._raise_failure(self._whole(response, self._provider.answer_seconds), attempt)
            with file.open("wb") as target:
                for piece in self._pieces(response, self._provider.download_seconds):
                    target.write(piece)
            _check_size(response, file.stat().st_size)

        self._retried(request, attempted)

    def _retried(self, request: Request, read: "Callable[[httpx.Response, int], T]") -> T:
        run_end = self._provider.run_end
        if time.time() >= run_end:
            raise self._out_of_time(request, "")
        try:
            return self._asked(request, _Patience(time.time() + self._provider.deadline_seconds, run_end), read)
        except (Transient, RateLimited) as error:
            if error.retry_at is None or error.retry_at.timestamp() <= run_end:
                raise
            late = error
        raise self._out_of_time(request, f": {late}", late.retry_at)

    def _asked(self, request: Request, patience: "_Patience", read: "Callable[[httpx.Response, int], T]") -> T:
        def seconds_to_wait(error: Exception) -> bool | float:
            if not isinstance(error, Transient | RateLimited) or error.retry_at is None:
                return False
            again = error.retry_at.timestamp()
            if again > patience.end:
                return False
            seconds = max(again - time.time(), 0.0)
            LOG.warning("asked again in %.1f s: %s", seconds, error, extra={"provider": self._provider.name})
            self._count_wait(seconds, Wait.TOLD if isinstance(error, RateLimited) else None)
            return seconds

        retries = stamina.retry_context(on=seconds_to_wait, attempts=self._provider.attempts, timeout=None)
        for attempt in retries:
            with attempt:
                return self._attempt(request, attempt.num, patience, read)
        raise AssertionError  # the last attempt returns or raises

    def _out_of_time(self, request: Request, why: str, retry_at: datetime | None = None) -> OutOfTime:
        seconds = self._provider.run_deadline_seconds
        told = retry_at or datetime.fromtimestamp(max(self._bucket.free_at(request.weight), time.time()), UTC)
        name = self._provider.name
        self._count(error=OutOfTime.__name__)
        return OutOfTime(f"{name}: expected all answers within run_deadline_seconds of {seconds:g} s{why}", told)

    def _attempt(
        self, request: Request, attempt: int, patience: "_Patience", read: "Callable[[httpx.Response, int], T]"
    ) -> T:
        import httpx

        try:
            with self._sent(request, patience) as response:
                return read(response, attempt)
        except ProviderError as error:
            failure = error
        except (httpx.TransportError, httpx.DecodingError) as error:
            failure = Transient(f"{type(error).__name__}: {error}")
        # Raised out here, the error does not carry httpx's, whose request has the headers.
        raise self._told(failure, request, attempt)

    @contextmanager
    def _sent(self, request: Request, patience: "_Patience") -> Iterator["httpx.Response"]:
        asked = self._client.build_request(
            "GET" if request.form is None else "POST",
            self._url(request),
            params=dict(request.params) or None,  # an empty mapping would take the path's query away
            data=dict(request.form) if request.form is not None else None,
            headers={**self._headers, "User-Agent": "marketpipe"},
        )
        with self._bucket.request(request.weight, patience.end, patience.run_end) as slept:
            patience.until += slept
            self._count_wait(slept, Wait.QUOTA)
            self._count(requests=1)
            began = time.monotonic()
            response = self._client.send(asked, stream=True)
        with self._lock:
            self._provider.traffic.count_answer(time.monotonic() - began)
        try:
            yield response
        finally:
            response.close()
            self._count(bytes=response.num_bytes_downloaded)

    def _url(self, request: Request) -> str:
        if not request.path.startswith("/") or request.path.startswith("//"):
            raise BadRequest(f"expected a path of the vendor's own host, was {request.path!r}")
        host = request.host or self._provider.hosts[0]
        if host not in self._provider.hosts:
            raise BadRequest(f"expected a host of {', '.join(self._provider.hosts)}, was {host}")
        return f"{self._base or f'https://{host}'}{request.path}"

    def _whole(self, response: "httpx.Response", seconds: float) -> Answer:
        body = bytearray()
        for piece in self._pieces(response, seconds):
            body += piece
            if len(body) > LONGEST_BODY:
                raise Malformed(f"expected an answer of at most {LONGEST_BODY:,} bytes, was longer")
        return Answer(response.status_code, dict(response.headers), bytes(body))

    def _pieces(self, response: "httpx.Response", seconds: float) -> Iterator[bytes]:
        end = time.monotonic() + seconds
        for piece in response.iter_bytes():
            yield piece
            if time.monotonic() > end:
                raise Transient(f"expected the whole answer within {seconds:g} s, was still arriving")

    def _raise_failure(self, answer: Answer, attempt: int) -> None:
        failure = self._provider.failure(answer)
        if failure is None:
            return
        if failure.retry_at is None and isinstance(failure, Transient | RateLimited):
            failure.retry_at = self._after(self._seconds(failure, answer, attempt))
        if isinstance(failure, RateLimited) and failure.retry_at is not None:
            self._bucket.pause(failure.retry_at.timestamp())
        raise failure

    def _seconds(self, failure: ProviderError, answer: Answer, attempt: int) -> float:
        limited = isinstance(failure, RateLimited)
        seconds = told_wait(answer.headers, 2 * self._provider.first_wait if limited else None)
        if seconds is None and limited:
            seconds = self._provider.vendor_wait(answer)
        return self._backoff(attempt) if seconds is None else seconds + _jitter(self._provider.first_wait)

    def _backoff(self, attempt: int) -> float:
        return _jitter(min(self._provider.longest_wait, self._provider.first_wait * 2.0 ** (attempt - 1)))

    def _told(self, failure: ProviderError, request: Request, attempt: int) -> ProviderError:
        if isinstance(failure, Transient) and failure.retry_at is None:
            failure.retry_at = self._after(self._backoff(attempt))
        self._count(error=type(failure).__name__)
        names = self._provider.capabilities.variables if isinstance(failure, AuthFailed) else ()
        read_from = f" (read from {', '.join(names)})" if names else ""
        failure.args = (self._redact(f"{self._provider.name}: {request.path.split('?')[0]}: {failure}{read_from}"),)
        return failure

    def _after(self, seconds: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=min(seconds, LONGEST_PAUSE))

    def _count(self, error: str | None = None, **amounts: float) -> None:
        with self._lock:
            traffic = self._provider.traffic
            for name, amount in amounts.items():
                setattr(traffic, name, getattr(traffic, name) + amount)
            if error is not None:
                traffic.errors[error] += 1

    def _count_wait(self, seconds: float, mode: Wait | None) -> None:
        if seconds:
            self._count(waited=seconds)
        if seconds and mode is not None:
            with self._lock:
                self._provider.traffic.waits[mode] += 1

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redact(record.getMessage()), ()
        return True


@dataclass
class _Patience:
    """How long a request is tried: `until`, put off by what it waits for a place in the quota, within the run."""

    until: float
    run_end: float

    @property
    def end(self) -> float:
        return min(self.until, self.run_end)


def by_status(answer: Answer) -> ProviderError | None:
    """The failure a status means by itself; None for 2xx."""
    if 200 <= answer.status < 300:
        return None
    found = STATUSES.get(answer.status)
    if found is None:
        found = Transient if answer.status >= 500 else BadRequest if answer.status >= 400 else Malformed
    return found(f"status {answer.status}: {answer.text}")


def told_wait(headers: Mapping[str, str], reset_margin: float | None) -> float | None:
    """Seconds the server says to wait: Retry-After, seconds or a date; else X-RateLimit-Reset where a margin is given.

    A date or a reset is compared with the server's own clock, where it shows it.
    """
    now = _instant(headers.get("date", "")) or time.time()
    after = headers.get("retry-after", "")
    if after:
        seconds, at = _number(after), _instant(after)
        told = seconds if seconds is not None else at - now if at is not None else None
        if told is not None:
            return max(told, 0.0)
    reset = _number(headers.get("x-ratelimit-reset", ""))
    if reset is None or reset_margin is None:
        return None
    return max(reset - now, 0.0) + reset_margin


def link_path(link: str) -> str:
    """Path and query of a link to the next page. Its host is not followed: vendors name others than the one asked."""
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def closed_before(end: datetime) -> datetime:
    """`end`, or the first instant of the minute that is running now: a bar that is not over is not asked for."""
    return min(end, datetime.now(UTC).replace(second=0, microsecond=0))


def _check_address(address: str, hosts: Sequence[str]) -> None:
    parts = urlsplit(address)
    theirs = parts.scheme == "https" and parts.hostname in hosts
    here = parts.scheme in ("http", "https") and _is_loopback(address)
    if not (theirs or here) or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            f"base_url: expected https:// and a host of {', '.join(hosts)}, or an address of this machine, "
            f"was {parts.hostname!r}"
        )


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_size(response: "httpx.Response", size: int) -> None:
    told = response.headers.get("content-length")
    if told is not None and "content-encoding" not in response.headers and int(told) != size:
        raise Transient(f"expected a file of {told} bytes, was {size}")


def _jitter(longest: float) -> float:
    return random.uniform(0, longest)  # noqa: S311  # spreads requests, guards nothing


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d+)?", text.strip()) else None


def _instant(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
