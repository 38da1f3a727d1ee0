"""`marketpipe aggregate`: judge stored raw bars again and rebuild valid, quarantined and longer bars."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from marketpipe_assets.cli.ingest import finish
from marketpipe_assets.cli.job_id import JobArgument, JobOption, symbol_days_of_job
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    MarketOption,
    StartOption,
    SymbolsOption,
    chosen_market,
    configuration,
    listed,
    retired,
)
from marketpipe_assets.cli.outcome import catalogue, lake_access, note
from marketpipe_assets.cli.runs import Plan, market_grid, run_each
from marketpipe_assets.cli.stored import AllOption, DaysOption, chosen_days


def aggregate(  # noqa: PLR0913, PLR0917  # one per option
    job: JobArgument = None,
    job_id: JobOption = None,
    symbols: SymbolsOption = None,
    days: DaysOption = None,
    every: AllOption = False,
    start: StartOption = None,
    end: EndOption = None,
    market: MarketOption = None,
    config: ConfigOption = None,
) -> None:
    """Rebuild everything that follows from stored raw bars.

    Valid, quarantined and longer bars, for every symbol-day of which raw bars are stored among those selected. The
    provider is not asked.
    """
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.jobs import judge_job_name
    from marketpipe_assets.defs.planner import planned_runs
    from marketpipe_assets.defs.retired import rebuild_retired

    loaded = configuration(config)
    names = listed(symbols)
    beside = {"--symbols": symbols, "--days": days, "--all": every, "--start": start, "--end": end}
    if asked := job or job_id:
        chosen, wanted = symbol_days_of_job(loaded, asked, market, beside)
        names = sorted({symbol for symbols_of_day in wanted.values() for symbol in symbols_of_day})
    else:
        chosen = chosen_market(loaded, market, names)
        wanted = chosen_days(loaded.lake, chosen, names, days=days, every=every, start=start, end=end)
    judge = judge_job_name(chosen.name)
    gone = retired(chosen, names)
    grid = market_grid(loaded, chosen)
    plans = [Plan(chosen.name, judge, part, grid.tags(part)) for part in planned_runs(grid, _without(gone, wanted))]
    failed = run_each(loaded, plans) if plans else []
    if gone:
        note(f"{', '.join(gone)} retired from {chosen.name}: rebuilt without a run in the web UI")
    apart = planned_runs(grid, _without(chosen.symbols, wanted))
    with lake_access(), catalogue():
        for part in apart:
            rebuild_retired(Catalog(loaded.catalog_url), loaded.lake, chosen, part)
    finish(loaded, chosen, [*(plan.selection for plan in plans), *apart], failed)


def _without(symbols: Collection[str], wanted: Mapping[date, Sequence[str]]) -> Mapping[date, Sequence[str]]:
    left = {day: [symbol for symbol in held if symbol not in symbols] for day, held in wanted.items()}
    return {day: held for day, held in left.items() if held}
