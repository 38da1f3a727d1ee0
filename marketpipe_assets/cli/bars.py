"""`marketpipe bars`: bars of symbols as a table, CSV, JSON or Parquet."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marketpipe_assets.cli import export
from marketpipe_assets.cli.display import counted, print_frame, some
from marketpipe_assets.cli.options import ConfigOption, MarketOption, chosen_markets, configuration, iso_date, listed
from marketpipe_assets.cli.outcome import RunTimeError, UserError, lake_access, note, user_input
from marketpipe_assets.config import Config

if TYPE_CHECKING:
    import polars as pl

TABLE_ROWS = 100
TABLE_COLUMNS = ("symbol", "ts", "session_date", "open", "high", "low", "close", "volume", "session")

Session = Literal["regular", "pre", "post"]


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
    form: export.FormatOption = None,
    output: export.OutputOption = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-l", metavar="N", min=1, help="Most rows.", show_default=f"{TABLE_ROWS} in a table"),
    ] = None,
    session: Annotated[Session | None, typer.Option(help="Only bars of this part of the day.")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="INSTANT", help="As they stood at this instant, with its zone.")
    ] = None,
    market: MarketOption = None,
    config: ConfigOption = None,
) -> None:
    """Print bars of symbols as a table, CSV, JSON or Parquet.

    A table has the newest first; the others have every bar in order of time. Prices are unadjusted; times are UTC
    and the bar's first instant. Symbols nobody knows are named on stderr.
    """
    first, last = _bounds(start, end, start_date, end_date)
    kind = export.format_of(form, output)
    loaded = configuration(config)
    theirs = _resolved(loaded, market, listed(symbols, "SYMBOL"))
    frame = _loaded(loaded, theirs, timeframe, first, last, (session, as_of))
    if output is not None:
        _write(frame, kind, limit, output)
    elif kind == "table":
        _show_table(frame, limit or TABLE_ROWS)
    else:
        typer.echo(export.FORMATS[kind](frame[:limit]), nl=False)


def _bounds(
    start: str | None, end: str | None, start_date: str | None, end_date: str | None
) -> tuple[str | None, str | None]:
    """The half-open range. Raises `UserError` where both spellings of a bound are given, or none is between them."""
    if (start and start_date) or (end and end_date):
        raise UserError("expected --start and --end, or --start-date and --end-date, was both")
    opened = iso_date(start_date, "--start-date")
    closed = iso_date(end_date, "--end-date")
    first = str(opened) if opened is not None else _moment(start, "--start")
    last = _moment(end, "--end") if closed is None else _day_after(closed)
    if first is not None and last is not None and _is_reversed(first, last):
        raise UserError(f"expected an end after {first}, was {end or end_date}")
    return first, last


def _day_after(day: date) -> str | None:
    """The end that includes a day; none for the last day there is."""
    return str(day + timedelta(days=1)) if day < date.max else None


def _is_reversed(first: str, last: str) -> bool:
    """Of two dates or of two instants; a date and an instant are compared by the market's sessions, later."""
    bounds = [datetime.fromisoformat(each) for each in (first, last)]
    return len({(each.tzinfo is None) for each in bounds}) == 1 and bounds[1] <= bounds[0]


def _moment(text: str | None, option: str) -> str | None:
    try:
        if text is not None:
            datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option}: expected a date such as 2024-01-02, or a time with its zone, was {text!r}"
        ) from None
    return text


def _resolved(config: Config, market: str | None, symbols: Sequence[str]) -> dict[str, list[str]]:
    """Market → those of the symbols it has: the one with all of them, or each symbol's own.

    Names those that no market has on stderr, and fails where there is no other.
    """
    from marketpipe_assets.query import markets_with, misspelt

    markets = chosen_markets(config, market)
    owners = {symbol: markets_with(config, markets, [symbol]) for symbol in symbols}
    held = [symbol for symbol, found in owners.items() if found]
    if unknown := [symbol for symbol, found in owners.items() if not found]:
        said = misspelt(config, markets, unknown)
        if not held:
            raise RunTimeError(f"expected symbols of {', '.join(each.name for each in markets)}, was {said}")
        note(f"no market has {said}")
    together = markets_with(config, markets, held)
    if len(together) == 1:
        return {together[0].name: held}
    for symbol, found in owners.items():
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise UserError(f"expected one market with {symbol}, was {names}: name it with --market")
    names_of = {symbol: owners[symbol][0].name for symbol in held}
    return {name: [symbol for symbol in held if names_of[symbol] == name] for name in dict.fromkeys(names_of.values())}


def _loaded(
    config: Config,
    symbols: dict[str, list[str]],
    timeframe: str,
    start: str | None,
    end: str | None,
    chosen: tuple[Session | None, str | None],
) -> "pl.DataFrame":
    import polars as pl

    from marketpipe_assets.query import load_bars

    session, as_of = chosen
    with lake_access(), user_input():
        return pl.concat(
            load_bars(theirs, timeframe, start, end, market=market, session=session, as_of=as_of, config=config)
            for market, theirs in symbols.items()
        )


def _newest_first(frame: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    place = pl.col("symbol").cast(pl.Enum(_symbols(frame)))
    return frame.sort(place, "ts", descending=[False, True]).select(TABLE_COLUMNS)


def _symbols(frame: "pl.DataFrame") -> list[str]:
    return frame["symbol"].unique(maintain_order=True).to_list()


def _write(frame: "pl.DataFrame", kind: str, limit: int | None, output: Path) -> None:
    rows = (_newest_first(frame) if kind == "table" else frame)[:limit]
    export.write_whole(output, export.FORMATS[kind](rows))
    left_out = f" of {frame.height:,}" if rows.height < frame.height else ""
    note(f"{counted(rows.height, 'bar')}{left_out} written to {output}")


def _show_table(frame: "pl.DataFrame", limit: int) -> None:
    shown = _newest_first(frame).head(limit)
    print_frame(shown)
    if shown.height < frame.height:
        unseen = [symbol for symbol in _symbols(frame) if symbol not in _symbols(shown)]
        none = f", none of {some(unseen)}" if unseen else ""
        note(f"{shown.height:,} of {counted(frame.height, 'bar')} printed{none}; --limit prints more")
    elif frame.is_empty():
        note("no bars in this range: marketpipe status tells what is held")
