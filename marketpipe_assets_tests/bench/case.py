"""What is measured: some symbols over some sessions of invented bars, the same in every process."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.providers.synthetic import SyntheticProvider

MARKET = "bench"
CALENDAR = "XNYS"
START = date(2024, 1, 2)  # the first session that closes early comes 125 sessions later: all have 390 minutes
TIMEFRAMES = ("5m", "15m", "1h", "1d")


class Case(BaseModel):
    """`faults` are rates per symbol-session, as the synthetic provider takes them; `partition` is a market's, which has
    as many symbols `batches` times: those of the case, and others that warm a process up or are measured again.
    """

    model_config = ConfigDict(frozen=True)

    symbol_count: int
    session_count: int
    calendar: str = CALENDAR
    faults: Mapping[str, float] = {}
    partition: Mapping[str, int | str] = {}
    first_symbol: int = 0
    batches: int = 1

    @property
    def symbol_days(self) -> int:
        return self.symbol_count * self.session_count

    @property
    def symbols(self) -> Sequence[str]:
        return self.batch(0)

    def batch(self, number: int) -> Sequence[str]:
        """The case's own symbols are batch 0."""
        first = self.first_symbol + number * self.symbol_count
        return [f"S{number:02d}" for number in range(first, first + self.symbol_count)]

    @cached_property
    def sessions(self) -> Sessions:
        return sessions(self.calendar, START, date(START.year + 1, 1, 1))

    @property
    def dates(self) -> Sequence[date]:
        return self.sessions.dates[: self.session_count]

    @cached_property
    def vendor_bars(self) -> pl.DataFrame:
        """What the provider answers, in memory."""
        return self.generated()

    def generated(self) -> pl.DataFrame:
        provider = SyntheticProvider(calendar=self.calendar, faults=dict(self.faults))
        return provider.minute_bars(self.symbols, *self.sessions.request(self.dates))

    def configuration(self, lake: str) -> Mapping[str, Any]:
        """The same as a marketpipe.yaml."""
        return {
            "config_version": 1,
            "lake": lake,
            "providers": {"synthetic": {"calendar": self.calendar, "faults": dict(self.faults)}},
            "markets": {
                MARKET: {
                    "calendar": self.calendar,
                    "asset_class": "equity",
                    "provider": "synthetic",
                    "symbols": [symbol for number in range(self.batches) for symbol in self.batch(number)],
                    "start": f"{START}",
                    "timeframes": list(TIMEFRAMES),
                    "max_quarantined_share": 1,
                    "partition": dict(self.partition),
                }
            },
        }
