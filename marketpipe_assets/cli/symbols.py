"""`marketpipe symbols`: what is configured, compared with what is held."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, NamedTuple

import typer

from marketpipe_assets.cli.display import console, counted, table
from marketpipe_assets.cli.options import ConfigOption, MarketsOption, chosen_markets, configuration, over, sessions_of
from marketpipe_assets.cli.outcome import catalogue, lake_access
from marketpipe_assets.config import Config, Market

CONFIGURED, NEW, RETIRED = "configured", "new", "retired"


class Symbol(NamedTuple):
    """A symbol of a market. `sessions` of it are in the ledger, of those that are due and over `expected`."""

    market: str
    symbol: str
    state: str
    sessions: int
    expected: int
    first: date | None
    last: date | None
    valid: int
    """Regular minutes with a valid bar."""


def symbols(
    market: MarketsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Compare the symbols that are configured with those that are held.

    New ones are fetched by the gap sensor and by `marketpipe backfill`. Retired ones are no longer fetched; their bars
    are kept and can be read.
    """
    loaded = configuration(config)
    with lake_access(), catalogue():
        found = [each for chosen in chosen_markets(loaded, market) for each in symbols_of(loaded, chosen)]
    if as_json:
        typer.echo(json.dumps([each._asdict() for each in found], indent=2, default=str))
        return
    numbers = ("sessions", "expected", "valid minutes")
    headers = ("market", "symbol", "state", "sessions", "expected", "first", "last", "valid minutes")
    console().print(table(headers, found, numbers))
    states = {state: sum(each.state == state for each in found) for state in (CONFIGURED, NEW, RETIRED)}
    console().print(", ".join(counted(count, f"{state} symbol") for state, count in states.items() if count))


def symbols_of(config: Config, market: Market) -> list[Symbol]:
    """Configured symbols in their order, then those that are only held."""
    import polars as pl

    from marketpipe_assets.catalog.ledger import symbol_days_of
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.due import due_spans, within
    from marketpipe_assets.lake.scan import held

    catalog = Catalog(config.catalog_url)
    ledger = symbol_days_of(catalog, market.name)
    facts = ledger.group_by("symbol").agg(
        pl.len(),
        pl.col("session_date").min().alias("first"),
        pl.col("session_date").max().alias("last"),
        pl.sum("valid"),
    )
    known: Mapping[str, Sequence[object]] = {row[0]: row[1:] for row in facts.iter_rows()}
    stored = {symbol for each in held(config.lake, market.name).values() for symbol in each}
    spans = due_spans(catalog, market)
    held_of = dict(within(ledger, spans).group_by("symbol").len().iter_rows())
    dates = over(market, sessions_of(market).dates)
    retired = sorted({*known, *stored} - {*market.symbols})
    return [
        _symbol(market, symbol, known, len(spans[symbol].of(dates)))._replace(sessions=held_of.get(symbol, 0))
        for symbol in market.symbols
    ] + [_symbol(market, symbol, known, 0)._replace(state=RETIRED) for symbol in retired]


def _symbol(market: Market, symbol: str, known: Mapping[str, Sequence[object]], expected: int) -> Symbol:
    if symbol not in known:
        return Symbol(market.name, symbol, NEW, 0, expected, None, None, 0)
    sessions, first, last, valid = known[symbol]
    return Symbol(market.name, symbol, CONFIGURED, sessions, expected, first, last, valid)  # type: ignore[arg-type]  # a row
