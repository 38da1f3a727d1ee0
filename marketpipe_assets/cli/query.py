"""`marketpipe query`: one SELECT over the lake."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli import export
from marketpipe_assets.cli.display import counted, print_frame
from marketpipe_assets.cli.options import ConfigOption, configuration, refuse_beside
from marketpipe_assets.cli.outcome import RunTimeError, UserError, lake_access, note, one_line
from marketpipe_assets.config import Config

if TYPE_CHECKING:
    import duckdb

TABLE_ROWS = 50


def query(  # noqa: PLR0913, PLR0917  # one per option
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over views such as us_equities.bars_5m.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: count and results.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-l", metavar="N", min=1, help="Most rows to print.", show_default=f"{TABLE_ROWS} in a table"
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--explain", help="Print how it would be answered; it is not run.")] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.01, max=86_400, help="Longest it may take.", show_default="60"
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most memory it may use, as in 500MB.", show_default="4GB")
    ] = None,
    most_rows: Annotated[
        int | None,
        typer.Option(
            "--max-rows", metavar="N", min=1, help="An answer of more rows is an error.", show_default="1,000,000"
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Answer one SELECT over the lake. There is one view per table, in one schema per market.

    The first market's views are also there without the schema. Nothing but the lake can be read, and nothing written.
    """
    from marketpipe_assets.query import MEMORY, MOST_ROWS, SECONDS, explain, select

    if as_csv + as_json + plan > 1:
        raise UserError("expected one of --csv, --json and --explain, was several")
    if plan:
        of_an_answer = {"--limit": limit, "--timeout": seconds, "--max-rows": most_rows}
        refuse_beside("--explain without what limits an answer", of_an_answer)
    with _connected(configuration(config), memory or MEMORY) as connection:
        if plan:
            typer.echo(explain(connection, sql))
            return
        answer = select(connection, sql, seconds=seconds or SECONDS, most_rows=most_rows or MOST_ROWS)
    if as_csv or as_json:
        shown = answer if limit is None else answer.head(limit)
        typer.echo(export.FORMATS["csv" if as_csv else "json"](shown), nl=False)
    else:
        shown = answer.head(limit or TABLE_ROWS)
        print_frame(shown)
    if shown.height < answer.height:
        note(f"{shown.height:,} of {counted(answer.height, 'row')} printed; --limit prints more")


@contextmanager
def _connected(config: Config, memory: str) -> Iterator["duckdb.DuckDBPyConnection"]:
    import duckdb

    from marketpipe_assets.query import connect

    try:
        with lake_access(), connect(config, memory=memory) as connection:
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InvalidInputException, TimeoutError) as error:
        raise RunTimeError(_reason(error)) from error
    except (duckdb.Error, ValueError) as error:
        raise UserError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """DuckDB's words without the excerpt of the statement it adds."""
    return one_line(str(error).split("\n\nLINE")[0])
