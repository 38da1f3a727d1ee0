"""`marketpipe partitions rebuild`: show the web UI what is held, after the size of partitions has changed."""

from typing import Annotated

import typer

from marketpipe_assets.cli.display import console, counted
from marketpipe_assets.cli.options import ConfigOption, MarketsOption, chosen_markets, configuration
from marketpipe_assets.cli.outcome import catalogue, lake_access, note
from marketpipe_assets.cli.runs import instance_of, market_grid
from marketpipe_assets.config import Config, Market


def rebuild(
    market: MarketsOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where partitions are shown that are not held, forget the asset's events.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be recorded, and record nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Record in the web UI which partitions are held, by the coverage ledger and the lake.

    For every market or one. A partition is held where all its symbols are, on every session that is over. What Dagster
    knows already is not recorded again, so that an interrupted rebuild goes on where it stopped.
    """
    loaded = configuration(config)
    for each in chosen_markets(loaded, market):
        with lake_access(), catalogue():
            _rebuild(loaded, each, replace=replace, dry_run=dry_run)


def _rebuild(config: Config, market: Market, *, replace: bool, dry_run: bool) -> None:
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.rebuild import changes, rebuild

    grid = market_grid(config, market)
    with instance_of(config) as instance:
        for change in changes(instance, grid, Catalog(config.catalog_url), config.lake):
            table = change.asset.path[-1]
            if change.stale and not replace:
                note(
                    f"{market.name} {table}: {counted(len(change.stale), 'partition')} shown and not held, the first "
                    f"{change.stale[0]}; backfill fetches what they lack, --replace takes them back"
                )
            recorded = len(change.missing) if dry_run else rebuild(instance, change, replace=replace)
            said = "would be recorded" if dry_run else "recorded"
            console().print(
                f"{market.name} {table}: {counted(len(change.held), 'partition')} held, {recorded:,} {said}",
                soft_wrap=True,
            )
