import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from marketpipe_assets.catalog.ledger import forget, symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import intents
from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, marketpipe, process, rows

DATES = ("--start", "2024-01-02", "--end", "2024-01-04")


def test_a_dry_run_prints_the_runs_and_starts_none(tmp_path: Path) -> None:
    result = marketpipe(
        "ingest", "--config", configured(tmp_path), "--start", "2024-01-02", "--end", "2024-01-04", "--dry-run"
    )

    assert result.exit_code == 0
    assert "2 runs of shares_ingest would start" in result.stdout
    symbols, sessions = ["AAPL,", "BRK.B"], ["2:", "2024-01-02", "to", "2024-01-03"]
    assert rows(result.stdout)["1"] == ["shares", *symbols, *sessions, "4", "1,560"]
    assert [path.name for path in tmp_path.iterdir()] == ["marketpipe.yaml"]


def test_symbols_that_are_no_neighbours_are_runs_of_their_own(tmp_path: Path) -> None:
    result = marketpipe("ingest", "-c", configured(tmp_path), "-s", "AAPL,MSFT", *DATES, "--dry-run")

    assert [line.split()[:4] for line in result.stdout.splitlines()[2:4]] == [
        ["1", "shares", "AAPL", "2:"],
        ["2", "shares", "MSFT", "2:"],
    ]


def test_the_market_is_the_one_that_has_the_symbols(tmp_path: Path) -> None:
    result = marketpipe("ingest", "-c", configured(tmp_path), "-s", "BTC-USD", *DATES, "--dry-run")

    assert "coins_ingest" in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["-m", "shares", "--start", "2024-01-06", "--end", "2024-01-08"],
            "sessions of shares (XNYS, from 2024-01-02)",
        ),
        (
            ["-m", "shares", "--start", "2024-01-05", "--end", "2024-01-05"],
            "expected an --end after 2024-01-05 (it is exclusive)",
        ),
        (["-m", "shares", "--start", "02.01.2024"], "--start: expected a date such as 2024-01-02, was '02.01.2024'"),
        (["-m", "shares", "--end", "2999-01-01"], "was 2999-01-01: bars of the future do not exist"),
        (["--symbols", "NOPE"], "was NOPE"),
        (["--market", "coins", "--symbols", "AAPL"], "expected symbols of coins, was AAPL"),
        (["--market", "bonds"], "expected a market of shares, coins, was 'bonds'"),
    ],
)
def test_a_wrong_selection_is_one_line_and_exit_code_2(tmp_path: Path, args: list[str], said: str) -> None:
    result = marketpipe("ingest", "--config", configured(tmp_path), *args, "--dry-run")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_market_and_symbols_it_is_the_first_and_said(tmp_path: Path) -> None:
    result = marketpipe("ingest", "--config", configured(tmp_path), *DATES, "--dry-run")

    assert result.stderr.startswith("note: market shares, the first of 2: --market names another\n")


def test_what_came_in_is_printed_and_each_run_has_a_line(tmp_path: Path) -> None:
    configured(tmp_path)

    run = process(tmp_path, "ingest", "--symbols", "AAPL", "--symbols", "BRK.B", *DATES)

    table = rows(run.stdout)
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[0].startswith("run 1 of 1: done in ")
    assert (table["raw_bars_1m"], table["quarantined_bars_1m"], table["bars_1d"]) == (["1,560"], ["4"], ["4"])
    assert "4 of 4" in run.stdout


def test_runs_are_in_the_instance_of_the_web_ui(filled: Path) -> None:
    script = (
        "import dagster as dg\n"
        "for run in dg.DagsterInstance.get().get_runs():\n"
        "    print(run.job_name, run.status.value, run.job_code_origin is not None)"
    )
    home = str(filled.parent / ".dagster")

    run = subprocess.run(
        [sys.executable, "-c", script], env={"DAGSTER_HOME": home}, capture_output=True, text=True, check=True
    )

    assert sorted(run.stdout.splitlines()) == ["coins_ingest SUCCESS True", *["shares_ingest SUCCESS True"] * 2]


