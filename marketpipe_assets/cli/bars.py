"""`marketpipe bars`: bars of symbols as a table, CSV, JSON or Parquet."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marketpipe_assets.cli import export
from marketpipe_assets.cli.display import counted
from marketpipe_assets.cli.options import ConfigOption, MarketOption, configuration, iso_date, listed
from marketpipe_assets.cli.outcome import RunTimeError, UserError, lake_access, note, user_input
from marketpipe_assets.cli.query import print_frame
from marketpipe_assets.config import Config

if TYPE_CHECKING:
    import polars as pl

TABLE_ROWS = 100
TABLE_COLUMNS = ("symbol", "ts", "session_date", "open", "high", "low", "close", "volume", "session")
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}

Format = Literal["table", "csv", "json", "parquet"]


def bars(  # noqa: PLR0913, PLR0917  # one per option
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL…", help="One or more; A,B is two.")],
    timeframe: Annotated[
        str, typer.Option("--timeframe", "-t", metavar="LENGTH", help="1m, a stored length, 1w or 1M.")
    ] = "1d",
    start: Annotated[
        str | None, typer.Option(metavar="DATE", help="First session date, or an instant with its zone.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="DATE", help="The date or instant before which to end (exclusive).")
    ] = None,
    start_date: Annotated[
        str | None, typer.Option("--start-date", "-sd", metavar="DATE", help="As --start; a date.")
    ] = None,
    end_date: Annotated[
        str | None, typer.Option("--end-date", "-ed", metavar="DATE", help="The last session date (inclusive).")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="How to print them.", show_default="as --output is named, else table"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file to write instead of printing.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-l", metavar="N", min=1, help="Most rows.", show_default=f"{TABLE_ROWS} in a table"),
    ] = None,
    session: Annotated[
        Literal["regular", "pre", "post"] | None, typer.Option(help="Only bars of this part of the day.")
    ] = None,
    market: MarketOption = None,
    config: ConfigOption = None,
) -> None:
    """Print bars of symbols as a table, CSV, JSON or Parquet.

    A table has the newest first; the others have every bar in order of time. Prices are unadjusted; times are UTC
    and the bar's first instant. Symbols nobody knows are named on stderr.
    """
    first, last = _bounds(start, end, start_date, end_date)
    kind = form or (SUFFIXES.get(output.suffix, "table") if output is not None else "table")
    if kind == "parquet" and output is None:
        raise UserError("expected --output with --format parquet: it is not text")
    loaded = configuration(config)
    frame = _loaded(loaded, _resolved(loaded, market, listed(symbols)), timeframe, first, last, session)
    if kind == "table":
        _show_table(frame, limit or TABLE_ROWS, output)
        return
    content = export.FORMATS[kind](frame if limit is None else frame.head(limit))
    if output is None:
        typer.echo(content, nl=False)
        return
    export.write_whole(output, content)
    note(f"{counted(frame.height, 'bar')} written to {output}")


def _bounds(
    start: str | None, end: str | None, start_date: str | None, end_date: str | None
) -> tuple[str | None, str | None]:
    """The half-open range. Raises `UserError` where both spellings of a bound are given, or none is between them."""
    if (start and start_date) or (end and end_date):
        raise UserError("expected --start and --end, or --start-date and --end-date, was both")
    opened = iso_date(start_date, "--start-date")
    closed = iso_date(end_date, "--end-date")
    first = str(opened) if opened is not None else _moment(start, "--start")
    last = str(closed + timedelta(days=1)) if closed is not None else _moment(end, "--end")
    if first is not None and last is not None and len(first) == len(last) and last <= first:
        raise UserError(f"expected an end after {first}, was {end or end_date}")
    return first, last


def _moment(text: str | None, option: str) -> str | None:
    try:
        if text is not None:
            datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{option}: expected a date or a time with its zone, was {text!r}") from None
    return text


def _resolved(config: Config, market: str | None, symbols: Sequence[str]) -> dict[str, list[str]]:
    """Market → those of the symbols it has. Names the rest on stderr, and fails where there is no other."""
    from marketpipe_assets.lake.scan import held

    if market is not None and market not in config.markets:
        raise UserError(f"expected a market of {', '.join(config.markets)}, was {market!r}")
    markets = [config.markets[name] for name in ([market] if market is not None else config.markets)]
    known = {each.name: {*each.symbols, *held(config.lake, each.name).get("bars_1m", ())} for each in markets}
    owners = {symbol: [name for name, theirs in known.items() if symbol in theirs] for symbol in symbols}
    for symbol, names in owners.items():
        if len(names) > 1:
            raise UserError(f"expected one market with {symbol}, was {', '.join(names)}: name it with --market")
    if unknown := [symbol for symbol, names in owners.items() if not names]:
        note(f"no market has {', '.join(unknown)}")
    if not any(owners.values()):
        raise RunTimeError(f"expected symbols of {', '.join(known)}, was {', '.join(symbols)}")
    found = dict.fromkeys(name for names in owners.values() for name in names)
    return {name: [symbol for symbol in symbols if owners[symbol] == [name]] for name in found}


def _loaded(
    config: Config,
    symbols: dict[str, list[str]],
    timeframe: str,
    start: str | None,
    end: str | None,
    session: str | None,
) -> "pl.DataFrame":
    import polars as pl

    from marketpipe_assets.query import load_bars

    with lake_access(), user_input():
        return pl.concat(
            load_bars(theirs, timeframe, start, end, market=market, session=session, config=config)
            for market, theirs in symbols.items()
        )


def _show_table(frame: "pl.DataFrame", limit: int, output: Path | None) -> None:
    import polars as pl

    newest = frame.sort(pl.col("symbol").rank("dense"), "ts", descending=[False, True]).select(TABLE_COLUMNS)
    shown = newest.head(limit)
    if output is not None:
        text = StringIO()
        print_frame(shown, text)
        export.write_whole(output, text.getvalue().encode())
        return
    print_frame(shown)
    if shown.height < newest.height:
        note(f"{shown.height:,} of {counted(newest.height, 'bar')} printed; --limit prints more")
    elif newest.is_empty():
        note("no bars in this range: marketpipe status tells what is held")
