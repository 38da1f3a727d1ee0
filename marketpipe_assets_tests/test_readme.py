"""What the README says to type works as it stands there."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from marketpipe_assets.config import load_config
from marketpipe_assets.providers import create

README = (Path(__file__).parents[1] / "README.md").read_text()
MAKEFILE = Path(__file__).parents[1] / "Makefile"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}", "DAGSTER_HOME": ""}
    del environment["DAGSTER_HOME"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_commands_and_the_notebook_run_one_after_another(tmp_path: Path) -> None:
    commands = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(commands) >= 9

    for command in commands:
        done = run(shlex.split(command), tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    notebook = next(block for block in blocks("python") if "load_bars" in block)
    done = run([sys.executable, "-c", notebook + "\nassert hours.height == 42 and weeks.height == 1"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "aapl.csv").stat().st_size > 0


def test_the_web_ui_is_not_begun_beside_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        installed = f"{sys.prefix}/.runtime"
        command = ["make", "--file", str(MAKEFILE), "--old-file", installed, "ui", f"VENV={sys.prefix}", f"PORT={port}"]
        done = run(command, tmp_path)

    assert done.returncode == 2
    assert f"error: expected port {port} to be free, was taken" in done.stderr


@pytest.mark.parametrize("sample", blocks("yaml"))
def test_sample_configuration_loads_and_its_providers_take_their_settings(tmp_path: Path, sample: str) -> None:
    written = tmp_path / "marketpipe.yaml"
    written.write_text(sample)

    config = load_config(written)

    for name, settings in config.providers.items():
        provider = create(name, settings.type, settings.options)
        assert getattr(provider, "root", str(tmp_path)).startswith(str(tmp_path))


def test_schedule_recipe_asks_for_the_session_and_skips_other_days(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    import dagster as dg

    from marketpipe_assets.defs.market import market_definitions
    from marketpipe_assets.defs.partitions import Grid

    recipe = next(block for block in blocks("python") if "evening" in block)
    names: dict[str, object] = {}
    exec(recipe, names)
    written = tmp_path / "marketpipe.yaml"
    written.write_text(blocks("yaml")[0])
    grid = Grid(load_config(written).markets["us_equities"])
    schedule = names["evening"](grid)  # type: ignore[operator]  # a function of the README
    added = dg.Definitions(schedules=[schedule], resources=dict.fromkeys(("lean", "lake", "catalog", "reports")))

    loaded = dg.Definitions.merge(market_definitions(grid), added)
    assert loaded.resolve_schedule_def("us_equities_evening").job_name == "us_equities_ingest"

    def at(day: int) -> object:
        return schedule(dg.build_schedule_context(scheduled_execution_time=datetime(2024, 1, day, 20, 30, tzinfo=UTC)))

    assert at(12).tags["dagster/asset_partition_range_start"] == "2024-01-12|BAC"  # type: ignore[attr-defined]  # a RunRequest
    assert at(15).skip_message == "2024-01-15 is not a session"  # type: ignore[attr-defined]  # a SkipReason


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^    )make (\w+)", README, re.MULTILINE))))
def test_make_targets_named_exist(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE.read_text(), re.MULTILINE)


def test_pictures_are_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parents[1] / picture).stat().st_size > 10_000
