"""Ask a market's providers in order: never two for one symbol-day. How one is asked is its own."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.order import ordered
from marketpipe_assets.bars.schema import BAR_COLUMNS, VENDOR_COLUMNS, conform, empty
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    BarProvider,
    NotEntitled,
    OutOfRange,
    ProviderError,
    RateLimited,
    Transient,
)

TERMINAL = (AuthFailed, NotEntitled, BadRequest)
"""Failures that asking again, or another provider, would hide: someone must mend a key, a plan or a setting."""

PASSING = (Transient, RateLimited)
"""Failures that end by themselves."""

KEY = ("symbol", "session_date")


class Answered(NamedTuple):
    """`bars` of `schema.BAR_COLUMNS`, by symbol and session; what each provider that was asked gave, or why not."""

    bars: pl.DataFrame
    said: Mapping[str, str]


class _Answer(NamedTuple):
    bars: pl.DataFrame
    outside: int

    @property
    def dropped(self) -> str:
        return f"; {self.outside:,} bars outside the hours asked for were not kept" if self.outside else ""


def ask(
    providers: Mapping[str, BarProvider], sessions: Sessions, symbols: Sequence[str], dates: Sequence[date]
) -> Answered:
    """Bars of every symbol on every session, the first provider's where it has any, else the next one's, and so on.

    A provider after the first is asked only for symbol-days that none before it has a bar of; bars of one symbol-day
    are always of one provider. The part of its answer that a provider out of range gives is kept of symbol-days that
    no other has. Raises a `TERMINAL` error at once. Raises the first of other errors where symbol-days are left without
    a bar: the provider that failed may have some, so they are not known to be empty.
    """
    bars, said = empty(BAR_COLUMNS), dict[str, str]()
    failures: dict[str, ProviderError] = {}
    wanted = _symbol_days(symbols, dates)
    for name, provider in providers.items():
        try:
            answer = _answer(provider, sessions, wanted)
        except TERMINAL:
            raise
        except ProviderError as error:
            failures[name] = error
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = f"{answer.bars.height:,} bars for {wanted.height:,} symbol-days{answer.dropped}"
            bars = pl.concat([bars, answer.bars])
            if len(said) == len(providers) and not failures:  # nobody asks what is still wanted
                break
            wanted = _without(wanted, answer.bars)
        if wanted.is_empty():
            break
    parts = _parts(failures, sessions, wanted)
    for name, part in parts.items():
        said[name] += f"; {part.height:,} bars that it still has are kept"
    return Answered(ordered(pl.concat([bars, *parts.values()]), KEY), said)


def _answer(provider: BarProvider, sessions: Sessions, wanted: pl.DataFrame) -> "_Answer":
    symbols = wanted["symbol"].unique(maintain_order=True).to_list()
    dates = wanted["session_date"].unique().sort().to_list()
    vendor = conform(provider.minute_bars(symbols, *sessions.request(dates)), VENDOR_COLUMNS)
    if foreign := sorted(set(vendor["symbol"].unique()) - set(symbols)):
        raise ProviderError(f"expected bars of {', '.join(symbols)}, was also {', '.join(foreign)}")
    return _ours(vendor, sessions, wanted)


def _ours(vendor: pl.DataFrame, sessions: Sessions, wanted: pl.DataFrame) -> "_Answer":
    symbols, dates = wanted["symbol"].unique(), wanted["session_date"].unique().sort().to_list()
    assigned = sessions.assign(vendor.filter(pl.col("symbol").is_in(symbols.implode())))
    bars = sessions.asked(assigned, dates)
    outside = assigned.height - bars.height
    if wanted.height == len(symbols) * len(dates):
        return _Answer(bars, outside)
    leads_to = bars.with_columns(sessions.owners(bars).alias("owner"))  # a closed day's bars go with the session after
    ours = wanted.rename({"session_date": "owner"})
    kept = leads_to.join(ours, on=("symbol", "owner"), how="semi", maintain_order="left").select(*BAR_COLUMNS)
    return _Answer(kept, outside)


def _parts(
    failures: Mapping[str, ProviderError], sessions: Sessions, wanted: pl.DataFrame
) -> Mapping[str, pl.DataFrame]:
    parts = {}
    for name, failure in failures.items():
        if isinstance(failure, OutOfRange) and failure.part is not None and not wanted.is_empty():
            parts[name] = _ours(failure.part, sessions, wanted).bars
            wanted = _without(wanted, parts[name])
    if failures and not wanted.is_empty():
        raise next(iter(failures.values()))
    return parts


def _without(wanted: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    return wanted.join(bars.select(KEY).unique(), on=KEY, how="anti", maintain_order="left")


def _symbol_days(symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    return pl.DataFrame({"symbol": list(symbols)}, schema={"symbol": pl.String()}).join(
        pl.DataFrame({"session_date": list(dates)}, schema={"session_date": pl.Date()}), how="cross"
    )
