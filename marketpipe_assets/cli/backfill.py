"""`marketpipe backfill`: fetch what the ledger lacks and a provider may have, and nothing that is complete."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from marketpipe_assets.cli.display import console, counted, some, span, table
from marketpipe_assets.cli.ingest import finish
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    SymbolsOption,
    WantedMarketsOption,
    asked_span,
    chosen_markets,
    configuration,
    iso_date,
    listed,
    retired,
    sessions_of,
)
from marketpipe_assets.cli.outcome import RunTimeError, UserError, catalogue, lake_access, note, say
from marketpipe_assets.cli.runs import Plan, instance_of, market_grid, run_each
from marketpipe_assets.cli.stored import stored_days
from marketpipe_assets.config import Config, Market

if TYPE_CHECKING:
    import polars as pl

    from marketpipe_assets.defs.partitions import Grid, Selection
    from marketpipe_assets.providers.base import BarProvider

LOOKBACK = 365


class Work(NamedTuple):
    """What a backfill does: runs that ask the provider, runs that only judge and resample, and what it leaves.

    `lost` are runs that were killed, which these make good.
    """

    fetch: Sequence["Selection"]
    rebuild: Sequence["Selection"]
    holes: "pl.DataFrame"
    waiting: int
    lost: Sequence[str] = ()

    @property
    def symbol_days(self) -> int:
        return sum(run.symbol_days for run in self.fetch)


def backfill(  # noqa: PLR0913, PLR0917  # one per option
    market: WantedMarketsOption = None,
    symbols: SymbolsOption = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first session date; wins over --lookback.")
    ] = None,
    lookback: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, help="How many days to look back.", show_default=str(LOOKBACK))
    ] = None,
    end: EndOption = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only markets of this provider.", show_default="the market's")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also ask for holes whose next try is not due yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost, and start nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Fetch symbol-days that were never fetched, and holes that a provider may fill.

    By the coverage ledger, newest first, of every market unless one or symbols are named. What is complete is not
    fetched again, so that an interrupted backfill goes on where it stopped. Each run is in the web UI. Exits 1 where a
    run failed.
    """
    loaded = configuration(config)
    names = listed(symbols)
    failed = False
    for chosen in _chosen(loaded, market, names, provider):
        if gone := retired(chosen, names):
            raise UserError(f"expected configured symbols of {chosen.name}, was {', '.join(gone)}: retired")
        asked = _span(chosen, first, lookback, end)
        with lake_access(), catalogue():
            work = work_of(loaded, chosen, asked, names or chosen.symbols, again=again, dry_run=dry_run)
        if dry_run:
            _show(loaded, chosen, work)
        else:
            failed |= not _done(loaded, chosen, work)
    if dry_run:
        console().print("nothing was started")
    if failed:
        raise typer.Exit(1)


def _done(config: Config, market: Market, work: Work) -> bool:
    """Whether all of it succeeded; one market that fails does not stop the next."""
    from marketpipe_assets.defs.lost_runs import make_good

    _tell(market, work)
    if (work.fetch or work.rebuild) and not _ran(config, market, work):
        return False
    with instance_of(config) as instance:
        make_good(instance, work.lost)
    return True


def _ran(config: Config, market: Market, work: Work) -> bool:
    _note_asked(config, market, work)
    try:
        finish(
            config, market, [*work.fetch, *work.rebuild], run_each(config, _plans(market_grid(config, market), work))
        )
    except RunTimeError as error:
        say(str(error), 1)
        return False
    except typer.Exit as ended:
        return ended.exit_code == 0
    return True


def work_of(
    config: Config,
    market: Market,
    asked: tuple[date, date],
    symbols: Sequence[str],
    *,
    again: bool = False,
    dry_run: bool = False,
) -> Work:
    """By the ledger, brought up to date for runs that were killed, and by the lake for what they did not build.

    A dry run takes the ledger as it is, and repairs nothing.
    """
    import polars as pl

    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.in_flight import not_in_flight
    from marketpipe_assets.defs.planner import planned_runs
    from marketpipe_assets.defs.wanted import NEVER, Span, planned, wanted
    from marketpipe_assets.providers import provider_class

    now, grid = datetime.now(UTC), market_grid(config, market)
    lost, flights = (_looked_at if dry_run else _brought_up_to_date)(config, grid)
    every = wanted(Catalog(config.catalog_url), market, now, Span(*asked), symbols)
    free = not_in_flight(every, flights)
    if every.height > free.height:
        note(f"{counted(every.height - free.height, 'symbol-day')} left to runs that are under way")
    is_due = (pl.col("due_at") <= now) | (pl.col("why") == NEVER)  # what was interrupted goes on at once
    ready = free if again else free.filter(is_due)
    able = provider_class(config.providers[market.provider].type).capabilities
    rebuild = _unbuilt(config, market, asked, symbols, ready)
    for selection in lost.values():
        _add(rebuild, config, market, selection, ready)
    return Work(
        planned(grid, ready, able).runs, planned_runs(grid, rebuild), ready, free.height - ready.height, [*lost]
    )


