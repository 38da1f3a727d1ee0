"""The command as a user runs it: a process of its own, or the same entry point in this one."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from marketpipe_assets.cli.app import app

CONFIGURATION = """\
config_version: 1
lake: ./lake
providers:
  shares: {type: synthetic, calendar: XNYS, asset_class: equity, seed: 3, faults: {negative_volume: 1}}
  coins: {type: synthetic, calendar: 24/7, asset_class: crypto, seed: 3}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: shares
    symbols: [AAPL, BRK.B, MSFT]
    start: 2024-01-02
    timeframes: [1h, 1d]
    max_symbol_days_per_run: 4
  coins:
    calendar: 24/7
    asset_class: crypto
    provider: coins
    symbols: [BTC-USD]
    start: 2024-01-02
    timeframes: [1h]
"""
"""Every share's session has one bar that breaks a rule."""


def configured(folder: Path, text: str = CONFIGURATION) -> Path:
    path = folder / "marketpipe.yaml"
    path.write_text(text)
    return path


def marketpipe(*args: object) -> Result:
    """The command in this process; with `--config` among its arguments it reads no other one."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def process(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in a folder, with nothing of ours in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MARKETPIPE", "DAGSTER"))}
    return subprocess.run(
        [sys.executable, "-c", "from marketpipe_assets.cli.app import app; app()", *map(str, args)],
        cwd=folder,
        env={**environment, "DAGSTER_DISABLE_TELEMETRY": "yes"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(output: str) -> dict[str, list[str]]:
    """First word of each line of a table → the words after it."""
    lines = (line.split() for line in output.splitlines())
    return {words[0]: words[1:] for words in lines if words}
