"""Which stored sessions a command works on, and its options."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from marketpipe_assets.cli.options import asked_dates, in_order, selected, sessions_of
from marketpipe_assets.cli.outcome import UserError, lake_access
from marketpipe_assets.config import Market

RAW = "raw_bars_1m"
DAYS = 7

DaysOption = Annotated[
    int | None,
    typer.Option("--days", "-d", metavar="N", min=1, help="The last sessions that are stored.", show_default=str(DAYS)),
]
AllOption = Annotated[bool, typer.Option("--all", "-a", help="Every session that is stored.")]


def stored_days(
    lake: Path, market: Market, symbols: Sequence[str], table: str = RAW, dates: Sequence[date] | None = None
) -> Mapping[date, Sequence[str]]:
    """Session → those of the symbols of which the table holds bars, in partition order; all sessions by default."""
    from marketpipe_assets.lake.scan import bar_counts

    found = defaultdict[date, list[str]](list)
    sessions = frozenset(sessions_of(market).dates if dates is None else dates)
    for symbol in in_order(market, symbols):  # one at a time: years of thousands of symbols do not fit at once
        for _, day, _ in bar_counts(lake, market.name, table, [symbol], sorted(sessions)).iter_rows():
            found[day].append(symbol)
    return {day: found[day] for day in sorted(sessions & found.keys())}


def no_bars(market: Market, symbols: Sequence[str], dates: Sequence[date] | None) -> UserError:
    """What to raise where none of what was asked for is stored."""
    return UserError(
        f"expected stored bars of {selected(market, symbols, dates)}, was none: marketpipe ingest fetches them"
    )


def chosen_days(
    lake: Path,
    market: Market,
    symbols: Sequence[str],
    *,
    days: int | None,
    every: bool,
    start: str | None,
    end: str | None,
) -> Mapping[date, Sequence[str]]:
    """The stored symbol-days the options select. Raises `UserError` where they contradict or select none."""
    ranged = start is not None or end is not None
    if (days is not None) + every + ranged > 1:
        raise UserError("expected one of --days, --all, or --start and --end, was several")
    dates = asked_dates(market, start, end) if ranged else None
    with lake_access():
        stored = stored_days(lake, market, symbols, dates=dates)
    if not stored:
        raise no_bars(market, symbols, dates)
    chosen = list(stored) if every or ranged else list(stored)[-(days or DAYS) :]
    return {day: stored[day] for day in chosen}
