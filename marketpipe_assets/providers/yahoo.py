"""Minute bars of Yahoo's charts through yfinance, the extra `yahoo`: unofficial, of the last 30 days, without a key."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from json import JSONDecodeError
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import stamina
from pydantic import Field, PrivateAttr, model_validator

from marketpipe_assets.bars.schema import PRICES, TIMESTAMP, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    BadRequest,
    Capabilities,
    Malformed,
    NotFound,
    OutOfRange,
    ProviderError,
    Rate,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.http import HttpProvider, closed_before
from marketpipe_assets.providers.quota import Bucket

FEED = "chart"
HISTORY = timedelta(days=30)
LONGEST_WINDOW = timedelta(days=8)
MINUTE_US = 60_000_000
REQUESTS_A_CALL = 2
"""yfinance asks for the zone of a symbol's exchange too."""

REASONS: Mapping[str, type[ProviderError] | None] = {
    "status_code": Transient,
    "no price data found": None,
    "Data doesn't exist": None,
    "last 30 days": OutOfRange,
    "granularity data are allowed": OutOfRange,
    "No data found": NotFound,
    "no timezone found": NotFound,
}
"""Words of why there are no bars → what it means, the first that is found; None: no bars in the window, and no more."""

ONE_AT_A_TIME = Lock()
"""yfinance keeps one session, one cookie and one configuration for the whole process."""


class YahooProvider(HttpProvider):
    """Symbols with a dot are asked for with a dash (BRK.B as BRK-B).

    Yahoo adjusts minutes for splits of the days it still has, and yfinance sorts them and drops repeated times: what
    is stored is not all that was said. Volume is a whole number.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "crypto", "fx", "future", "index"),
        feeds=(FEED,),
        history="30 days",
        times="seconds, start of the bar; end of a range exclusive; nulls without a trade; adjusted for splits",
        symbols_per_request=1,
        rates=(Rate(30, 60),),
        quota_per="address",
        concurrency=1,
        keyless=True,
        paid_plan="no; personal use",
    )

    name: str = Field(default="yahoo", description="Name of the provider, kept with each bar")
    extended_hours: bool = Field(default=False, description="Also bars before the open and after the close")

    _bucket: Bucket | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _yfinance_knows_the_address(self) -> Self:
        if self.base_url:
            raise ValueError("base_url: expected none, because yfinance asks Yahoo's own hosts")
        return self

    def ping(self) -> None:
        """Ask for the last hour of one stock."""
        now = closed_before(datetime.now(UTC))
        self._asked("SPY", now - timedelta(hours=1), now)

    def teardown_after_execution(self, context: object) -> None:
        super().teardown_after_execution(context)
        if self._bucket is not None:
            self._bucket.close()
            self._bucket = None

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Raises `OutOfRange` for a start more than 30 days ago."""
        end = closed_before(end)
        if start >= end:
            return empty(VENDOR_COLUMNS)
        first = datetime.now(UTC) - HISTORY
        if start < first:
            raise OutOfRange(
                f"{self.name}: expected a start in the last 30 days, after {first:%Y-%m-%d %H:%M}, was {start}"
            )
        parts = [(symbol, *window) for symbol in dict.fromkeys(symbols) for window in _windows(start, end)]
        return self.checked(pl.concat([empty(VENDOR_COLUMNS), *(self._asked(*part) for part in parts)]), start, end)

    def _asked(self, symbol: str, start: datetime, end: datetime) -> pl.DataFrame:
        yfinance = _yfinance()
        deadline = time.time() + self.deadline_seconds
        # A pause is waited for in the bucket, which raises where it ends after the deadline.
        retries = stamina.retry_context(
            on=(Transient, RateLimited),
            attempts=self.attempts,
            timeout=self.deadline_seconds,
            wait_initial=self.first_wait,
            wait_max=self.longest_wait,
            wait_jitter=self.first_wait,
        )
        for attempt in retries:
            with attempt, ONE_AT_A_TIME, self._quota.request(REQUESTS_A_CALL, deadline):
                self.traffic.requests += 1
                return self._frame(symbol, self._history(yfinance, symbol, start, end), end)
        raise AssertionError  # the last attempt returns or raises

    @property
    def _quota(self) -> Bucket:
        if self._bucket is None:
            self._bucket = Bucket(Path(self.quota_file), "YahooProvider address", self.rates)
        return self._bucket

    def _history(self, yfinance: Any, symbol: str, start: datetime, end: datetime) -> Any:
        yfinance.config.debug.hide_exceptions = False  # or an unanswered request reads as an unknown symbol
        yfinance.data.YfData.cache_get.cache_clear()  # it keeps answers of any status
        failed = yfinance.exceptions
        try:
            return yfinance.Ticker(symbol.replace(".", "-")).history(
                start=start,
                end=end,
                interval="1m",
                prepost=self.extended_hours,
                auto_adjust=False,
                actions=False,
                keepna=True,
                timeout=self.read_timeout,
            )
        except failed.YFRateLimitError as error:
            self._quota.pause(time.time() + self.longest_wait)
            failure: ProviderError = RateLimited(f"{error}", _after(self.longest_wait))
        except failed.YFTickerMissingError as error:
            found = _missing(error.rationale)
            if found is None:
                return None
            failure = found
        except (failed.YFException, OSError, JSONDecodeError) as error:
            failure = Transient(f"{type(error).__name__}: {error}", _after(self.first_wait))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # yfinance takes the shape of an answer for granted.
            failure = Malformed(f"expected a chart, reading it ended with {type(error).__name__}: {error}")
        self.traffic.errors[type(failure).__name__] += 1
        failure.args = (f"{self.name}: {symbol}: {failure}",)
        raise failure

    def _frame(self, symbol: str, history: Any, end: datetime) -> pl.DataFrame:
        if history is None:
            return empty(VENDOR_COLUMNS)
        # Yahoo appends the latest price, even where it lies after the end.
        bars = bars_of(history).filter(pl.col("ts") < end)
        traded = bars.drop_nulls(PRICES)
        self.traffic.filler_rows += bars.height - traded.height
        said = {"symbol": symbol, "provider": self.name, "feed": FEED}
        return conform(traded.with_columns(pl.lit(text).alias(name) for name, text in said.items()), VENDOR_COLUMNS)


