"""`marketpipe demo`: materialize about a month of every market through Dagster, and show what exists."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import typer

from marketpipe_assets.cli.display import console, counted, span, table
from marketpipe_assets.cli.ingest import ingest_plans
from marketpipe_assets.cli.options import ConfigOption, configuration, over, sessions_of
from marketpipe_assets.cli.outcome import UserError, lake_access, note, say
from marketpipe_assets.cli.overview import overview, overview_table
from marketpipe_assets.cli.runs import market_grid, run_each
from marketpipe_assets.cli.stored import stored_days
from marketpipe_assets.config import PACKAGED, Config, Market


class Part(NamedTuple):
    """A market and the sessions the demo shows of it."""

    market: Market
    dates: Sequence[date]


def demo(config: ConfigOption = None) -> None:
    """Materialize a month of every market and show what exists.

    Through Dagster, with no key. Without a marketpipe.yaml the markets are the packaged ones, of invented bars. What
    is held already is not fetched again: a second run is quick and changes nothing.
    """
    loaded = configuration(config)
    parts = _parts(loaded)
    with lake_access():
        plans = [
            plan for part in parts for plan in ingest_plans(market_grid(loaded, part.market), _missing(loaded, part))
        ]
    failed = []
    if plans:
        console().print(
            f"{counted(len(plans), 'run')} of {_symbol_days(parts)} through Dagster, into {loaded.lake}", soft_wrap=True
        )
        failed = run_each(loaded, plans)
    else:
        console().print(f"{_symbol_days(parts)} are held already in {loaded.lake}; nothing was fetched", soft_wrap=True)
    _show(loaded, parts)
    if failed:
        raise typer.Exit(say("\n".join(map(str, failed)), 1))
    _show_next(loaded, parts[0].market)


def _parts(config: Config) -> list[Part]:
    months = {market.name: _month(market) for market in config.markets.values()}
    parts = [Part(config.markets[name], dates) for name, dates in months.items() if dates]
    none_over = f"no session of {', '.join(name for name, dates in months.items() if not dates)} is over yet"
    if not parts:
        raise UserError(none_over)
    if len(parts) < len(months):
        note(none_over)
    return parts


def _month(market: Market) -> Sequence[date]:
    """Sessions from the market's start to the end of its month, or of the next one where little of it is left."""
    end = (market.start + timedelta(days=15)).replace(day=1) + timedelta(days=31)
    return over(market, sessions_of(market).between(market.start, end.replace(day=1)))


def _missing(config: Config, part: Part) -> Mapping[date, Sequence[str]]:
    """The symbol-days without raw bars or without the longest ones, which are written last."""
    market, dates = part
    tables = ("raw_bars_1m", f"bars_{_longest(market)}")
    raw, longest = (stored_days(config.lake, market, (), name, dates) for name in tables)
    held = {day: {*raw.get(day, ())} & {*longest.get(day, ())} for day in dates}
    wanted = {day: [symbol for symbol in market.symbols if symbol not in held[day]] for day in dates}
    return {day: symbols for day, symbols in wanted.items() if symbols}


def _longest(market: Market) -> str:
    return market.timeframes[-1] if market.timeframes else "1m"


def _show(config: Config, parts: Sequence[Part]) -> None:
    from marketpipe_assets.defs.planner import planned_runs

    with lake_access():
        overviews = {
            market.name: overview(
                config.lake, market, planned_runs(market_grid(config, market), dict.fromkeys(dates, market.symbols))
            )
            for market, dates in parts
        }
    console().print()
    console().print(overview_table(overviews))
    _show_query(config, parts[0])


def _show_query(config: Config, part: Part) -> None:
    from marketpipe_assets.query import connect, select

    market, dates = part
    sql = (
        "SELECT symbol, count(*) AS days, min(low) AS low, max(high) AS high, sum(volume) AS volume\n"
        f"FROM {market.name}.bars_{_longest(market)}\n"
        f"WHERE session_date BETWEEN '{dates[0]}' AND '{dates[-1]}'\n"
        "GROUP BY symbol ORDER BY volume DESC LIMIT 5"
    )
    with lake_access():
        answer = select(connect(config), sql)
    numbers = answer.columns[1:]
    console().print(f'\nmarketpipe query "\n{sql}"\n', soft_wrap=True)
    console().print(table(answer.columns, answer.iter_rows(), numbers))


def _symbol_days(parts: Sequence[Part]) -> str:
    total = sum(len(part.market.symbols) * len(part.dates) for part in parts)
    dates = sorted({day for part in parts for day in part.dates})
    return f"{counted(total, 'symbol-day')} ({', '.join(part.market.name for part in parts)}; {span(dates)})"


def _show_next(config: Config, market: Market) -> None:
    longer = "1h" if "1h" in market.timeframes else "1m"
    rows = [
        ("make ui", "the graph, its runs and its checks in a browser"),
        (f"{_invoked()} bars {market.symbols[0]} --timeframe {longer}", "bars as a table, CSV, JSON or Parquet"),
        (f"{_invoked()} validate --all --show {market.symbols[0]}", "bars that broke a rule, and which rule"),
        (f"{_invoked()} status", "what the lake holds"),
    ]
    if config.path is None:
        rows.append((f"cp {_near(PACKAGED)} marketpipe.yaml", "your own configuration, to edit"))
    console().print("\nWhere to look next")
    for command, what in rows:
        console().print(f"  {command:<60}  {what}", soft_wrap=True)


def _invoked() -> str:
    """How to call this command again from here: by its name where the PATH has it."""
    return "marketpipe" if shutil.which("marketpipe") else str(_near(Path(sys.argv[0]).absolute()))


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
