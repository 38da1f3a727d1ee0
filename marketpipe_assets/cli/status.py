"""`marketpipe status`: what the lake holds, from the footers of its files; of a large lake, from the ledger."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from marketpipe_assets.cli.display import console, size, table
from marketpipe_assets.cli.options import ConfigOption, configuration, over, sessions_of
from marketpipe_assets.cli.outcome import catalogue, file_access, lake_access, note, one_line
from marketpipe_assets.config import Config, Market, dagster_home

if TYPE_CHECKING:
    import polars as pl

    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.due import DueSpan

MOST_FILES = 5000  # whose footers are read in about a second


class Footer(NamedTuple):
    """What one file says of itself."""

    symbol: str
    bars: int
    first: date | None
    last: date | None
    bytes: int


class Holding(NamedTuple):
    """What one table holds; `first` and `last` are None where its files have no bars.

    The ledger knows bars of minute tables, and neither symbols nor files of a table.
    """

    symbols: int | None
    first: date | None
    last: date | None
    bars: int
    files: int | None
    bytes: int | None


class Held(NamedTuple):
    """Symbol-days with bars, of those configured that are due and whose sessions are over."""

    held: int
    configured: int


Status = tuple[Mapping[str, Held], Mapping[tuple[str, str], Holding]]
"""By market, and by market and table."""


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Read every footer, however many files there are.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show what the lake holds, per market and table. Reads the footers of files, not their bars.

    Of a lake of more than 5,000 files it shows what the ledger knows: minute bars, and days of which it received some.
    """
    loaded = configuration(config)
    with file_access():
        home = dagster_home(loaded)
    if files or not _is_large(loaded.lake):
        with lake_access(), catalogue():
            held, holdings = _seen(loaded)
    else:
        note(f"more than {MOST_FILES:,} files: from the ledger; --files reads every footer")
        with catalogue():
            held, holdings = _known(loaded)
    if as_json:
        typer.echo(json.dumps(_document(loaded, home, holdings, held), indent=2, default=str))
        return
    _show(loaded, home, holdings, held)


def _is_large(lake: Path) -> bool:
    return next(islice(lake.glob("*/*/symbol=*/*.parquet"), MOST_FILES, None), None) is not None


def _seen(config: Config) -> Status:
    footers = _footers(config.lake)
    held = {name: _held(config, market, footers) for name, market in config.markets.items()}
    return held, {key: _holding(found) for key, found in footers.items()}


def _known(config: Config) -> Status:
    """What the ledger says. It has no rows of a market before the first run, or until `coverage rebuild`."""
    from concurrent.futures import ThreadPoolExecutor

    from marketpipe_assets.catalog.ledger import received, received_span, totals
    from marketpipe_assets.catalog.store import Catalog

    catalog = Catalog(config.catalog_url)
    held, holdings = {}, {}
    with ThreadPoolExecutor() as pool:  # both read the whole market, and SQLite leaves Python to the other meanwhile
        asked = {
            name: (
                pool.submit(received, catalog, name),
                pool.submit(totals, catalog, name, summed=tuple(LEDGER_COLUMNS.values())),
            )
            for name in config.markets
        }
    for name, market in config.markets.items():
        days, summed = (future.result() for future in asked[name])
        sums = summed.row(0, named=True)
        span = received_span(catalog, name)
        held[name] = _known_of_due(catalog, market, days, span)
        first, last = span or (None, None)
        for table_name, column in LEDGER_COLUMNS.items():
            holdings[name, table_name] = Holding(None, None, None, sums[column], None, None)
        raw = holdings[name, "raw_bars_1m"]
        holdings[name, "raw_bars_1m"] = raw._replace(symbols=days.height, first=first, last=last)
    return held, holdings


def _known_of_due(
    catalog: "Catalog", market: Market, days: "pl.DataFrame", received_in: tuple[date, date] | None
) -> Held:
    """`days` counts what was received of each symbol; rows are read only of those with some that is not due."""
    import polars as pl

    from marketpipe_assets.catalog.ledger import count_within
    from marketpipe_assets.catalog.tables import symbol_days
    from marketpipe_assets.defs.due import due_spans

    spans = due_spans(catalog, market)
    if received_in is None:
        return Held(0, _configured(market, spans))
    first, last = received_in
    cut = {symbol: span for symbol, span in spans.items() if not span.first <= first <= last < span.end}
    whole = days.filter(pl.col("symbol").is_in(list(spans.keys() - cut.keys())))
    with catalog.reading() as connection:
        of_cut = count_within(connection, market.name, cut, symbol_days.c.received > 0)
    return Held(sum(whole["days"]) + of_cut, _configured(market, spans))


LEDGER_COLUMNS = {"raw_bars_1m": "raw_bars", "bars_1m": "valid_bars", "quarantined_bars_1m": "quarantined_bars"}


def _configured(market: Market, spans: Mapping[str, "DueSpan"]) -> int:
    dates = over(market, sessions_of(market).between(market.start, date.max))
    return sum(len(span.of(dates)) for span in spans.values())


