import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from marketpipe_assets_tests.cli.command import marketpipe

OPTIONS = {
    "demo": ["--config"],
    "ingest": ["--market", "--symbols", "--start", "--end", "--allow-shrink", "--dry-run", "--config"],
    "aggregate": ["--symbol", "--symbols", "--days", "--all", "--start", "--end", "--market", "--config"],
    "validate": ["--symbol", "--symbols", "--days", "--all", "--start", "--end", "--show", "--market", "--config"],
    "status": ["--json", "--config"],
    "query": ["SQL", "--csv", "--json", "--limit", "--explain", "--timeout", "--memory", "--max-rows", "--config"],
    "bars": [
        "--timeframe",
        "--start",
        "--end",
        "-sd",
        "-ed",
        "--format",
        "--output",
        "--limit",
        "--market",
        "--session",
    ],
    "providers": ["--config"],
    "migrate": ["--config"],
    "doctor": ["--ask", "--json", "--verbose", "--output", "--config"],
    "health-check": ["--ask", "--json"],
    "metrics": ["--port", "--host", "--every", "--list", "--metric", "--since", "--avg", "--plot", "--config"],
    "config check": ["[path]"],
    "lake verify": ["--market", "--sweep", "--config"],
    "partitions rebuild": ["--market", "--replace", "--dry-run", "--config"],
    "ingest-ohlcv": ["--symbols"],
    "aggregate-ohlcv": ["--days"],
    "validate-ohlcv": ["--all"],
    "ohlcv ingest": ["--symbols"],
    "ohlcv aggregate": ["--days"],
    "ohlcv validate": ["--all"],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_of_a_command_names_its_options(command: str) -> None:
    result = marketpipe(*command.split(), "--help")

    assert result.exit_code == 0
    assert [option for option in OPTIONS[command] if option not in result.stdout] == []


def test_the_command_alone_prints_its_help() -> None:
    result = marketpipe()

    assert result.exit_code == 0
    assert "ingest" in result.stdout


@pytest.mark.parametrize("args", [["version"], ["--version"]])
def test_the_version_is_that_of_the_package(args: list[str]) -> None:
    assert marketpipe(*args).stdout == f"marketpipe {version('marketpipe_assets')}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope"], "error: No such command 'nope'.\n"),
        (["lake"], "error: Missing command.\n"),
        (["query"], "error: Missing argument 'SQL'.\n"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(args: list[str], said: str) -> None:
    result = marketpipe(*args)

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


def test_help_imports_neither_dagster_nor_frames() -> None:
    script = (
        "import sys\n"
        "from marketpipe_assets.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    began = time.monotonic()

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"dagster", "polars", "duckdb", "exchange_calendars", "pyarrow"}.isdisjoint(run.stderr.split())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["prune", "--dry-run", "-m", "coins", "parquet", "30d", "--execute"],
            "expected --market, --dry-run after parquet",
        ),
        (["prune", "-c", "/nowhere.yaml", "parquet", "30d"], "expected --config after parquet, was before it"),
        (["coverage", "--by", "day", "-m", "coins", "rebuild"], "expected --by, --market after rebuild, was before it"),
    ],
)
def test_options_before_a_subcommand_are_refused(args: list[str], said: str) -> None:
    result = marketpipe(*args)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {said}")


EVERY = ("prune", "prune parquet", "coverage rebuild", "symbols", "backfill", "lake verify", "partitions rebuild")


@pytest.mark.parametrize("command", EVERY)
def test_help_says_that_without_a_market_it_is_every_one(command: str) -> None:
    shown = " ".join(marketpipe(*command.split(), "--help").stdout.split())

    assert "every market)" in shown
    assert "else the first" not in shown
