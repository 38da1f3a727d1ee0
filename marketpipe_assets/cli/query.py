"""`marketpipe query`: one SELECT over the lake."""

from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from marketpipe_assets.cli import export
from marketpipe_assets.cli.display import console, counted, table
from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import RunTimeError, UserError, note, one_line
from marketpipe_assets.config import Config

if TYPE_CHECKING:
    import polars as pl

TABLE_ROWS = 50
SECONDS = "%Y-%m-%d %H:%M:%S"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over views such as us_equities.bars_5m.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: count and results.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-l", metavar="N", min=1, help="Most rows to print.", show_default=f"{TABLE_ROWS} in a table"
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Answer one SELECT over the lake. There is one view per table, in one schema per market.

    The first market's views are also there without the schema. Nothing but the lake can be read, and nothing written.
    """
    if as_csv and as_json:
        raise UserError("expected --csv or --json, was both")
    answer = _answer(configuration(config), sql)
    if as_csv or as_json:
        shown = answer if limit is None else answer.head(limit)
        written = export.csv(shown) if as_csv else export.json(shown)
        typer.echo(written, nl=False)
    else:
        shown = answer.head(limit or TABLE_ROWS)
        print_frame(shown)
    if shown.height < answer.height:
        note(f"{shown.height:,} of {counted(answer.height, 'row')} printed; --limit prints more")


def _answer(config: Config, sql: str) -> "pl.DataFrame":
    import duckdb

    from marketpipe_assets.query import connect, select

    try:
        with connect(config) as connection:
            return select(connection, sql)
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InvalidInputException) as error:
        raise RunTimeError(_reason(error)) from error
    except (duckdb.Error, ValueError) as error:
        raise UserError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """DuckDB's words without the excerpt of the statement it adds."""
    return one_line(str(error).split("\n\nLINE")[0])


def print_frame(frame: "pl.DataFrame", file: TextIO | None = None) -> None:
    """A frame as a table, times in UTC and without seconds where all are whole minutes."""
    import polars as pl

    aware = {name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)}
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    whole = all(frame[name].dt.truncate("1m").equals(frame[name]) for name in aware)
    shown = frame.with_columns(pl.col(name).dt.strftime("%Y-%m-%d %H:%M" if whole else SECONDS) for name in aware)
    headers = {name: f"{name} (UTC)" if name in aware else name for name in frame.columns}
    console(file).print(table(list(headers.values()), shown.iter_rows(), numbers))
