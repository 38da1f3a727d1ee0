"""What the lake holds of some symbols on some sessions: bars per table, quarantined by rule, coverage."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from marketpipe_assets.cli.display import table
from marketpipe_assets.config import Market

if TYPE_CHECKING:
    from rich.table import Table

    from marketpipe_assets.defs.partitions import Selection


class Overview(NamedTuple):
    """Counts of one market. `held` are the symbols and `symbol_days` those with raw bars; minutes are regular ones."""

    symbols: frozenset[str]
    held: frozenset[str]
    sessions: frozenset[date]
    asked_symbol_days: int
    symbol_days: int
    bars: Counter[str]
    broken: Counter[str]
    expected_minutes: int
    received_minutes: int


def overview(lake: Path, market: Market, selections: Iterable["Selection"]) -> Overview:
    """Read as much at once as a run may hold. Raises `DamagedFile`."""
    parts = [_part(lake, market, *part) for part in _batches(selections, market.max_symbol_days_per_run)]
    return Overview(
        frozenset().union(*(part.symbols for part in parts)),
        frozenset().union(*(part.held for part in parts)),
        frozenset().union(*(part.sessions for part in parts)),
        sum(part.asked_symbol_days for part in parts),
        sum(part.symbol_days for part in parts),
        _summed(part.bars for part in parts),
        _summed(part.broken for part in parts),
        sum(part.expected_minutes for part in parts),
        sum(part.received_minutes for part in parts),
    )


def _batches(selections: Iterable["Selection"], most: int) -> Iterator[tuple[Sequence[str], Sequence[date]]]:
    """The same symbol-days, all dates of a symbol together: a file of a year is read once."""
    dates_of: dict[tuple[str, ...], list[date]] = {}
    for symbols, dates in selections:
        dates_of.setdefault(tuple(symbols), []).extend(dates)
    for symbols, dates in dates_of.items():
        wide = max(1, most // len(dates))
        yield from ((symbols[first : first + wide], sorted(dates)) for first in range(0, len(symbols), wide))


def _summed(counters: Iterable[Counter[str]]) -> Counter[str]:
    total = Counter[str]()
    for counter in counters:
        total.update(counter)  # + would leave out what was counted to 0
    return total


COLUMNS = {
    "raw_bars_1m": ("symbol", "session_date"),
    "bars_1m": ("symbol", "ts", "session_date"),
    "quarantined_bars_1m": ("broken_rules",),
}
"""What is read of a table; of any other, how many rows there are."""


def _part(lake: Path, market: Market, symbols: Sequence[str], dates: Sequence[date]) -> Overview:
    import polars as pl

    from marketpipe_assets.bars.coverage import coverage
    from marketpipe_assets.bars.symbol_days import counted
    from marketpipe_assets.lake.scan import read_bars
    from marketpipe_assets.query import tables_of

    owned = market.sessions.owned_dates(dates)
    bars = {
        name: read_bars(lake, market.name, name, symbols, owned, COLUMNS.get(name, ("session_date",)))
        for name in tables_of(market)
    }
    days = counted(bars["raw_bars_1m"]).filter(pl.col("session_date").is_in(list(dates)))
    minutes = coverage(bars["bars_1m"], bars["bars_1m"], market.sessions, symbols, dates).days
    return Overview(
        frozenset(symbols),
        frozenset(days["symbol"]),
        frozenset(dates),
        len(symbols) * len(dates),
        days.height,
        Counter({name: frame.height for name, frame in bars.items()}),
        Counter(bars["quarantined_bars_1m"]["broken_rules"].explode().drop_nulls().to_list()),
        int(minutes["expected"].sum()),
        int(minutes["valid"].sum()),
    )


def overview_table(overviews: Mapping[str, Overview]) -> "Table":
    """One column per market."""
    found = list(overviews.values())
    tables = list(dict.fromkeys(name for each in found for name in each.bars))
    rules = sorted({name for each in found for name in each.broken})
    rows: list[tuple[object, ...]] = [
        ("symbols", *(len(each.symbols) for each in found)),
        ("sessions", *(len(each.sessions) for each in found)),
        ("symbol-days with bars", *(f"{each.symbol_days:,} of {each.asked_symbol_days:,}" for each in found)),
    ]
    for name in tables:
        rows.append((name, *(each.bars.get(name, "") for each in found)))
        if name == "quarantined_bars_1m":
            rows += [(f"  {rule}", *(each.broken[rule] for each in found)) for rule in rules]
    rows.append(("regular minutes", *(_covered(each) for each in found)))
    return table(("", *overviews), rows, numbers=overviews)


def _covered(each: Overview) -> str:
    share = each.received_minutes / each.expected_minutes if each.expected_minutes else 1.0
    return f"{each.received_minutes:,} of {each.expected_minutes:,} ({_percent(share)})"


def _percent(share: float) -> str:
    return "100 %" if share == 1 else f"{min(share, 0.9999):.2%}".replace("%", " %")
