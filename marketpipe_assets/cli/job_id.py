"""What a partition key, a run id, or a job id of the earlier system stands for: symbols on sessions."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.options import chosen_markets, refuse_beside
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
    refuse_beside(f"{job} alone, which says symbols and sessions", beside)
    if earlier := EARLIER.fullmatch(job):
        job = f"{earlier['day']}|{earlier['symbol']}"
    tagged: list[tuple[Market, Mapping[str, str]]]
    if "|" in job:
        tagged = [(each, {"dagster/partition": job}) for each in chosen_markets(config, market)]
    else:
        run = _run(config, job)
        tagged = [(_market_of(config, run, market), run.tags)]
    found = [(each, selection) for each, tags in tagged if (selection := market_grid(config, each).tagged(tags))]
    if len(found) > 1:
        markets = ", ".join(each.name for each, _ in found)
        raise UserError(f"expected one market with {job}, was {markets}: name it with --market")
    if not found:
        markets = ", ".join(each.name for each, _ in tagged)
        raise UserError(f"expected a partition of {markets} such as 2024-01-02|AAPL, or a run of some, was {job!r}")
    chosen, selection = found[0]
    return chosen, dict.fromkeys(selection.dates, selection.symbols)


def _run(config: Config, run_id: str) -> "dg.DagsterRun":
    with instance_of(config) as instance:
        run = instance.get_run_by_id(run_id)
    if run is None:
        raise UserError(f"expected a partition such as 2024-01-02|AAPL or the id of a run, was {run_id!r}")
    return run


def _market_of(config: Config, run: "dg.DagsterRun", market: str | None) -> Market:
    named = {key.path[0] for key in run.asset_selection or ()} or {run.job_name.rpartition("_")[0]}
    markets = chosen_markets(config, market)
    known = [each for each in markets if each.name in named]
    if len(known) != 1:
        names = ", ".join(each.name for each in markets)
        raise UserError(f"expected a run of one market of {names}, was {run.job_name}")
    return known[0]
