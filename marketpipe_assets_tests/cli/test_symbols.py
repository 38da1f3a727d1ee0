"""`marketpipe symbols` and `marketpipe schedule generate`."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, marketpipe, rows


def test_symbols_are_configured_new_or_retired(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("[AAPL, BRK.B, MSFT]", "[AAPL, TSLA, MSFT]"))

    done = marketpipe("symbols", "--config", own, "--market", "shares", "--json")

    found = {each["symbol"]: each for each in json.loads(done.stdout)}
    assert {name: (each["state"], each["sessions"]) for name, each in found.items()} == {
        "AAPL": ("configured", 2),
        "MSFT": ("configured", 2),
        "TSLA": ("new", 0),
        "BRK.B": ("retired", 2),
    }
    assert (found["AAPL"]["first"], found["AAPL"]["last"]) == ("2024-01-02", "2024-01-03")
    assert found["AAPL"]["valid"] == 778  # one bar a day breaks a rule
    assert found["AAPL"]["expected"] > 400


def test_bars_of_a_retired_symbol_stay_readable(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("[AAPL, BRK.B, MSFT]", "[AAPL, MSFT]"))

    done = marketpipe("bars", "BRK.B", "--config", own, "--timeframe", "1d", "--format", "csv")

    assert done.exit_code == 0, done.output
    assert done.stdout.count("BRK.B") == 2


def test_symbols_of_every_market_are_counted(filled: Path) -> None:
    done = marketpipe("symbols", "--config", filled)

    assert done.exit_code == 0, done.output
    assert rows(done.stdout)["coins"][0] == "BTC-USD"
    assert "4 configured symbols" in done.stdout


def test_units_name_this_python_and_the_places_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my lake 100%"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", "/opt/my python 100%/python")

    done = marketpipe("schedule", "generate", "--config", configured(folder), "--output", tmp_path / "units")

    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == [
        "marketpipe-backfill.service",
        "marketpipe-backfill.timer",
        "marketpipe-daemon.service",
        "marketpipe-webserver.service",
        "marketpipe.cron",
    ]
    unit = configparser.RawConfigParser(strict=False)
    unit.read(tmp_path / "units" / "marketpipe-webserver.service")
    assert unit["Service"]["ExecStart"].startswith('"/opt/my python 100%%/dagster-webserver" -h 127.0.0.1 -p 3000')
    assert unit["Service"]["WorkingDirectory"] == f"{tmp_path}/my lake 100%%"


def test_line_of_cron_runs_as_the_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my lake"
    folder.mkdir()
    (tmp_path / "my python").symlink_to(Path(sys.executable).parent)
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/my python/python")
    printed = marketpipe("schedule", "generate", "--config", configured(folder)).stdout.splitlines()[-1]

    minute, hour, *_, command = printed.split(" ", 5)
    asked = command.replace("backfill --lookback 30", "version")
    run = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=False)

    assert (minute, hour) == ("30", "5")
    assert run.returncode == 0, run.stderr
    assert (folder / "backfill.log").read_text().startswith("marketpipe ")


def test_units_need_a_file_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = marketpipe("schedule", "generate")

    assert done.exit_code == 2
    assert "expected a marketpipe.yaml, was the packaged default" in done.stderr


@pytest.mark.parametrize("port", ["0", "99999999"])
def test_units_are_not_made_of_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    done = marketpipe("schedule", "generate", "--config", configured(tmp_path), "--port", port)

    assert done.exit_code == 2
    assert "Invalid value for '--port'" in done.stderr


def test_units_go_into_a_folder_that_exists_or_is_new_in_one(tmp_path: Path) -> None:
    done = marketpipe("schedule", "generate", "--config", configured(tmp_path), "--output", tmp_path / "no" / "units")

    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: --output: expected a folder that can be written, was {tmp_path}/no/units")
    assert not (tmp_path / "no").exists()
