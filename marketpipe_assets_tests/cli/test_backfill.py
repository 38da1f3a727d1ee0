"""`marketpipe backfill`: it fetches what the ledger lacks, says what it would cost, and goes on where it was killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.defs.lost_runs import LOST, LOST_TAG
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.cli.command import configured, marketpipe, process

PATIENCE = 120
SPAN = ("--market", "shares", "--from", "2024-01-02", "--end", "2024-01-06")
DAYS = [date(2024, 1, day) for day in (2, 3, 4, 5)]
SYMBOLS = ["AAPL", "BRK.B", "MSFT"]


def ledger(folder: Path) -> pl.DataFrame:
    return symbol_days_of(Catalog(f"sqlite:///{folder}/catalog.sqlite"), "shares")


def files(folder: Path) -> dict[str, bytes]:
    """What the lake holds, and what Dagster says of its runs."""
    with sqlite3.connect(f"file:{folder}/.dagster/history/runs.db?mode=ro", uri=True) as runs:
        rows = runs.execute("SELECT run_id, status, update_timestamp FROM runs ORDER BY run_id").fetchall()
    lake = {str(path): path.read_bytes() for path in folder.glob("lake/**/*") if path.is_file()}
    return {**lake, "runs": repr(rows).encode(), "ledger": repr(ledger(folder).rows()).encode()}


def test_what_is_complete_is_not_fetched_again(own: Path) -> None:
    fetched_before = ledger(own.parent).filter(pl.col("session_date") < date(2024, 1, 4))

    first = process(own.parent, "backfill", *SPAN)
    second = process(own.parent, "backfill", *SPAN)

    after = ledger(own.parent)
    assert first.returncode == 0, first.stderr
    assert "6 symbol-days to fetch (6 never fetched) in 2 runs" in first.stdout
    assert after.filter(pl.col("session_date") < date(2024, 1, 4)).equals(fetched_before)
    assert after.select("symbol", "session_date").rows() == [(symbol, day) for symbol in SYMBOLS for day in DAYS]
    assert "nothing to fetch" in second.stdout


def test_dry_run_shows_what_it_would_cost_and_starts_nothing(own: Path) -> None:
    done = marketpipe("backfill", "--config", own, *SPAN, "--dry-run")

    assert done.exit_code == 0, done.output
    assert "6 symbol-days to fetch (6 never fetched) in 2 runs" in done.stdout
    assert "requests  none: shares is on this machine" in done.stdout
    assert "1,560" in done.stdout  # regular minutes of two shares on two sessions
    assert done.stdout.endswith("nothing was started\n")
    assert ledger(own.parent).height == 6


def test_dry_run_shows_requests_and_quota_of_a_vendor(tmp_path: Path) -> None:
    text = (
        f"config_version: 1\nproviders:\n  binance: {{requests_per_minute: 60, quota_file: {tmp_path}/quota}}\n"
        "markets:\n"
        "  coins: {calendar: 24/7, asset_class: crypto, provider: binance, symbols: [BTCUSDT, ETHUSDT], "
        "start: 2024-01-02}\n"
    )

    done = marketpipe(
        "backfill", "-c", configured(tmp_path, text), "--from", "2024-01-02", "--end", "2024-01-12", "--dry-run"
    )

    assert done.exit_code == 0, done.output
    assert "requests  30 of binance where every minute has a bar" in done.stdout  # 2 coins × 14,400 minutes by 1,000
    assert "30 left at this moment; at least 0:01:00 for all of them" in done.stdout  # each counts twice
    assert "money     nothing by the request" in done.stdout


def test_backfill_that_was_killed_goes_on_and_fetches_each_symbol_day_once(tmp_path: Path) -> None:
    folder = configured(tmp_path).parent
    command = [sys.executable, "-c", "from marketpipe_assets.cli.app import app; app()", "backfill", *SPAN]
    killed = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while killed.poll() is None and time.monotonic() < deadline and not list(folder.glob("lake/shares/bars_1m/*/*")):
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(PATIENCE)
    before = files(folder)

    dry = process(folder, "backfill", *SPAN, "--dry-run")

    assert dry.returncode == 0, dry.stderr
    assert "was killed: what it stored is counted when the next backfill begins" in dry.stderr
    assert "left to runs that are under way" not in dry.stderr
    assert files(folder) == before

    again = process(folder, "backfill", *SPAN)

    assert again.returncode == 0, again.stderr
    assert "was killed: what it did not finish is done again" in again.stderr
    assert ledger(folder).filter(pl.col("valid") > 0).height == len(SYMBOLS) * len(DAYS)
    for table in ("raw_bars_1m", "bars_1m", "bars_1d"):
        held = read_bars(folder / "lake", "shares", table, SYMBOLS, DAYS)
        assert held.select("symbol", "session_date").n_unique() == len(SYMBOLS) * len(DAYS)
        assert table == "raw_bars_1m" or held.select("symbol", "ts").is_duplicated().sum() == 0


def test_every_market_is_looked_at_unless_one_is_named(filled: Path) -> None:
    done = marketpipe("backfill", "--config", filled, "--from", "2024-01-02", "--end", "2024-01-05", "--dry-run")

    assert done.exit_code == 0, done.output
    assert "shares: 3 symbol-days to fetch" in done.stdout
    assert "coins: 2 symbol-days to fetch" in done.stdout


def test_lookback_counts_days_back_from_today(own: Path) -> None:
    done = marketpipe("backfill", "-c", own, "--market", "coins", "--lookback", "3", "--dry-run")

    now = datetime.now(UTC)
    last = (now - timedelta(minutes=15)).date() - timedelta(days=1)  # a session is due a quarter of an hour after it
    assert done.exit_code == 0, done.output
    assert f"{now.date() - timedelta(days=3)} to {last}" in done.stdout


def test_a_lookback_beyond_the_start_is_to_the_start(filled: Path) -> None:
    days = (datetime.now(UTC).date() - date(2024, 1, 2)).days

    far, exact = (
        marketpipe("backfill", "-c", filled, "--market", "coins", "--lookback", count, "--dry-run")
        for count in (99_999_999, days)
    )

    assert far.exit_code == 0, far.exception
    assert far.stdout == exact.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--from", "2024-1-2"), "--from: expected a date such as 2024-01-02"),
        (("--from", "2999-01-02"), "expected an --end after 2999-01-02"),
        (("--end", "2999-01-02"), "was 2999-01-02: bars of the future do not exist"),
        (("--provider", "alpaca"), "expected a market of provider alpaca, was shares (shares), coins (coins)"),
        (("--symbols", "TSLA"), "TSLA"),
    ],
)
def test_what_cannot_be_backfilled_is_told_in_a_line(filled: Path, args: tuple[str, ...], said: str) -> None:
    done = marketpipe("backfill", "--config", filled, *args)

    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("name", [["ohlcv", "backfill"], ["ohlcv-backfill"]])
def test_earlier_names_do_the_same(filled: Path, name: list[str]) -> None:
    done = marketpipe(*name, "--config", filled, "--from", "2024-01-02", "--end", "2024-01-04", "--dry-run")

    assert done.exit_code == 0, done.output
    assert "nothing to fetch" in done.stdout


def test_bars_of_a_killed_run_that_dagster_did_not_hear_of_are_told_and_not_fetched_again(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own.parent
    monkeypatch.setenv("DAGSTER_HOME", str(folder / ".dagster"))
    fetched = ledger(folder)
    with dg.DagsterInstance.get() as instance:
        raw = dg.AssetKey(["shares", "raw_bars_1m"])
        (first, *_) = [run for run in instance.get_runs() if run.job_name == "shares_ingest"]
        instance.wipe_assets([raw])  # as if it had been killed before its events
        instance.add_run_tags(first.run_id, {LOST_TAG: LOST})

    done = process(folder, "backfill", "--market", "shares", "--from", "2024-01-02", "--end", "2024-01-04")

    assert done.returncode == 0, done.stderr
    assert "2 symbol-days to rebuild from what is stored" in done.stdout
    assert (
        ledger(folder)
        .select("symbol", "session_date", "fetched_at")
        .equals(fetched.select("symbol", "session_date", "fetched_at"))
    )
    with dg.DagsterInstance.get() as instance:
        assert len(instance.get_materialized_partitions(raw)) == 2
        run = instance.get_run_by_id(first.run_id)
    assert run is not None
    assert run.tags[LOST_TAG] == "made good"
