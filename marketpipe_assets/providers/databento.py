"""Minute bars of Databento, which are paid for: the cost is asked first, and a budget is kept to."""

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import msgspec
import polars as pl
from pydantic import Field, PrivateAttr

from marketpipe_assets.bars.schema import VENDOR_COLUMNS, conform, empty
from marketpipe_assets.providers.base import (
    BadFile,
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfRange,
    ProviderError,
    Rate,
)
from marketpipe_assets.providers.formats.archive import Limits, first_bytes
from marketpipe_assets.providers.formats.dbn import Dbn
from marketpipe_assets.providers.formats.reader import READ_COLUMNS, Settings
from marketpipe_assets.providers.http import TORN_ATTEMPTS, Answer, HttpProvider, Request, by_status, closed_before

SCHEMA = "ohlcv-1m"
SYMBOLS = 2_000
"""Most symbols in one request."""

NOT_YET = ("data_end_after_available_end", "data_start_after_available_end")
"""Cases of a refusal for time that the data set does not have yet."""

UNRESOLVED = "None of the symbols could be resolved"
"""Told where no symbol has an instrument on these days; where some have one, the answer names the others."""


class Payload(msgspec.Struct):
    """What the data set has."""

    available_end: datetime | None = None


class Detail(msgspec.Struct):
    """Why a request is refused."""

    case: str = ""
    message: str = ""
    payload: Payload | None = None


class Refusal(msgspec.Struct):
    detail: Detail | str


class OverBudget(NotEntitled):
    """A request costs more dollars than the budget of this run still has. Nothing was bought."""

    def __init__(self, message: str, cost: float, budget: float) -> None:
        super().__init__(message)
        self.cost = cost
        self.budget = budget


class Unresolved(NotFound):
    """None of the symbols has an instrument on the days asked for."""


