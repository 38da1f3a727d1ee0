"""Which symbol-days to ask a provider for: never fetched, or with holes it may fill. How they become runs is
planner.py's."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.bars.schema import KEY
from marketpipe_assets.catalog.asking import askable, asked_before, held
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.due import due_spans, first_kept, within
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.defs.planner import planned_runs
from marketpipe_assets.providers.base import Capabilities

NEVER, GAP, UNPUBLISHED = "never fetched", "vendor gap", "not yet published"

FIRST_WAIT: Mapping[str, timedelta] = {
    NEVER: timedelta(minutes=15),
    UNPUBLISHED: timedelta(hours=1),
    GAP: timedelta(hours=6),
}
"""How long a symbol-day waits after it was fetched, or after the first run that was started for it; each try doubles
it."""

LONGEST_WAIT = timedelta(days=30)

DAYS = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "why": pl.String(),
    "minutes": pl.Int64(),
    "tries": pl.Int64(),
    "due_at": pl.Datetime("us", "UTC"),
}


class Span(NamedTuple):
    """Half-open session dates to look at; None: the market's start, and the last session that is published."""

    first: date | None = None
    end: date | None = None


ALL = Span()


def wanted(
    catalog: Catalog, market: Market, now: datetime, span: Span = ALL, symbols: Collection[str] | None = None
) -> pl.DataFrame:
    """Symbol-days worth asking for, newest session first, columns `DAYS`.

    Those without a row in the ledger, once published and while listed, and those with minutes that are missing for a
    vendor gap or for being asked too early. Not what retention has removed or would remove. `due_at` is when the next
    try is worth it: one that was tried often waits long; null: now.
    """
    dates = _published(market, now, span)
    if not dates:
        return pl.DataFrame(schema=DAYS)
    chosen = [symbol for symbol in market.symbols if symbols is None or symbol in symbols]
    found = pl.concat([_never_fetched(catalog, market, dates, chosen), _incomplete(catalog, market, dates, chosen)])
    found = within(found, due_spans(catalog, market))
    if found.is_empty():
        return pl.DataFrame(schema=DAYS)
    before = asked_before(catalog, market.name)
    with_tries = found.join(before, on=KEY, how="left").with_columns(pl.col("tries").fill_null(0))
    since = pl.max_horizontal("fetched_at", "last_asked_at")
    return (
        with_tries.with_columns((since + _wait()).alias("due_at"))
        .select(*DAYS)
        .sort(["session_date", "symbol"], descending=[True, False])
    )