def _brought_up_to_date(config: Config, grid: "Grid") -> tuple[Mapping[str, "Selection"], Sequence["Selection"]]:
    """Runs that were killed and are not made good, and what others fetch; Dagster and the ledger know of both."""
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.in_flight import in_flight
    from marketpipe_assets.defs.ledger import recover
    from marketpipe_assets.defs.lost_runs import end_lost_runs, lost_runs, tell_stored

    with instance_of(config) as instance:
        for run_id in end_lost_runs(instance):
            note(f"run {run_id} was killed: what it did not finish is done again")
        recover(Catalog(config.catalog_url), config.lake, config.markets, instance)
        lost = lost_runs(instance, grid)
        tell_stored(instance, grid, config.lake, lost.values())
        return lost, in_flight(instance, grid)


def _looked_at(config: Config, grid: "Grid") -> tuple[Mapping[str, "Selection"], Sequence["Selection"]]:
    """What `_brought_up_to_date` would give, as far as Dagster tells; the ledger may lack what a killed run stored."""
    from marketpipe_assets.defs.in_flight import in_flight
    from marketpipe_assets.defs.lost_runs import gone_runs, lost_runs

    with instance_of(config) as instance:
        gone = gone_runs(instance)
        for run in gone:
            note(f"run {run.run_id} was killed: what it stored is counted when the next backfill begins")
        return lost_runs(instance, grid, gone), in_flight(instance, grid, {run.run_id for run in gone})


def _add(
    rebuild: dict[date, list[str]], config: Config, market: Market, selection: "Selection", ready: "pl.DataFrame"
) -> None:
    """Add what a killed run had fetched, and is not fetched again: which of its events are missing is not known."""
    from marketpipe_assets.catalog.ledger import symbol_days_of
    from marketpipe_assets.catalog.store import Catalog

    rows = symbol_days_of(Catalog(config.catalog_url), market.name, selection.symbols, selection.dates)
    for symbol, day in (
        rows.join(ready, on=["symbol", "session_date"], how="anti").select("symbol", "session_date").iter_rows()
    ):
        if symbol not in rebuild.setdefault(day, []):
            rebuild[day].append(symbol)


def _unbuilt(
    config: Config, market: Market, asked: tuple[date, date], symbols: Sequence[str], fetched_anyway: "pl.DataFrame"
) -> dict[date, list[str]]:
    """Symbol-days with valid bars and none of the longest timeframe, which is written last: their run was killed."""
    import polars as pl

    from marketpipe_assets.catalog.ledger import symbol_days_of
    from marketpipe_assets.catalog.store import Catalog

    if not market.timeframes:
        return {}
    rows = symbol_days_of(Catalog(config.catalog_url), market.name, symbols, [asked[0], asked[1] - timedelta(days=1)])
    valid = rows.filter(
        (pl.col("valid") > 0) | (pl.col("raw_bars") > pl.col("valid_bars") + pl.col("quarantined_bars"))
    )
    left = valid.join(fetched_anyway, on=["symbol", "session_date"], how="anti")
    kept = market.kept_from(f"bars_{market.timeframes[-1]}", datetime.now(UTC).date()) or date.min
    days = [day for day in left["session_date"].unique().sort().to_list() if day >= kept]
    if not days:
        return {}
    built = stored_days(config.lake, market, symbols, f"bars_{market.timeframes[-1]}", days)
    wanted: dict[date, list[str]] = {}
    for symbol, day in left.select("symbol", "session_date").iter_rows():
        if day >= kept and symbol not in built.get(day, ()):
            wanted.setdefault(day, []).append(symbol)
    return wanted


def _chosen(config: Config, market: str | None, names: Sequence[str], provider: str | None) -> list[Market]:
    every = chosen_markets(config, market, names)
    served = [each for each in every if provider is None or provider in each.providers]
    if not served:
        told = ", ".join(f"{each.name} ({', '.join(each.providers)})" for each in every)
        raise UserError(f"expected a market of provider {provider}, was {told}")
    return served


def _span(market: Market, first: str | None, lookback: int | None, end: str | None) -> tuple[date, date]:
    today = datetime.now(UTC).date()
    most = (today - market.start).days
    begin = iso_date(first, "--from") or today - timedelta(days=min(lookback or LOOKBACK, most))
    span = asked_span(market, begin, end)
    if (kept := market.kept_from("raw_bars_1m", today)) is not None and begin < kept:
        note(f"retention of {market.name} keeps minutes from {kept} on: earlier sessions are left out")
    sessions_of(market)
    return span


