"""Commands work by symbol and session whatever a partition holds, and tell the web UI what is held."""

from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, process

GROUPED = CONFIGURATION.replace(
    "max_symbol_days_per_run: 4", "partition: {symbols: 2, dates: month}\n    max_symbol_days_per_run: 50"
)
DATES = ("--start", "2024-01-02", "--end", "2024-01-04")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    configured(tmp_path, GROUPED)
    return tmp_path


def test_sessions_within_a_month_are_ingested_and_rebuilt_alone(folder: Path) -> None:
    ingested = process(folder, "ingest", "--symbols", "AAPL,MSFT", *DATES)
    aggregated = process(folder, "aggregate", "--market", "shares", "--all")
    judged = process(folder, "validate", "--market", "shares", "--all")

    assert ingested.returncode == 0, ingested.stderr
    assert aggregated.returncode == 0, aggregated.stderr
    assert "bars of 4 symbol-days judged" in judged.stdout
    assert "stored bars are what the rules make of them" in judged.stdout


def test_what_is_held_whole_is_recorded_once(folder: Path) -> None:
    process(folder, "ingest", "--symbols", "MSFT", "--start", "2024-01-02", "--end", "2024-02-01")

    told = process(folder, "partitions", "rebuild", "--market", "shares", "--dry-run")
    process(folder, "partitions", "rebuild", "--market", "shares")
    again = process(folder, "partitions", "rebuild", "--market", "shares")

    assert told.returncode == 0, told.stderr
    assert "shares bars_1d: 1 partition held, 0 would be recorded" in told.stdout
    assert "shares bars_1d: 1 partition held, 0 recorded" in again.stdout
