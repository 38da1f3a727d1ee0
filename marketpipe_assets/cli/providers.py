"""`marketpipe providers`: where bars can come from."""

import typer

from marketpipe_assets.cli.display import console, table
from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import say
from marketpipe_assets.marked_yaml import ConfigError
from marketpipe_assets.providers import ALIASES, ENTRY_POINTS, PROVIDERS


def providers(config: ConfigOption = None) -> None:
    """List where bars can come from, and which blocks of the configuration use it."""
    from importlib.metadata import entry_points

    places = {**{point.name: point.value for point in entry_points(group=ENTRY_POINTS)}, **PROVIDERS}
    try:
        blocks = {name: block.type for name, block in configuration(config).providers.items()}
    except ConfigError as error:
        _show(places, {})
        raise typer.Exit(say(str(error), 2)) from None
    _show(places, blocks)


def _show(places: dict[str, str], blocks: dict[str, str]) -> None:
    rows = (
        (name, place, [block for block, kind in blocks.items() if ALIASES.get(kind, kind) == name])
        for name, place in sorted(places.items())
    )
    console().print(table(("provider", "class", "configured as"), rows))
