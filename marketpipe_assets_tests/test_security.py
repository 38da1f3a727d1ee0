"""Promises of security that no other test keeps.

Locked SQL is in test_query; secrets are in test_http, test_config, test_logs and test_deployment; symbols are in
test_layout; archives in test_formats and test_files; hosts in test_http; spreadsheets in test_export and test_reports.
"""

import pickletools
import subprocess
from pathlib import Path

import pytest
import yaml

from marketpipe_assets_tests.cli.command import configured, process

ROOT = Path(__file__).parents[1]
INSTANCES = sorted((ROOT / "marketpipe_assets").glob("dagster*.yaml"))
DATA = {".csv", ".parquet", ".zip", ".gz", ".dbn", ".zst", ".sqlite", ".db", ".jsonl", ".h5", ".feather"}


def is_pickle(path: Path) -> bool:
    """Whether a file is a program of Python's pickle machine from beginning to end."""
    try:
        return sum(1 for _ in pickletools.genops(path.read_bytes())) > 0
    except Exception:  # noqa: BLE001  # whatever it stumbles over is no pickle
        return False


def test_a_run_writes_no_pickle(tmp_path: Path) -> None:
    path = configured(tmp_path)

    run = process(tmp_path, "ingest", "--symbols", "AAPL", "--start", "2024-01-02", "--end", "2024-01-03", "-c", path)

    assert run.returncode == 0, run.stderr
    written = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert len(written) > 10
    assert [each for each in written if is_pickle(each)] == []


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda path: path.name)
def test_no_instance_tells_anyone_what_it_does(instance: Path) -> None:
    assert yaml.safe_load(instance.read_text())["telemetry"] == {"enabled": False}


def test_no_data_of_vendors_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a clone: what is committed is asked of git")

    assert [file for file in listed.stdout.splitlines() if Path(file).suffix in DATA] == []


def test_the_web_ui_of_make_is_on_loopback() -> None:
    assert "--host 127.0.0.1" in (ROOT / "Makefile").read_text().split("\nui:")[1].split("\n\n")[0]
