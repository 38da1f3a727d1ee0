"""`marketpipe config check`: whether a configuration can be used."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.bars.amendments import expired
from marketpipe_assets.cli.options import configuration
from marketpipe_assets.cli.outcome import UserError, catalogue, note, user_input
from marketpipe_assets.config import Config, Market

if TYPE_CHECKING:
    from marketpipe_assets.defs.partitions import Grid


def check(
    path: Annotated[Path | None, typer.Argument(help="A marketpipe.yaml.", show_default="the one in use")] = None,
) -> None:
    """Load a configuration, make every provider, and count every market's partitions. Fetches nothing.

    Exits 2 where a waiver has expired: it no longer counts, so either the entry or the bars' state is out of date.
    """
    config = configuration(path)
    lines = usable(config)
    if gone := _expired(config):
        raise UserError("\n".join(gone))
    typer.echo(f"{config.path or 'the packaged default'} can be used; lake {config.lake}")
    for line in lines:
        typer.echo(line)


def usable(config: Config) -> list[str]:
    """One line per market of what Dagster will make of it. Raises `UserError` where a provider or market cannot be."""
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.definitions import check_tie_outs, provider_of
    from marketpipe_assets.defs.partitions import grid_of
    from marketpipe_assets.providers.files import FilesProvider

    with user_input(), catalogue():
        for name, block in config.providers.items():
            provider = provider_of(name, block)
            if isinstance(provider, FilesProvider) and not Path(provider.root).is_dir():
                note(f"{name}: there is no folder {provider.root} yet")
        check_tie_outs(config)
        catalog = Catalog(config.catalog_url)
        return [_line(market, grid_of(market, catalog)) for market in config.markets.values()]


def _expired(config: Config) -> list[str]:
    waivers = dict.fromkeys(each for market in config.markets.values() for each in market.amendments.waivers)
    return [
        f"{config.waivers.with_name(each.place)}: expected a waiver that stands, was one that expired on "
        f"{each.expires}: renew or remove it, then marketpipe aggregate judges {each.symbol} again"
        for each in expired(waivers, datetime.now(UTC).date())
    ]


def _line(market: Market, grid: "Grid") -> str:
    keys = grid.definition.get_num_partitions()
    return (
        f"{market.name}: {len(market.symbols):,} symbols of {market.provider}, {market.calendar} since {market.start}, "
        f"{keys:,} partitions, bars of {', '.join(('1m', *market.timeframes))}"
    )
