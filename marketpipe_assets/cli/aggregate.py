"""`marketpipe aggregate`: judge stored raw bars again and rebuild valid, quarantined and longer bars."""

from marketpipe_assets.cli.ingest import finish
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    MarketOption,
    StartOption,
    SymbolsOption,
    chosen_market,
    configuration,
    listed,
)
from marketpipe_assets.cli.runs import Plan, run_each, selections
from marketpipe_assets.cli.stored import AllOption, DaysOption, chosen_days


def aggregate(
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
    from marketpipe_assets.defs.jobs import judge_job_name

    loaded = configuration(config)
    names = listed(symbols)
    chosen = chosen_market(loaded, market, names)
    wanted = chosen_days(loaded.lake, chosen, names, days=days, every=every, start=start, end=end)
    job = judge_job_name(chosen.name)
    plans = [Plan(chosen.name, job, selection) for selection in selections(chosen, wanted)]
    finish(loaded, chosen, plans, run_each(loaded, plans))
