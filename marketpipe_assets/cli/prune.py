"""`marketpipe prune`: remove bars that are older than the configuration keeps them."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from marketpipe_assets.cli.display import console, counted, size, some, span, table
from marketpipe_assets.cli.options import ConfigOption, MarketsOption, chosen_markets, configuration, is_alone
from marketpipe_assets.cli.outcome import UserError, catalogue, lake_access, note
from marketpipe_assets.cli.runs import instance_of
from marketpipe_assets.config import Config, Market
from marketpipe_assets.upkeep import FOREVER, age

if TYPE_CHECKING:
    from marketpipe_assets.lake.prune import Cut, Plan, Policy

ExecuteOption = Annotated[bool, typer.Option("--execute", help="Remove them; without it nothing is changed.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", "-n", help="Change nothing: what happens without --execute.")]


class Pruning(NamedTuple):
    market: Market
    policy: "Policy"
    plan: "Plan"


def prune(
    context: typer.Context,
    market: MarketsOption = None,
    execute: ExecuteOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove bars that are older than `retention` of the configuration keeps them.

    Prints the files, rows and bytes. Removes nothing without --execute. What is on hold stays.
    """
    if is_alone(context):
        _run(configuration(config), market, None, execute=execute, dry_run=dry_run)


def parquet(  # one per option
    older_than: Annotated[str, typer.Argument(metavar="AGE", help="2y, 18m, 30d or 30 (days).")],
    root: Annotated[Path | None, typer.Option(help="The lake, which must be the configured one.")] = None,
    market: MarketsOption = None,
    execute: ExecuteOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove bars older than AGE of every table that `retention` does not give an age of its own."""
    loaded = configuration(config)
    if root is not None and root.absolute() != loaded.lake:
        raise UserError(f"expected --root to be the configured lake, {loaded.lake}, was {root}")
    try:
        otherwise = age(older_than)
    except ValueError as error:
        raise UserError(f"AGE: {error}, was {older_than!r}") from None
    if otherwise is None:
        raise UserError(f"AGE: expected an age such as 2y, was {FOREVER}: then there is nothing to remove")
    _run(loaded, market, otherwise, execute=execute, dry_run=dry_run)


def database(age: Annotated[str, typer.Argument(metavar="AGE")]) -> None:  # noqa: ARG001  # named, so that it is known
    """Not ours: Dagster removes ticks by `retention` in its dagster.yaml, and runs by `dagster run delete`."""
    raise UserError("there is no database of bars: Dagster keeps ticks as `retention` in dagster.yaml says")


def _run(config: Config, market: str | None, otherwise: timedelta | None, *, execute: bool, dry_run: bool) -> None:
    if execute and dry_run:
        raise UserError("expected --execute or --dry-run, was both")
    prunings = [_planned(config, each, otherwise) for each in chosen_markets(config, market)]
    if not any(each.policy.kept_from for each in prunings):
        raise UserError("expected an age in `retention` of a market, or `prune parquet AGE`, was none")
    for each in prunings:
        _tell(each)
    cuts = [cut for each in prunings for cut in each.plan.cuts]
    if not execute:
        console().print(f"{_said(cuts)} would be removed; nothing was changed", soft_wrap=True)
        return
    removed = _execute(config, prunings)
    console().print(f"{_said(removed)} removed", soft_wrap=True)


def _planned(config: Config, market: Market, otherwise: timedelta | None) -> Pruning:
    from marketpipe_assets.defs.retention import planned_pruning, policy_of

    policy = policy_of(market, datetime.now(UTC).date(), otherwise)
    with lake_access():
        return Pruning(market, policy, planned_pruning(config.lake, market, policy))


def _execute(config: Config, prunings: Sequence[Pruning]) -> list["Cut"]:
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.retention import prune as remove

    run_id, catalog = f"prune {datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", Catalog(config.catalog_url)
    with instance_of(config) as instance, lake_access(), catalogue():
        return [
            cut
            for each in prunings
            for cut in remove(config.lake, catalog, instance, each.market, each.plan.cuts, run_id)
        ]


def _tell(pruning: Pruning) -> None:
    from marketpipe_assets.defs.retention import consequences, tables_of

    market, policy, plan = pruning
    of_table = defaultdict[str, list["Cut"]](list)
    for cut in plan.cuts:
        of_table[cut.file.table].append(cut)
    rows = [
        (
            market.name,
            name,
            f"{policy.kept_from[name]}",
            span(sorted({day for cut in cuts for day in cut.dates})),
            sum(cut.whole for cut in cuts),
            sum(not cut.whole for cut in cuts),
            sum(cut.rows for cut in cuts),
            size(sum(cut.bytes for cut in cuts)),
        )
        for name, cuts in of_table.items()
    ]
    numbers = ("files removed", "files cut", "rows", "bytes")
    if rows:
        console().print(table(("market", "table", "kept from", "dates", *numbers), rows, numbers))
    for hold in market.hold:
        note(f"{market.name}: {', '.join(hold.symbols) or 'every symbol'} on hold: {hold.reason}")
    for kept in plan.kept:
        dates = f"{counted(len(kept.dates), 'session')} of {kept.symbol} ({some([str(day) for day in kept.dates], 3)})"
        note(f"{market.name}: minutes of {dates} stay: {kept.table} has no bar of them yet")
    for consequence in consequences(policy, tables_of(market)):
        note(f"{market.name}: {consequence}")


def _said(cuts: Sequence["Cut"]) -> str:
    rows, freed = sum(cut.rows for cut in cuts), sum(cut.bytes for cut in cuts)
    return f"{counted(rows, 'row')} and {freed:,} bytes in {counted(len(cuts), 'file')}"
