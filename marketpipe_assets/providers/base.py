"""What a provider is: the one method each vendor answers, and what can go wrong. No vendor's details."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

import polars as pl
from dagster import ConfigurableResource


class ProviderError(Exception):
    """A provider could not answer. Nothing of the answer may be stored.

    ProviderError
    └── BadFile     a local file is truncated, empty, mislabelled, or not what its format says
    """


class BadFile(ProviderError):
    """A local vendor file that cannot be trusted; the message names it and what was expected."""


class BarProvider(ConfigurableResource, ABC):  # type: ignore[type-arg]  # ConfigurableResource is generic only in name
    """A source of 1-minute bars. Settings are fields; one instance serves one run."""

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