def _note_asked(config: Config, market: Market, work: Work) -> None:
    """Holes that stay open are asked for ever later, by whomever they are asked for."""
    import polars as pl

    from marketpipe_assets.catalog.asking import note_asked
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.wanted import NEVER

    with catalogue(), Catalog(config.catalog_url).begin() as connection:
        note_asked(connection, market.name, work.holes.filter(pl.col("why") != NEVER), datetime.now(UTC))


def _plans(grid: "Grid", work: Work) -> list[Plan]:
    from marketpipe_assets.defs.jobs import ingest_job_name, judge_job_name

    market = grid.market.name
    fetch = [Plan(market, ingest_job_name(market), run, grid.tags(run)) for run in work.fetch]
    return fetch + [Plan(market, judge_job_name(market), run, grid.tags(run)) for run in work.rebuild]


def _tell(market: Market, work: Work) -> None:
    if not work.fetch and not work.rebuild:
        console().print(f"{market.name}: nothing to fetch: no symbol-day is missing that is worth asking for now")
    else:
        console().print(f"{market.name}: {_said(work)}", soft_wrap=True)
    _tell_waiting(work)


def _said(work: Work) -> str:
    why = ", ".join(f"{count:,} {reason}" for reason, count in work.holes.group_by("why").len().sort("why").rows())
    said = [f"{counted(work.symbol_days, 'symbol-day')} to fetch ({why}) in {counted(len(work.fetch), 'run')}"]
    rebuilt = sum(run.symbol_days for run in work.rebuild)
    said += [f"{counted(rebuilt, 'symbol-day')} to rebuild from what is stored"] if rebuilt else []
    return "; ".join(said if work.fetch else said[1:])


def _tell_waiting(work: Work) -> None:
    if work.waiting:
        note(f"{counted(work.waiting, 'symbol-day')} left for a later try; --again asks for them now")


def _show(config: Config, market: Market, work: Work) -> None:
    """What it would cost: runs, requests, minutes, quota and money."""
    from marketpipe_assets.definitions import provider_of
    from marketpipe_assets.defs.wanted import requests_for

    provider = provider_of(market.provider, config.providers[market.provider])
    able = provider.capabilities
    minutes = dict(market.sessions.expected_minutes(market.sessions.dates).iter_rows())
    rows = [
        (
            number,
            what,
            some(run.symbols),
            f"{len(run.dates):,}: {span(run.dates)}",
            run.symbol_days,
            len(run.symbols) * sum(minutes[day] for day in run.dates),
            requests_for(market, run, able) if what == "fetch" else 0,
        )
        for number, (what, run) in enumerate(_numbered(work), 1)
    ]
    numbers = ("run", "symbol-days", "regular minutes", "requests")
    if rows:
        console().print(table(("run", "what", "symbols", "sessions", *numbers[1:]), rows, numbers))
    _tell(market, work)
    requests = sum(requests_for(market, run, able) for run in work.fetch)
    for line in _costs(provider, market, work, requests):
        console().print(line, soft_wrap=True)


def _numbered(work: Work) -> Iterable[tuple[str, "Selection"]]:
    return [("fetch", run) for run in work.fetch] + [("rebuild", run) for run in work.rebuild]


def _costs(provider: "BarProvider", market: Market, work: Work, requests: int) -> list[str]:
    able = provider.capabilities
    if not able.rates:
        return [f"requests  none: {market.provider} is on this machine"]
    left = provider.remaining_requests()
    slowest = max(requests * able.request_weight / rate.requests * rate.seconds for rate in provider.rates)
    lines = [
        f"requests  {requests:,} of {market.provider} where every minute has a bar",
        f"quota     {' and '.join(map(str, provider.rates))}, by {able.quota_per}"
        + (f"; {left:,} left at this moment" if left is not None else "")
        + f"; at least {timedelta(seconds=round(slowest))} for all of them",
    ]
    return [*lines, f"money     {_money(provider, market, work)}"]


def _money(provider: "BarProvider", market: Market, work: Work) -> str:
    from marketpipe_assets.providers.base import ProviderError

    try:
        parts = [provider.dollars(run.symbols, *market.sessions.request(run.dates)) for run in work.fetch]
    except ProviderError as error:
        raise RunTimeError(f"{market.provider} could not tell what it costs: {error}") from error
    finally:
        provider.teardown_after_execution(None)  # type: ignore[arg-type]  # no run, so no context
    known = [part for part in parts if part is not None]
    if known:
        return f"{sum(known):,.2f} dollars, as {market.provider} estimates it"
    return f"nothing by the request (a paid plan: {provider.capabilities.paid_plan})"