class DatabentoProvider(HttpProvider):
    """Bars of one `dataset`; whether its volume is one exchange's or the whole tape's depends on it.

    Before each request its cost is asked, which costs nothing. All requests of an instance, which serves one run of one
    process, share `budget_dollars`; the first that would go beyond it raises `OverBudget` and is not sent. An answer
    that breaks off is asked for again, and Databento may charge it again: one request costs at most `attempts` times
    what was estimated.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "future", "spread"),
        history="as far as the data set: EQUS.MINI since 2023, XNAS.ITCH since 2018",
        times="nanoseconds, start of the bar; end of a range exclusive; no record without a trade",
        symbols_per_request=SYMBOLS,
        rates=(Rate(100, 1),),
        concurrency=4,
        secrets=(("DATABENTO_API_KEY",),),
        keyless=False,
        paid_plan="by volume; recent days need a licence",
    )
    hosts: ClassVar[tuple[str, ...]] = ("hist.databento.com",)

    name: str = Field(default="databento", description="Name of the provider, kept with each bar")
    dataset: str = Field(min_length=1, description="Data set, kept as the feed: EQUS.MINI, XNAS.ITCH, GLBX.MDP3 …")
    stype_in: Literal["raw_symbol", "continuous"] = Field(
        default="raw_symbol", description="What symbols are: raw_symbol, or continuous (ES.c.0)"
    )
    budget_dollars: float = Field(default=1.0, ge=0, description="Most dollars all requests of one run may cost")
    attempts: int = Field(default=3, gt=0, description="Most attempts at one request, each of which may be charged")

    _money: Any = PrivateAttr(default_factory=Lock)
    _spent: float = PrivateAttr(default=0.0)

    @property
    def spent_dollars(self) -> float:
        """What the requests so far cost, as Databento estimates it."""
        return self._spent

    def headers(self) -> Mapping[str, str]:
        (key,) = self.secrets()
        return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}

    def failure(self, answer: Answer) -> ProviderError | None:
        """A refusal has a case, of which three share status 422, or is a sentence."""
        found = by_status(answer)
        if not isinstance(found, BadRequest):
            return found
        detail = _detail(answer)
        told = f"status {answer.status}: {detail.case}: {detail.message or answer.text}"
        if detail.case in NOT_YET:
            return OutOfRange(told, available_end=detail.payload.available_end if detail.payload else None)
        return Unresolved(told) if UNRESOLVED in detail.message else BadRequest(told)

    @property
    def feed_asked(self) -> str:
        return self.dataset

    def ping(self) -> None:
        """Ask for the range of the data set, which costs nothing."""
        self.body(Request("/v0/metadata.get_dataset_range", {"dataset": self.dataset}))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """As `BarProvider` says. Of a range the data set does not have yet, the part that it has."""
        end = closed_before(end)
        wanted = list(dict.fromkeys(symbols))
        if start >= end:
            return empty(VENDOR_COLUMNS)
        batches = [wanted[first : first + SYMBOLS] for first in range(0, len(wanted), SYMBOLS)]
        read = self.in_parallel(lambda batch: self._available(batch, start, end), batches)
        bars = pl.concat([pl.DataFrame(schema=dict(READ_COLUMNS)), *read])
        place = pl.col("symbol").replace_strict(wanted, range(len(wanted)), return_dtype=pl.Int64)
        said = bars.sort(place, maintain_order=True).with_columns(provider=pl.lit(self.name), feed=pl.lit(self.dataset))
        return self.checked(conform(said, VENDOR_COLUMNS), start, end)

    def dollars(self, symbols: Sequence[str], start: datetime, end: datetime) -> float | None:
        """What Databento says the bars would cost; to ask is free."""
        wanted = list(dict.fromkeys(symbols))
        batches = [wanted[first : first + SYMBOLS] for first in range(0, len(wanted), SYMBOLS)]
        return sum(self._cost(self._form(batch, start, closed_before(end))) for batch in batches)

    def _available(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        try:
            return self._bought(symbols, start, end)
        except OutOfRange as error:
            if error.available_end is None:
                raise
            last = error.available_end.astimezone(UTC).replace(second=0, microsecond=0)
        if start >= last:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        return self._bought(symbols, start, min(end, last))

    def _bought(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        form = self._form(symbols, start, end)
        try:
            cost = self._cost(form)
            with_ids = {**form, "stype_out": "instrument_id", "encoding": "dbn", "compression": "zstd"}
            file = Request("/v0/timeseries.get_range", form=with_ids)
            return self._downloaded(file, cost, lambda path: _bars(path, symbols, start, end))
        except Unresolved:
            return pl.DataFrame(schema=dict(READ_COLUMNS))

    def _form(self, symbols: Sequence[str], start: datetime, end: datetime) -> Mapping[str, str]:
        return {
            "dataset": self.dataset,
            "symbols": ",".join(symbols),
            "schema": SCHEMA,
            "stype_in": self.stype_in,
            "start": _rfc3339(start),
            "end": _rfc3339(end),
        }

    def _cost(self, form: Mapping[str, str]) -> float:
        return self.fetch(Request("/v0/metadata.get_cost", form={**form, "mode": "historical-streaming"}), float)

    def _downloaded(self, request: Request, cost: float, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
        fault = ""
        for _ in range(TORN_ATTEMPTS):
            self._spend(cost)
            try:
                with self.downloaded(request) as file:
                    return read(file)
            except BadFile as error:
                fault = f"{self.name}: {request.path}: {error}"
            except (BadRequest, OutOfRange, NotFound):
                self._spend(-cost)  # what is refused is not charged
                raise
        raise Malformed(fault)

    def _spend(self, cost: float) -> None:
        with self._money:
            if self._spent + cost > self.budget_dollars:
                raise OverBudget(
                    f"{self.name}: expected a cost within budget_dollars of {self.budget_dollars:.4f}, of which this "
                    f"run has spent {self._spent:.4f}, was {cost:.4f} dollars: ask for less, or raise budget_dollars",
                    cost,
                    self.budget_dollars,
                )
            self._spent += cost


def _bars(file: Path, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    named = file.rename(file.with_suffix(".dbn.zst"))
    if not _has_records(named):
        return pl.DataFrame(schema=dict(READ_COLUMNS))
    return Dbn(Settings(root=named.parent, limits=Limits())).bars(symbols, start, end)


def _has_records(file: Path) -> bool:
    prefix = first_bytes(file, 8)
    header_bytes = len(prefix) + int.from_bytes(prefix[4:], "little")
    return prefix[:3] != b"DBN" or len(first_bytes(file, header_bytes + 1)) != header_bytes


def _detail(answer: Answer) -> Detail:
    try:
        refusal = msgspec.json.decode(answer.body, type=Refusal)
    except msgspec.DecodeError:
        return Detail(message=answer.text)
    return Detail(message=refusal.detail) if isinstance(refusal.detail, str) else refusal.detail


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
