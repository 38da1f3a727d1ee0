"""`marketpipe ingest`: fetch bars of symbols and sessions through the market's ingest job."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.display import console, counted, some, span, table
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    MarketOption,
    StartOption,
    SymbolsOption,
    asked_dates,
    chosen_market,
    configuration,
    in_order,
    listed,
    over,
    retired,
)
from marketpipe_assets.cli.outcome import RunTimeError, UserError, lake_access, note, say
from marketpipe_assets.cli.overview import overview, overview_table
from marketpipe_assets.cli.runs import Failed, Plan, market_grid, run_each
from marketpipe_assets.config import Config, Market

if TYPE_CHECKING:
    from marketpipe_assets.defs.partitions import Grid, Selection


def ingest(
    market: MarketOption = None,
    symbols: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Store an answer with fewer bars of a symbol-day than are stored.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs it would start, and start none.")] = False,
    config: ConfigOption = None,
) -> None:
    """Fetch, judge, resample and check bars of symbols and sessions.

    Without --start from the market's start, without --end up to the last session that is over. Large ranges are
    several runs; each is in the web UI. What is stored already is fetched again and replaced.
    """
    loaded = configuration(config)
    names = listed(symbols)
    chosen = chosen_market(loaded, market, names)
    if gone := retired(chosen, names):
        raise UserError(
            f"expected configured symbols of {chosen.name}, was {', '.join(gone)}: retired, only their bars are held"
        )
    dates = _finished(chosen, asked_dates(chosen, start, end))
    plans = ingest_plans(
        market_grid(loaded, chosen), dict.fromkeys(dates, in_order(chosen, names)), allow_shrink=allow_shrink
    )
    if dry_run:
        show_plan(chosen, plans)
        return
    finish(loaded, chosen, [plan.selection for plan in plans], run_each(loaded, plans))


def ingest_plans(grid: "Grid", wanted: Mapping[date, Sequence[str]], *, allow_shrink: bool = False) -> list[Plan]:
    """Runs of the market's ingest job that cover the wanted symbol-days and no others."""
    from marketpipe_assets.defs.jobs import ingest_job_name
    from marketpipe_assets.defs.planner import planned_runs

    market = grid.market.name
    asset = f"{market}__raw_bars_1m"
    run_config = {"ops": {asset: {"config": {"allow_shrink": True}}}} if allow_shrink else {}
    job = ingest_job_name(market)
    return [Plan(market, job, each, grid.tags(each), run_config) for each in planned_runs(grid, wanted)]


def finish(config: Config, market: Market, worked_on: Sequence["Selection"], failed: Sequence[Failed]) -> None:
    """Print what the lake now holds of what was worked on; exit 1 where one failed, or it is no bar at all.

    Where a run failed and no bar is held, only the failure is told.
    """
    with lake_access():
        held = overview(config.lake, market, worked_on)
    if held.held or not failed:
        console().print(overview_table({market.name: held}))
    if failed:
        raise typer.Exit(say("\n".join(map(str, failed)), 1))
    if not held.held:
        asked = counted(held.asked_symbol_days, "symbol-day")
        raise RunTimeError(f"expected bars of {asked} of {market.name}, was none from {' and '.join(market.providers)}")
    if bare := sorted(held.symbols - held.held):
        note(f"no bar of {some(bare)} in these sessions")


def show_plan(market: Market, plans: Sequence[Plan]) -> None:
    """The runs a command would start."""
    minutes = dict(market.sessions.expected_minutes(market.sessions.dates).iter_rows())
    rows = [
        (
            number,
            market.name,
            some(plan.selection.symbols),
            f"{len(plan.selection.dates):,}: {span(plan.selection.dates)}",
            plan.selection.symbol_days,
            len(plan.selection.symbols) * sum(minutes[day] for day in plan.selection.dates),
        )
        for number, plan in enumerate(plans, 1)
    ]
    numbers = ("run", "symbol-days", "regular minutes")
    console().print(table(("run", "market", "symbols", "sessions", *numbers[1:]), rows, numbers))
    console().print(f"{counted(len(plans), 'run')} of {plans[0].job} would start; nothing was started")


def _finished(market: Market, dates: Sequence[date]) -> Sequence[date]:
    finished = over(market, dates)
    if not finished:
        raise UserError(f"expected sessions of {market.name} that are over, was {span(dates)}: not published yet")
    if late := dates[len(finished) :]:
        note(f"{span(late)} of {market.name} left out: not over yet")
    return finished