def test_a_failed_run_is_one_line_with_its_reason_and_the_others_go_on(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("faults: {negative_volume: 1}", "faults: {missing_minutes: 1}"))

    run = process(own.parent, "ingest", *DATES[:2], "--end", "2024-01-10", "--config", own.name)

    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 1
    assert len(errors) == 3
    assert "not_shrunk" in errors[0]
    assert [f"run {number} of 6: done" in run.stderr for number in range(1, 7)] == [False] * 3 + [True] * 3
    assert "Traceback" not in run.stderr


def test_the_ledger_knows_what_a_run_stored_before_it_failed(tmp_path: Path) -> None:
    configured(tmp_path, CONFIGURATION.replace("    max_symbol", "    max_quarantined_share: 0.001\n    max_symbol"))

    run = process(tmp_path, "ingest", "--symbols", "AAPL", *DATES)

    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    assert run.returncode == 1
    assert symbol_days_of(catalog, "shares")["raw_bars"].to_list() == [390, 390]
    assert catalog.frame(sa.select(intents)).is_empty()


def test_allow_shrink_stores_the_thinner_answer(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("faults: {negative_volume: 1}", "faults: {missing_minutes: 1}"))

    run = process(own.parent, "ingest", "--symbols", "AAPL", *DATES, "--allow-shrink")

    assert run.returncode == 0, run.stderr
    assert int(rows(run.stdout)["raw_bars_1m"][0]) < 780


DROPPED = """\
config_version: 1
lake: ./lake
providers:
  drop:
    type: files
    format: csv
    root: ./drop
    path: "{symbol}/{date:%Y-%m-%d}.csv"
    columns: {ts: t, open: o, high: h, low: l, close: c, volume: v}
    timezone: UTC
    label: start
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: drop
    symbols: [AAPL, MSFT]
    start: 2024-01-02
    timeframes: [1d]
    min_coverage: 0
"""


def test_an_answer_without_any_bar_is_a_failure(tmp_path: Path) -> None:
    configured(tmp_path, DROPPED)
    (tmp_path / "drop").mkdir()

    run = process(tmp_path, "ingest", *DATES)

    assert run.returncode == 1
    assert run.stderr.splitlines()[1:] == ["error: expected bars of 4 symbol-days of shares, was none from drop"]


def test_symbols_without_any_bar_are_named(tmp_path: Path) -> None:
    configured(tmp_path, DROPPED)
    (tmp_path / "drop" / "AAPL").mkdir(parents=True)
    (tmp_path / "drop" / "AAPL" / "2024-01-02.csv").write_text("t,o,h,l,c,v\n2024-01-02 14:30:00,1,1,1,1,1\n")

    run = process(tmp_path, "ingest", *DATES)

    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[1:] == ["note: no bar of MSFT in these sessions"]


@pytest.mark.parametrize(
    "args", [["ingest", "--dry-run"], ["demo"], ["status"], ["validate"], ["bars", "BTC-USD", "-t", "1h"]]
)
def test_a_start_before_the_calendars_bound_is_one_line_and_exit_code_2(tmp_path: Path, args: list[str]) -> None:
    path = configured(
        tmp_path,
        CONFIGURATION[: CONFIGURATION.index("  shares:\n    calendar")]
        + CONFIGURATION[CONFIGURATION.index("  coins:\n    calendar") :]
        .replace("24/7", "XKRX")
        .replace("2024-01-02", "1950-01-02"),
    )

    result = marketpipe(*args, "--config", path)

    assert result.exit_code == 2, result.exception
    assert "expected sessions of XKRX from " in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_demo_of_a_market_that_starts_today_says_that_no_session_is_over(tmp_path: Path) -> None:
    today = str(datetime.now(UTC).date())

    result = marketpipe("demo", "--config", configured(tmp_path, CONFIGURATION.replace("2024-01-02", today)))

    assert result.exit_code == 2
    assert result.stderr == "error: no session of shares, coins is over yet\n"


def test_a_retired_symbol_is_not_fetched(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("BRK.B, ", ""))

    result = marketpipe("ingest", "-s", "BRK.B", *DATES, "--dry-run", "--config", own)

    assert result.exit_code == 2
    assert result.stderr == (
        "error: expected configured symbols of shares, was BRK.B: retired, only their bars are held\n"
    )


