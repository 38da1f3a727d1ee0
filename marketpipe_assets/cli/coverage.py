"""`marketpipe coverage`: what is held of each symbol-day, and why the rest is not; `coverage rebuild` from the lake."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marketpipe_assets.cli import export
from marketpipe_assets.cli.display import console, counted, print_frame
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    MarketOption,
    MarketsOption,
    StartOption,
    SymbolsOption,
    asked_dates,
    chosen_market,
    chosen_markets,
    configuration,
    is_alone,
    listed,
    selected,
)
from marketpipe_assets.cli.outcome import UserError, catalogue, lake_access, note
from marketpipe_assets.config import Config, Market

if TYPE_CHECKING:
    import polars as pl

    from marketpipe_assets.defs.partitions import Selection

TABLE_ROWS = 50

By = Literal["symbol", "session", "reason", "day", "hole"]

KEYS: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol",),
    "session": ("session_date",),
    "reason": ("reason",),
    "day": ("symbol", "session_date"),
}


def coverage(  # noqa: PLR0913, PLR0917  # one per option
    context: typer.Context,
    by: Annotated[
        By, typer.Option("--by", help="One row per symbol, session, reason, symbol-day, or hole.")
    ] = "symbol",
    symbols: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    form: export.FormatOption = None,
    output: export.OutputOption = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-l", metavar="N", min=1, help="Most rows.", show_default=f"{TABLE_ROWS} in a table"),
    ] = None,
    market: MarketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what is held of the regular minutes, and why the rest is not.

    Reads the ledger, not the bars. The least covered come first.
    """
    if not is_alone(context):
        return
    kind = export.format_of(form, output)
    loaded = configuration(config)
    names = listed(symbols)
    chosen = chosen_market(loaded, market, names)
    dates = asked_dates(chosen, start, end) if start is not None or end is not None else None
    with catalogue():
        days = _days(loaded, chosen, names, dates)
    if days.is_empty():
        raise UserError(
            f"expected symbol-days of {selected(chosen, names, dates)} in the ledger, was none: marketpipe ingest "
            "fetches them, marketpipe coverage rebuild reads them from the lake"
        )
    frame = _holes(days) if by == "hole" else _by_reason(days) if by == "reason" else _summed(days, KEYS[by])
    if output is not None:
        export.write_whole(output, export.FORMATS[kind](frame[:limit]))
        note(f"{counted(frame[:limit].height, 'row')} written to {output}")
    elif kind == "table" and frame.is_empty():
        note(f"no hole in {counted(days.height, 'symbol-day')}")
    elif kind == "table":
        _show(frame, limit or TABLE_ROWS)
    else:
        typer.echo(export.FORMATS[kind](frame[:limit]), nl=False)


def rebuild(
    market: MarketsOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the ledger anew from the lake alone, for every market or one.

    What the ledger said before is replaced in one transaction; a killed rebuild changes nothing.
    """
    loaded = configuration(config)
    for each in chosen_markets(loaded, market):
        with lake_access(), catalogue():
            written = _rebuilt(loaded, each)
        console().print(f"{each.name}: {counted(written, 'symbol-day')} read from the lake")


def _days(config: Config, market: Market, symbols: list[str], dates: Sequence[date] | None) -> "pl.DataFrame":
    from marketpipe_assets.catalog.ledger import symbol_days_of
    from marketpipe_assets.catalog.store import Catalog

    return symbol_days_of(Catalog(config.catalog_url), market.name, symbols or None, dates)


def _summed(days: "pl.DataFrame", keys: tuple[str, ...]) -> "pl.DataFrame":
    import polars as pl

    from marketpipe_assets.catalog.tables import MISSING

    minutes = ("expected", "received", "valid", "quarantined", "missing", *MISSING)
    share = (pl.col("valid") / pl.max_horizontal("expected", 1)).round(6).alias("covered")
    rows = days.group_by(keys, maintain_order=True).agg(pl.len().alias("days"), pl.sum(*minutes))
    shown = rows.with_columns(share).select(*keys, "days", "covered", *minutes)
    return (shown.drop("days") if len(keys) > 1 else shown).sort("covered", *keys)


def _by_reason(days: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    holes = _holes(days)
    expected = int(days["expected"].sum())
    return (
        holes.group_by("reason")
        .agg(
            pl.len().alias("holes"),
            pl.struct("symbol", "session_date").n_unique().alias("days"),
            pl.col("minutes").sum(),
        )
        .with_columns((pl.col("minutes") / max(expected, 1)).round(6).alias("share"))
        .sort("minutes", "reason", descending=[True, False])
    )


def _holes(days: "pl.DataFrame") -> "pl.DataFrame":
    from marketpipe_assets.catalog.ledger import holes_of

    return holes_of(days).sort("minutes", "symbol", "start", descending=[True, False, False])


def _show(frame: "pl.DataFrame", limit: int) -> None:
    print_frame(frame.head(limit))
    if limit < frame.height:
        note(f"{limit:,} of {counted(frame.height, 'row')} printed; --limit prints more")


def _rebuilt(config: Config, market: Market) -> int:
    from marketpipe_assets.bars.symbol_days import symbol_days
    from marketpipe_assets.catalog.ledger import forget, record
    from marketpipe_assets.catalog.restatements import record_restatements
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.defs.ledger import evidence_of, minute_tables
    from marketpipe_assets.lake.facts import fetches_of
    from marketpipe_assets.lake.superseded import restatements_in

    written = 0
    with Catalog(config.catalog_url).begin() as connection:
        forget(connection, market.name)
        for part in _shown(_parts(config.lake, market), market):
            fetches = fetches_of(config.lake, market.name, *part)
            evidence = evidence_of(config.lake, market, part)
            found = symbol_days(minute_tables(config.lake, market, part), fetches, market.sessions, *part)
            record(connection, market.name, market.sessions, found.facts, found.holes, evidence)
            owned = market.sessions.owned_dates(part.dates)
            restated = restatements_in(config.lake, market.name, part.symbols, owned)
            record_restatements(connection, market.name, restated)
            written += found.facts.height
    return written


def _parts(lake: Path, market: Market) -> list["Selection"]:
    """Rectangles over every symbol that has a folder and every session up to now, newest last."""
    from marketpipe_assets.bars.sessions import today
    from marketpipe_assets.defs.partitions import Selection
    from marketpipe_assets.lake.scan import held

    symbols = sorted(held(lake, market.name).get("raw_bars_1m", ()))
    dates = [day for day in market.sessions.dates if day <= today()]
    if not symbols:
        return []
    long = max(1, market.max_symbol_days_per_run // len(symbols))
    return [Selection(symbols, dates[row : row + long]) for row in range(0, len(dates), long)]


def _shown(parts: list["Selection"], market: Market) -> Iterator["Selection"]:
    from rich.progress import track

    out = console(sys.stderr)
    return iter(track(parts, f"reading {market.name}", console=out, transient=True, disable=not out.is_terminal))
