"""What a partition key, a run id, or a job id of the earlier system stands for: symbols on sessions."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.options import chosen_market
from marketpipe_assets.cli.outcome import UserError
from marketpipe_assets.cli.runs import instance_of, market_grid
from marketpipe_assets.config import Config, Market

if TYPE_CHECKING:
    import dagster as dg

HELP = "A partition (2024-01-02|AAPL) or the id of a run."
JobArgument = Annotated[str | None, typer.Argument(metavar="[JOB_ID]", help=HELP, show_default=False)]
JobOption = Annotated[str | None, typer.Option("--job-id", help="The same.", hidden=True)]

EARLIER = re.compile(r"(?P<symbol>.+)_(?P<day>\d{4}-\d{2}-\d{2})")

SymbolDays = Mapping[date, Sequence[str]]


def symbol_days_of_job(
    config: Config, job: str, market: str | None, beside: Mapping[str, object]
) -> tuple[Market, SymbolDays]:
    """The market and the symbols on each session.

    Raises `UserError` where nothing of that name is known, and where other options (name → value) select as well.
    """
    if given := [name for name, value in beside.items() if value]:
        raise UserError(f"expected {job} alone, which says symbols and sessions, was also {', '.join(given)}")
    if earlier := EARLIER.fullmatch(job):
        job = f"{earlier['day']}|{earlier['symbol']}"
    tagged: list[tuple[Market, Mapping[str, str]]]
    if "|" in job:
        named = [chosen_market(config, market, [])] if market is not None else config.markets.values()
        tagged = [(each, {"dagster/partition": job}) for each in named]
    else:
        run = _run(config, job)
        tagged = [(_market_of(config, run), run.tags)]
    for each, tags in tagged:
        if selection := market_grid(config, each).tagged(tags):
            return each, dict.fromkeys(selection.dates, selection.symbols)
    markets = ", ".join(each.name for each, _ in tagged)
    raise UserError(f"expected a partition of {markets} such as 2024-01-02|AAPL, or a run of some, was {job!r}")


def _run(config: Config, run_id: str) -> "dg.DagsterRun":
    with instance_of(config) as instance:
        run = instance.get_run_by_id(run_id)
    if run is None:
        raise UserError(f"expected a partition such as 2024-01-02|AAPL or the id of a run, was {run_id!r}")
    return run


def _market_of(config: Config, run: "dg.DagsterRun") -> Market:
    named = {key.path[0] for key in run.asset_selection or ()} or {run.job_name.rpartition("_")[0]}
    known = [name for name in config.markets if name in named]
    if len(known) != 1:
        raise UserError(f"expected a run of one market of {', '.join(config.markets)}, was {run.job_name}")
    return config.markets[known[0]]