def _footers(lake: Path) -> Mapping[tuple[str, str], list[Footer]]:
    from marketpipe_assets.lake.layout import bar_file_of
    from marketpipe_assets.lake.verify import has_a_place

    found = defaultdict[tuple[str, str], list[Footer]](list)
    for path in sorted(lake.glob("*/*/symbol=*/*.parquet")):
        if not has_a_place(lake, path):
            note(f"{path} is no file of the lake")
            continue
        file = bar_file_of(lake, path)
        if (footer := _footer(path, file.symbol)) is not None:
            found[file.market, file.table].append(footer)
    return found


def _footer(path: Path, symbol: str) -> Footer | None:
    import pyarrow.parquet as pq

    from marketpipe_assets.lake.parquet import DamagedFile, check_footer

    try:
        check_footer(path)
        footer = pq.read_metadata(path)
    except (DamagedFile, OSError) as error:
        note(f"left out: {one_line(str(error))}")
        return None
    column = footer.schema.names.index("session_date")
    groups = range(footer.num_row_groups if footer.num_rows else 0)
    spans = [footer.row_group(n).column(column).statistics for n in groups]
    first, last = min((each.min for each in spans), default=None), max((each.max for each in spans), default=None)
    return Footer(symbol, footer.num_rows, first, last, path.stat().st_size)


def _holding(footers: Iterable[Footer]) -> Holding:
    symbols, bars, first, last, sizes = zip(*footers, strict=True)
    dated = [day for day in (*first, *last) if day is not None]
    span = (min(dated, default=None), max(dated, default=None))
    return Holding(len(set(symbols)), *span, sum(bars), len(sizes), sum(sizes))


def _held(config: Config, market: Market, footers: Mapping[tuple[str, str], list[Footer]]) -> Held:
    """A daily bar is a symbol-day, so footers tell; only a market without daily bars has its raw ones counted."""
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.due import due_spans
    from marketpipe_assets.lake.scan import bar_counts

    spans = due_spans(Catalog(config.catalog_url), market)
    configured = _configured(market, spans)
    if "1d" in market.timeframes:
        days = [each for each in footers.get((market.name, "bars_1d"), ()) if each.symbol in spans]
        return Held(sum(_bars_within(config.lake, market, each, spans[each.symbol]) for each in days), configured)
    due = ((symbol, span.of(market.sessions.dates)) for symbol, span in spans.items())
    held = (bar_counts(config.lake, market.name, "raw_bars_1m", [symbol], dates).height for symbol, dates in due)
    return Held(sum(held), configured)


def _bars_within(lake: Path, market: Market, footer: Footer, span: "DueSpan") -> int:
    """Daily bars of one file within a span; only of a file that reaches out of it the dates are read."""
    from marketpipe_assets.lake.scan import bar_counts

    if footer.first is None or footer.last is None:
        return 0
    if span.first <= footer.first and footer.last < span.end:
        return footer.bars
    dates = [day for day in span.of(market.sessions.dates) if footer.first <= day <= footer.last]
    return bar_counts(lake, market.name, "bars_1d", [footer.symbol], dates).height


def _document(
    config: Config, home: Path, holdings: Mapping[tuple[str, str], Holding], held: Mapping[str, Held]
) -> dict[str, object]:
    markets = dict.fromkeys((*config.markets, *(market for market, _ in holdings)))
    return {
        "configuration": config.path,
        "dagster_home": home,
        "lake": config.lake,
        "markets": {
            name: {
                "symbol_days": held[name]._asdict() if name in held else None,
                "tables": {table: each._asdict() for (market, table), each in holdings.items() if market == name},
            }
            for name in markets
        },
    }


def _show(config: Config, home: Path, holdings: Mapping[tuple[str, str], Holding], held: Mapping[str, Held]) -> None:
    out = console()
    out.print(f"configuration  {config.path or 'the packaged default'}", soft_wrap=True)
    out.print(f"Dagster home   {home}", soft_wrap=True)
    out.print(f"lake           {config.lake}", soft_wrap=True)
    for name, (days, configured) in held.items():
        out.print(f"{name}: {days:,} of {configured:,} configured symbol-days are held", soft_wrap=True)
    if not holdings:
        out.print("the lake is empty: marketpipe ingest fills it, marketpipe demo shows how")
        return
    numbers = ("symbols", "bars", "files", "size")
    headers = ("market", "table", "symbols", "first", "last", "bars", "files", "size")
    rows = ((*key, *holding[:-1], _size(holding.bytes)) for key, holding in _ordered(config, holdings))
    out.print()
    out.print(table(headers, rows, numbers))


def _size(count: int | None) -> str | None:
    return None if count is None else size(count)


def _ordered(config: Config, holdings: Mapping[tuple[str, str], Holding]) -> list[tuple[tuple[str, str], Holding]]:
    """As the configuration has them; what it no longer names comes last."""
    from marketpipe_assets.query import tables_of

    known = [(market.name, name) for market in config.markets.values() for name in tables_of(market)]
    order = {key: number for number, key in enumerate(known)}
    return sorted(holdings.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
