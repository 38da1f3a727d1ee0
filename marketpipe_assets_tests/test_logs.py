"""What is said in runs, sensors, the exporter and the command has one format, and no secret in it."""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import dagster as dg
import pytest

from marketpipe_assets import definitions
from marketpipe_assets.logs import Formatter, use_in_dagster
from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, process

JSON = "log: {format: json}\n"


def said(formatter: Formatter, message: str, **context: str) -> str:
    logger, out = logging.getLogger("test"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.warning(message, extra=context, exc_info=sys.exc_info()[0] is not None)
    return out.getvalue().strip()


def lines_of(stderr: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def test_json_has_the_keys_of_dagsters_own_and_what_the_message_is_about() -> None:
    line = json.loads(said(Formatter("json", providers={"shares": "alpaca"}), "late", market="shares", symbol="ACME"))

    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "event": "late",
        "level": "warning",
        "logger": "test",
        "market": "shares",
        "symbol": "ACME",
        "provider": "alpaca",
    }


def test_for_people_it_is_words_with_what_they_are_about_at_the_end() -> None:
    line = said(Formatter("console"), "late", market="shares", run_id="7f")

    assert line.endswith(" WARNING late market=shares run_id=7f")


@pytest.mark.parametrize("style", ["json", "console"])
def test_secrets_are_masked_in_the_message_and_in_what_it_is_about(style: str) -> None:
    formatter = Formatter(style, ["canary-7f"])  # type: ignore[arg-type]  # both of them

    line = said(formatter, "asked with canary-7f&token=abc", symbol="canary-7f")

    assert "canary" not in line
    assert "abc" not in line
    assert line.count("***") == 3


def test_an_error_is_one_line_of_json_with_its_traceback() -> None:
    try:
        int("two")
    except ValueError:
        (line,) = said(Formatter("json"), "broken").splitlines()

    assert "ValueError: invalid literal" in json.loads(line)["event"]


def test_a_sensor_speaks_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLoggerClass()
    use_in_dagster(Formatter("json"), "INFO")
    try:
        with dg.build_sensor_context() as context:
            context.log.info("2 gaps", extra={"market": "shares"})
    finally:
        logging.setLoggerClass(before)

    (line,) = lines_of(capsys.readouterr().err)
    assert (line["event"], line["market"], line["level"]) == ("2 gaps", "shares", "info")


def test_a_tick_of_the_daemon_speaks_the_same_format() -> None:
    told = {"orig_message": "2 gaps", "name": "shares_heal_gaps", "repository_name": "__repository__"}
    record = logging.makeLogRecord(
        {"name": "dagster", "levelno": logging.INFO, "levelname": "INFO", "msg": "long", "dagster_meta": told}
    )

    assert json.loads(Formatter("json").format(record))["event"] == "2 gaps"


def test_the_command_says_errors_and_notes_as_json_where_it_is_asked_to(tmp_path: Path) -> None:
    path = configured(tmp_path, CONFIGURATION + JSON)

    result = process(tmp_path, "validate", "--market", "shares", "--config", path)

    assert result.returncode == 2
    (line,) = lines_of(result.stderr)
    assert (line["level"], line["logger"]) == ("error", "marketpipe")
    assert line["event"].startswith("expected stored bars of shares, was none")


@pytest.fixture(scope="module")
def materialized(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What a run said that Dagster's own command started, whose log nobody configured."""
    folder = tmp_path_factory.mktemp("run")
    configured(folder, CONFIGURATION + "log: {format: json, level: DEBUG}\n")
    home = folder / ".dagster"
    home.mkdir()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "marketpipe_assets.definitions"),
            *("--select", 'key:"shares/raw_bars_1m"', "--partition", "2024-01-02|AAPL"),
        ],
        cwd=folder,
        env={**os.environ, "DAGSTER_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return lines_of(run.stderr)


def test_dagster_materializes_by_the_packaged_instance_where_there_is_no_home(tmp_path: Path) -> None:
    configured(tmp_path, CONFIGURATION)
    shutil.copy(Path(definitions.__file__).with_name("dagster.yaml"), tmp_path / "dagster.yaml")
    before = {*Path(gettempdir()).glob("marketpipe-events-*")}

    run = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "marketpipe_assets.definitions"),
            *("--select", 'key:"shares/*"', "--partition", "2024-01-02|AAPL"),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert list(tmp_path.glob("lake/shares/bars_1d/symbol=AAPL/*.parquet"))
    assert {*Path(gettempdir()).glob("marketpipe-events-*")} <= before


def test_a_run_says_which_market_symbol_session_and_provider_it_is_about(materialized: list[dict[str, str]]) -> None:
    (step,) = [line for line in materialized if line["event"].startswith("Started execution of step")]

    assert {key: step[key] for key in ("market", "symbol", "session", "provider", "step")} == {
        "market": "shares",
        "symbol": "AAPL",
        "session": "2024-01-02",
        "provider": "shares",
        "step": "shares__raw_bars_1m",
    }


def test_a_step_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def broken() -> None:
        raise ValueError("expected one, was two")

    @dg.job
    def job() -> None:
        broken()

    before = logging.getLoggerClass()
    use_in_dagster(Formatter("json"), "INFO")
    try:
        job.execute_in_process(raise_on_error=False)
    finally:
        logging.setLoggerClass(before)

    assert [line for line in lines_of(capsys.readouterr().err) if "ValueError: expected one, was two" in line["event"]]


def test_every_line_of_a_run_names_it(materialized: list[dict[str, str]]) -> None:
    of_run = [line for line in materialized if "job" in line]

    assert len(of_run) > 5
    assert len({line["run_id"] for line in of_run}) == 1