def bars_of(history: Any) -> pl.DataFrame:
    """Columns `ts`, prices and volume of yfinance's table, on whole minutes; null where a minute has no trade.

    The newest row may stand at the second of the last trade: it is no bar, and left out.
    """
    if missing := [name for name in (*map(str.title, PRICES), "Volume") if name not in history]:
        raise Malformed(f"expected columns {', '.join(missing)} of yfinance, had {', '.join(map(str, history))}")
    times = history.index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    values = {name: history[name.title()].to_numpy(dtype=np.float64) for name in (*PRICES, "volume")}
    bars = pl.DataFrame({"ts": times, **values}).with_columns(
        pl.col("ts").dt.replace_time_zone("UTC").cast(TIMESTAMP), pl.col(*values).fill_nan(None)
    )
    return bars.filter(pl.col("ts").dt.epoch("us") % MINUTE_US == 0)


def _missing(rationale: str) -> ProviderError | None:
    meaning = next((meaning for words, meaning in REASONS.items() if words in rationale), BadRequest)
    return None if meaning is None else meaning(rationale)


def _yfinance() -> Any:
    try:
        return import_module("yfinance")
    except ModuleNotFoundError as error:
        fault = f"expected the extra yahoo to be installed: pip install 'marketpipe_assets[yahoo]'; {error}"
    raise ProviderError(fault)


def _windows(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    starts = [start + n * LONGEST_WINDOW for n in range(-(-(end - start) // LONGEST_WINDOW))]
    return [(first, min(first + LONGEST_WINDOW, end)) for first in starts]


def _after(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