def test_a_configuration_elsewhere_is_the_one_the_runs_read(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = configured(elsewhere)

    run = process(
        tmp_path, "ingest", "--config", path, "--market", "coins", "--start", "2024-01-02", "--end", "2024-01-03"
    )

    assert run.returncode == 0, run.stderr
    assert (elsewhere / "lake" / "coins" / "bars_1h").is_dir()
    assert not (tmp_path / "lake").exists()


def test_a_provider_that_cannot_be_made_stops_before_any_run(tmp_path: Path) -> None:
    configured(tmp_path, CONFIGURATION.replace("seed: 3}", "sead: 3}"))

    run = process(tmp_path, "ingest", "--market", "shares", *DATES)

    assert run.returncode == 2
    assert run.stderr.startswith("error: marketpipe.yaml:5: provider coins: sead")
    assert run.stderr.count("\n") == 1


def test_an_interrupt_ends_the_run_and_starts_no_other(tmp_path: Path) -> None:
    configured(tmp_path, CONFIGURATION.replace("run: 4", "run: 24"))
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from marketpipe_assets.cli.app import app\n"
        "app(['ingest', '--start', '2024-01-02', '--end', '2024-01-26'])"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as command:
        while command.poll() is None and not list(tmp_path.glob("lake/shares/raw_bars_1m/*/*.parquet")):
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        said = command.communicate(timeout=120)[1]

    assert command.returncode == 130
    assert said.splitlines()[-1] == "error: stopped"
    assert "run 2" not in said


def test_aggregate_rebuilds_what_follows_from_raw_bars(own: Path) -> None:
    built = own.parent / "lake" / "shares" / "bars_1d" / "symbol=AAPL" / "2024.parquet"
    built.unlink()

    run = process(own.parent, "aggregate", "--symbol", "AAPL", "--all")

    assert run.returncode == 0, run.stderr
    assert built.exists()
    assert rows(run.stdout)["bars_1d"] == ["2"]


def test_aggregate_rebuilds_a_retired_symbol_beside_a_configured_one(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("BRK.B, ", ""))
    folder = own.parent / "lake" / "shares" / "bars_1d"
    built = [folder / f"symbol={symbol}" / "2024.parquet" for symbol in ("AAPL", "BRK.B")]
    before = [path.read_bytes() for path in built]
    for path in built:
        path.unlink()

    run = process(own.parent, "aggregate", "--symbols", "BRK.B,AAPL", "--all")

    assert run.returncode == 0, run.stderr
    assert [path.read_bytes() for path in built] == before
    assert "note: BRK.B retired from shares: rebuilt without a run in the web UI" in run.stderr
    assert rows(run.stdout)["bars_1d"] == ["4"]


def test_aggregate_of_a_retired_symbol_writes_the_ledger(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("BRK.B, ", ""))
    catalog = Catalog(f"sqlite:///{own.parent}/catalog.sqlite")
    before = symbol_days_of(catalog, "shares")
    with catalog.begin() as connection:
        forget(connection, "shares")

    done = marketpipe("aggregate", "--config", own, "--symbols", "BRK.B", "--all")

    assert done.exit_code == 0, done.output
    facts = ["symbol", "session_date", "valid", "quarantined", "missing", "content_hash", "run_id", "fetched_at"]
    assert symbol_days_of(catalog, "shares").select(facts).equals(before.filter(symbol="BRK.B").select(facts))
    assert catalog.frame(sa.select(intents)).is_empty()


def test_aggregate_takes_the_last_stored_sessions(own: Path) -> None:
    run = process(own.parent, "aggregate", "--days", "1")

    assert run.returncode == 0, run.stderr
    assert "2024-01-03" in run.stderr
    assert "2024-01-02" not in run.stderr


def test_the_demo_fills_a_month_once(tmp_path: Path) -> None:
    configured(
        tmp_path,
        CONFIGURATION.replace("[AAPL, BRK.B, MSFT]", "[AAPL]")
        .replace("2024-01-02", "2024-01-16")
        .replace("run: 4", "run: 99"),
    )

    first = process(tmp_path, "demo")
    stored = json.loads(process(tmp_path, "status", "--json").stdout)["markets"]
    second = process(tmp_path, "demo")

    table = first.stdout[first.stdout.index("symbols ") :]
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert stored["shares"]["symbol_days"]["held"] == 12
    assert "nothing was fetched" in second.stdout
    assert "run 1" not in second.stderr
    assert second.stdout[second.stdout.index("symbols ") :] == table
