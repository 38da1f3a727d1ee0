"""The `marketpipe` command. What a command does is in the module of its name."""

from importlib.metadata import version
from typing import Annotated

import typer

from marketpipe_assets.cli.aggregate import aggregate
from marketpipe_assets.cli.backfill import backfill
from marketpipe_assets.cli.bars import bars
from marketpipe_assets.cli.config_check import check
from marketpipe_assets.cli.coverage import coverage, rebuild
from marketpipe_assets.cli.demo import demo
from marketpipe_assets.cli.doctor import doctor
from marketpipe_assets.cli.ingest import ingest
from marketpipe_assets.cli.lake_verify import verify
from marketpipe_assets.cli.metrics import metrics
from marketpipe_assets.cli.migrate import migrate
from marketpipe_assets.cli.outcome import Commands
from marketpipe_assets.cli.partitions import rebuild as rebuild_partitions
from marketpipe_assets.cli.providers import providers
from marketpipe_assets.cli.prune import database, parquet, prune
from marketpipe_assets.cli.query import query
from marketpipe_assets.cli.schedule import generate
from marketpipe_assets.cli.status import status
from marketpipe_assets.cli.symbols import symbols
from marketpipe_assets.cli.validate import validate


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        cls=Commands,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )


app = _group("Market data as a Dagster asset graph: fetch minute bars, judge every one, build longer ones, read them.")
units = _group("Runs that start without somebody, on a machine without containers.")
old = _group("Bars that are older than the configuration keeps them.")
ohlcv = _group("Earlier names of ingest, aggregate and validate.")
held = _group("What is held of each symbol-day, and why the rest is not.")
config = _group("The configuration.")
lake = _group("The files of the lake.")
partitions = _group("What the web UI shows as materialized.")

for command in (demo, ingest, backfill, aggregate, validate, status, symbols, query, bars, providers, metrics, doctor):
    app.command()(command)
app.command()(migrate)
for command in (ingest, aggregate, validate):
    app.command(f"{command.__name__}-ohlcv", hidden=True)(command)
    ohlcv.command()(command)
app.command("ohlcv-backfill", hidden=True)(backfill)
ohlcv.command()(backfill)
app.command("health-check", hidden=True)(doctor)
units.command()(generate)
old.callback(invoke_without_command=True)(prune)
old.command()(parquet)
old.command(hidden=True)(database)
held.callback(invoke_without_command=True)(coverage)
held.command()(rebuild)
config.command()(check)
lake.command()(verify)
partitions.command("rebuild")(rebuild_partitions)
app.add_typer(held, name="coverage")
app.add_typer(config, name="config")
app.add_typer(lake, name="lake")
app.add_typer(partitions, name="partitions")
app.add_typer(old, name="prune")
app.add_typer(units, name="schedule")
app.add_typer(ohlcv, name="ohlcv", hidden=True)


def _print_version() -> None:
    typer.echo(f"marketpipe {version('marketpipe_assets')}")


@app.command("version")
def show_version() -> None:
    """Print the version."""
    _print_version()


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    shown: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if shown:
        _print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