def due(days: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Those whose next try is worth it by now."""
    return days.filter(pl.col("due_at").is_null() | (pl.col("due_at") <= now))


def _wait() -> pl.Expr:
    first = pl.col("why").replace_strict(FIRST_WAIT, return_dtype=pl.Duration("us"))
    doubled = first * 2 ** pl.min_horizontal("tries", pl.lit(12))
    return pl.min_horizontal(doubled, pl.lit(LONGEST_WAIT))


def _published(market: Market, now: datetime, span: Span) -> Sequence[date]:
    first = max(span.first or date.min, first_kept(market))
    over = market.sessions.table.filter(
        pl.col("window_end") + pl.duration(minutes=market.schedules.after_close) <= now.astimezone(UTC),
        pl.col("session_date") >= first,
    )
    until = over if span.end is None else over.filter(pl.col("session_date") < span.end)
    return until["session_date"].to_list()


def _never_fetched(catalog: Catalog, market: Market, dates: Sequence[date], symbols: Sequence[str]) -> pl.DataFrame:
    row_of = {day: number for number, day in enumerate(dates)}
    column_of = {symbol: number for number, symbol in enumerate(symbols)}
    missing = np.ones((len(dates), len(symbols)), dtype=bool)
    every = frozenset(symbols)
    for each in held(catalog, market.name, dates[0], next_day(dates[-1])):
        if each.session_date in row_of:
            row = missing[row_of[each.session_date]]
            row[:] = False
            row[[column_of[name] for name in every.difference(each.names())]] = True
    rows, columns = np.nonzero(missing)
    day_minutes = dict(market.sessions.expected_minutes(dates).iter_rows())
    return pl.DataFrame(
        {
            "symbol": pl.Series(list(symbols), dtype=pl.String()).gather(columns),
            "session_date": pl.Series(list(dates), dtype=pl.Date()).gather(rows),
            "minutes": pl.Series([day_minutes[day] for day in dates], dtype=pl.Int64()).gather(rows),
        }
    ).select(
        *KEY,
        pl.lit(NEVER).alias("why"),
        "minutes",
        pl.lit(None, pl.Datetime("us", "UTC")).alias("fetched_at"),
    )


def _incomplete(catalog: Catalog, market: Market, dates: Sequence[date], symbols: Sequence[str]) -> pl.DataFrame:
    found = askable(catalog, market.name, dates[0], next_day(dates[-1]))
    return found.filter(pl.col("symbol").is_in(list(symbols)), pl.col("session_date").is_in(list(dates))).select(
        *KEY,
        pl.when(pl.col("vendor_gap") > 0).then(pl.lit(GAP)).otherwise(pl.lit(UNPUBLISHED)).alias("why"),
        (pl.col("vendor_gap") + pl.col("not_yet_published")).alias("minutes"),
        "fetched_at",
    )


class Budget(NamedTuple):
    """What may be asked now: at most so many runs, and so many requests where the provider counts them."""

    runs: int
    requests: int | None = None


class Planned(NamedTuple):
    """Runs to start, newest first, and what they cost. `left_over` symbol-days did not fit into the budget."""

    runs: Sequence[Selection]
    requests: int
    left_over: int

    @property
    def symbol_days(self) -> int:
        return sum(run.symbol_days for run in self.runs)


def planned(grid: Grid, days: pl.DataFrame, able: Capabilities, budget: Budget | None = None) -> Planned:
    """The fewest runs that fetch these symbol-days, newest first; with a budget as many of them as it has room for."""
    by_day = dict(days.group_by("session_date").agg("symbol").rows())
    runs = planned_runs(grid, by_day)
    newest = sorted(runs, key=lambda run: (run.dates[-1], run.dates[0]), reverse=True)
    chosen: list[Selection] = []
    spent = 0
    for run in newest if budget is None else newest[: budget.runs]:
        fitting = run if budget is None or budget.requests is None else _cut(grid, run, able, budget.requests - spent)
        if fitting is None:
            break
        chosen.append(fitting)
        spent += requests_for(grid.market, fitting, able)
    return Planned(chosen, spent, days.height - sum(run.symbol_days for run in chosen))


def _cut(grid: Grid, run: Selection, able: Capabilities, requests: int) -> Selection | None:
    """As many of a run's newest sessions as so many requests fetch; of one session as many symbols; None: nothing."""
    symbols, dates = run

    def fit(symbols: Sequence[str], dates: Sequence[date]) -> bool:
        return requests_for(grid.market, Selection(symbols, dates), able) <= requests

    first = bisect_left(range(len(dates)), True, key=lambda first: fit(symbols, dates[first:]))
    if first < len(dates):
        return Selection(symbols, dates[first:])
    without = bisect_left(range(len(symbols)), True, key=lambda without: fit(symbols[without:], dates[-1:]))
    return Selection(grid.first(symbols, len(symbols) - without), dates[-1:]) if without < len(symbols) else None


def requests_for(market: Market, run: Selection, able: Capabilities) -> int:
    """Requests a run takes where every minute asked for has a bar; 0 for a provider that sends none."""
    window = market.sessions.request(run.dates)
    span = (window.end - timedelta(microseconds=1)).date() - window.start.date() + timedelta(days=1)  # whole days, UTC
    return able.requests_for(len(run.symbols), sum(_window_minutes(market, run.dates)), span)


def _window_minutes(market: Market, dates: Sequence[date]) -> list[int]:
    """Minutes that are asked for of each of these sessions, extended hours included."""
    table = market.sessions.table.filter(pl.col("session_date").is_between(dates[0], dates[-1]))
    return table.select((pl.col("window_end") - pl.col("window_start")).dt.total_minutes()).to_series().to_list()
