"""`marketpipe providers`: where bars can come from, what each can do, and whether it answers."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.display import cell, console, table
from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import RunTimeError, say, user_input
from marketpipe_assets.config import Config
from marketpipe_assets.marked_yaml import ConfigError
from marketpipe_assets.providers import ALIASES, provider_names

if TYPE_CHECKING:
    from marketpipe_assets.providers.base import Capabilities
    from marketpipe_assets.providers.http import HttpProvider

HEADERS = ("provider", "assets", "minutes", "quota of the smallest plan", "secrets", "paid plan")
ATTEMPTS = 2
LONGEST_TEST = 15.0
"""Seconds in which a test ends, whatever deadlines the block has: what does not answer now is told now."""
MORE = ("bars per request", "symbols per request", "how it says times")


def providers(
    config: ConfigOption = None,
    test: Annotated[bool, typer.Option("--test", help="Ask every configured provider for a little.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the whole matrix as Markdown.")] = False,
) -> None:
    """List where bars can come from, what each provider can do, and which blocks of the configuration use it."""
    if markdown:
        typer.echo(matrix())
        return
    try:
        chosen = configuration(config)
    except ConfigError as error:
        _show(None)
        raise typer.Exit(say(str(error), 2)) from None
    if test:
        _test(chosen)
    else:
        _show(chosen)


def matrix() -> str:
    """Every provider and what it can do, as a table of Markdown."""
    rows = [(*_row(name), *_details(_capabilities(name))) for name in provider_names()]
    lines = [(*HEADERS, *MORE), ["---"] * (len(HEADERS) + len(MORE)), *(map(cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _show(config: Config | None) -> None:
    blocks = {name: block.type for name, block in config.providers.items()} if config is not None else {}
    rows = (
        (*_row(name), [block for block, kind in blocks.items() if ALIASES.get(kind, kind) == name])
        for name in provider_names()
    )
    console().print(table((*HEADERS, "configured as"), rows))


def _row(name: str) -> Sequence[object]:
    able = _capabilities(name)
    quota = " and ".join(map(str, able.rates))
    needed = "no" if not able.secrets else "optional: " if able.keyless else ""
    return (
        name,
        able.asset_classes,
        able.history,
        f"{quota}, by {able.quota_per}" if quota else "",
        f"{needed}{able.missing(())}",
        able.paid_plan,
    )


def _details(able: "Capabilities") -> Sequence[object]:
    return able.page_size, able.symbols_per_request, able.times


def _capabilities(name: str) -> "Capabilities":
    from marketpipe_assets.providers import provider_class

    return provider_class(name).capabilities


def _test(config: Config) -> None:
    """Print a line per block; raise where one that is asked over the network does not answer."""
    from marketpipe_assets.definitions import provider_of
    from marketpipe_assets.providers.base import ProviderError
    from marketpipe_assets.providers.http import HttpProvider

    failed: list[str] = []
    for name, block in config.providers.items():
        with user_input():
            provider = provider_of(name, block)
        if not isinstance(provider, HttpProvider):
            typer.echo(f"{name}: on this machine, nothing to ask")
            continue
        provider, began = _brief(provider), time.monotonic()
        try:
            provider.ping()
        except ProviderError as error:
            failed.append(f"{type(error).__name__}: {error}")
        else:
            typer.echo(f"{name}: answered in {time.monotonic() - began:.2f} s")
        finally:
            provider.teardown_after_execution(None)
    if failed:
        raise RunTimeError("; ".join(failed))


def _brief(provider: "HttpProvider") -> "HttpProvider":
    return provider.model_copy(
        update={
            "attempts": min(provider.attempts, ATTEMPTS),
            "deadline_seconds": min(provider.deadline_seconds, LONGEST_TEST),
            "run_deadline_seconds": min(provider.run_deadline_seconds or LONGEST_TEST, LONGEST_TEST),
        }
    )
