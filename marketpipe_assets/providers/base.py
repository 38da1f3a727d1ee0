"""What a provider is: the one method each vendor answers, and what can go wrong. No vendor's details."""

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any, ClassVar, NamedTuple, Self

import polars as pl
from dagster import ConfigurableResource
from pydantic import BaseModel, ConfigDict, PrivateAttr


class ProviderError(Exception):
    """A provider could not answer. Nothing of the answer may be stored, but for the `part` of an `OutOfRange`.

    ProviderError
    ├── Transient       timeout, 5xx, 408, 499, a broken connection: the same request may work later
    ├── RateLimited     the vendor's quota is used up
    ├── AuthFailed      no key, or a wrong one; names the variables it is read from
    ├── NotEntitled     the key is good and the plan does not cover the request
    ├── BadRequest      the vendor refuses what was asked, or a setting does not fit it
    ├── NotFound        the vendor does not know the symbol or the path
    ├── OutOfTime       the run's own deadline came before the answer
    ├── OutOfRange      the vendor has no data for the time asked for, or not yet
    ├── Malformed       an answer that is not what the vendor's interface says
    └── BadFile         a local file is truncated, empty, mislabelled, or not what its format says

    `retry_at` is when asking again can work, where that is known. Only the first two are retried, and only until the
    provider's deadline: one that is raised was retried already. `OutOfTime` is for another run to try again, and the
    others fail again however often one asks.
    """

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class Transient(ProviderError):
    """The same request may work later."""


class RateLimited(ProviderError):
    """The vendor's quota is used up until `retry_at`."""


class AuthFailed(ProviderError):
    """The vendor does not accept who asks; the message names the variables that hold the secrets."""


class NotEntitled(ProviderError):
    """The plan of this key does not cover the request."""


class BadRequest(ProviderError):
    """What was asked cannot be answered: the vendor refuses it, or a setting does not fit it."""


class NotFound(ProviderError):
    """The vendor does not know what was asked for."""


class OutOfTime(ProviderError):
    """The run's own deadline came before the answer; another run can ask at `retry_at`."""


class OutOfRange(ProviderError):
    """The vendor has no data for the time asked for; what it has ends at `available_end`, where it says so.

    `part` are bars of the range that it does have, as `minute_bars` gives them, where its settings want them kept.
    """

    def __init__(
        self,
        message: str,
        retry_at: datetime | None = None,
        available_end: datetime | None = None,
        part: pl.DataFrame | None = None,
    ) -> None:
        super().__init__(message, retry_at)
        self.available_end = available_end
        self.part = part


class Malformed(ProviderError):
    """An answer that is not what the vendor's interface says."""


class BadFile(ProviderError):
    """A local vendor file that cannot be trusted; the message names it and what was expected."""


class Rate(NamedTuple):
    """At most so many requests in any window of so many seconds."""

    requests: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests:,} per {self.seconds:g} s"


class Capabilities(BaseModel):
    """What a provider can do, in words and numbers for people who choose one. `marketpipe providers` prints it."""

    model_config = ConfigDict(frozen=True)

    asset_classes: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    history: str = ""
    """How far minutes go back."""
    times: str = ""
    """How the vendor says the time of a bar and the end of a range, and what a minute without a trade is."""
    page_size: int | None = None
    """Most bars in one answer; None: no limit."""
    symbols_per_request: int | None = None
    """None: no limit."""
    rates: tuple[Rate, ...] = ()
    """The quota of the smallest plan, all of which hold at once; none: local."""
    quota_per: str = "key"
    """Whom the vendor counts: key or address."""
    concurrency: int = 1
    """Requests at one moment."""
    secrets: tuple[tuple[str, ...], ...] = ()
    """Of each secret the environment variables it is read from; the first that is set counts."""
    keyless: bool = True
    """Whether something is answered without secrets."""
    daily_bars: bool = False
    """Whether it gives daily bars of its own, which minutes can be tied out with."""
    paid_plan: str = "no"
    """Whether minutes need a paid plan: no, yes, or for what."""
    longest_window: timedelta | None = None
    """Longest span of time in one request; None: no limit."""
    request_weight: int = 1
    """What a request counts in the quota."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Every environment variable that a secret may be read from."""
        return tuple(name for names in self.secrets for name in names)

    def missing(self, found: Container[str]) -> str:
        """What is expected in the environment and is not among the variables found; empty: nothing."""
        ways = [" or ".join(names) for names in self.secrets if not any(name in found for name in names)]
        return ways[0] if len(ways) == 1 else " and ".join(f"({way})" if " or " in way else way for way in ways)

    def requests_for(self, symbols: int, minutes: int, span: timedelta) -> int:
        """Requests for so many minutes of each symbol within a span, where every minute has a bar; 0: none is sent."""
        if not self.rates:
            return 0
        batches = ceil(symbols / (self.symbols_per_request or symbols))
        each = ceil(symbols / batches) * minutes
        pages = ceil(each / self.page_size) if self.page_size else 1
        windows = ceil(span / self.longest_window) if self.longest_window else 1
        return batches * max(pages, windows)


class BarProvider(ConfigurableResource, ABC):  # type: ignore[type-arg]  # ConfigurableResource is generic only in name
    """A source of 1-minute bars. Settings are fields; one instance serves one run."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    _secrets: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """Bars whose first instant lies in `[start, end)` (both aware), as the vendor says them.

        Columns are `bars.schema.VENDOR_COLUMNS`: `ts` is the bar's first minute in UTC, prices are unadjusted, volume
        may be fractional, `trade_count` and `vwap` are null where the vendor has none, `provider` and `feed` are
        filled. Rows are grouped by symbol in the order asked; within a symbol they keep the order of arrival, and
        nothing is sorted, dropped as a duplicate, or repaired. A symbol the vendor has no bars for has no rows: an
        empty answer is not an error.

        Raises `ProviderError` where the vendor could not answer in full.
        """

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """The vendor's own day of each symbol on these dates, not one made from its minutes.

        Columns are `bars.schema.VENDOR_DAY_COLUMNS`, prices unadjusted, rows by symbol in the order asked, then date,
        at most one for each. A day the vendor does not have has no row. Raises `ProviderError` where the vendor could
        not answer in full, `BadRequest` where it gives no daily bars (`capabilities.daily_bars`).
        """
        asked = f"{len(symbols)} symbols on {len(dates)} dates"
        raise BadRequest(f"{type(self).__name__} gives no daily bars of its own: {asked} were asked for")

    @property
    def feed_asked(self) -> str:
        """The feed that what it gives is counted under: where no setting says it, the first one it has."""
        return next(iter(self.capabilities.feeds), "")

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The quota to keep to."""
        return self.capabilities.rates

    def remaining_requests(self) -> int | None:
        """Requests that can be sent at this moment; None where there is no quota, or no key that it is counted by."""
        return None

    def dollars(self, symbols: Sequence[str], start: datetime, end: datetime) -> float | None:  # noqa: ARG002  # paid ones
        """What `minute_bars` of the same would cost; None: the vendor does not charge by the request."""
        return None

    def give_secrets(self, secrets: Mapping[str, str]) -> None:
        """Keep the values of `capabilities.variables` that are set: no settings, so that Dagster never shows them."""
        self._secrets = dict(secrets)

    def _with_updated_values(self, values: Mapping[str, Any] | None) -> Self:
        # Dagster runs a copy made of the settings alone; without this the copy has no secrets.
        copy: Self = super()._with_updated_values(values)  # type: ignore[assignment]  # a copy is of the same class
        copy.give_secrets(self._secrets)
        return copy
