from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import marketpipe, rows
from marketpipe_assets_tests.metrics.ledger import ask, catalog_of, commit, configured, spend


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A configuration whose catalogue has two runs of this minute."""
    catalog = catalog_of(configured(tmp_path))
    for run, count in (("a", 400), ("b", 200)):
        commit(catalog, run, "ingest", ("given", "iex", "rows", count))
        spend(catalog, run, "ingest", 2.0)
        ask(catalog, run)
    return tmp_path / "marketpipe.yaml"


def test_every_metric_is_listed_with_its_labels_and_meaning(own: Path) -> None:
    found = rows(marketpipe("metrics", "--list", "--config", own).stdout)

    assert found["mp_ingest_rows_total"] == ["provider,", "feed", "yes", "Raw", "bars", "that", "were", "stored."]
    assert "yes" not in found["mp_backlog_jobs"]


def test_what_each_run_added_is_told_with_its_labels(own: Path) -> None:
    result = marketpipe("metrics", "--metric", "mp_ingest_rows_total", "--config", own)

    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[-4:] for line in lines if "given" in line] == [
        ["shares", "given", "iex", "400"],
        ["shares", "given", "iex", "200"],
    ]


def test_mean_over_a_window_is_by_labels(own: Path) -> None:
    result = marketpipe("metrics", "--metric", "mp_ingest_rows_total", "--avg", "365d", "--config", own)

    (line,) = [line.split() for line in result.stdout.splitlines() if "given" in line]
    assert line[-1] == "300"


def test_bars_are_as_long_as_their_values(own: Path) -> None:
    result = marketpipe("metrics", "--metric", "mp_ingest_rows_total", "--plot", "--config", own)

    lengths = [line.count("█") for line in result.stdout.splitlines() if "given" in line]
    assert lengths == [60, 30]


@pytest.mark.parametrize("metric", ["mp_requests_total", "mp_processing_time_seconds"])
def test_other_histories_are_told_too(own: Path, metric: str) -> None:
    result = marketpipe("metrics", "--metric", metric, "--config", own)

    assert result.exit_code == 0
    assert len([line for line in result.stdout.splitlines() if "given" in line]) == 2


def test_runs_before_since_are_left_out(own: Path) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"

    result = marketpipe("metrics", "--metric", "mp_ingest_rows_total", "--since", tomorrow, "--config", own)

    assert result.exit_code == 0
    assert f"no run added to mp_ingest_rows_total since {tomorrow}" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "mp_nothing"], "--metric: expected one of mp_ingest_rows_total,"),
        (["--metric", "mp_ingest_rows_total", "--since", "soon"], "--since: expected 30m, 12h, 7d or a date"),
        (["--metric", "mp_ingest_rows_total", "--since", "9999-12-31T23:59-05:00"], "--since: expected 30m, 12h, 7d"),
        (["--metric", "mp_ingest_rows_total", "--avg", "0h"], "--avg: expected a time such as 30m, 12h or 7d"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_line(own: Path, options: list[str], said: str) -> None:
    result = marketpipe("metrics", *options, "--config", own)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("option", "value"), [("--since", "99999999d"), ("--avg", "99999999999d")])
def test_ages_beyond_all_time_are_refused_in_a_line(own: Path, option: str, value: str) -> None:
    result = marketpipe("metrics", "--metric", "mp_ingest_rows_total", option, value, "--config", own)

    assert result.exit_code == 2
    assert result.stderr == f"error: {option}: expected a time such as 30m, 12h or 7d, was '{value}'\n"


@pytest.mark.parametrize("options", [["--avg", "1d"], ["--plot"], ["--since", "1d"], ["--since", "1d", "--port", "1"]])
def test_options_of_a_history_need_a_metric(own: Path, options: list[str]) -> None:
    result = marketpipe("metrics", *options, "--config", own)

    assert result.exit_code == 2
    assert result.stderr == f"error: expected --metric with {options[0]}, was none\n"


def test_a_home_that_is_no_folder_is_one_line(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/nonexistent")

    result = marketpipe("metrics", "--port", "18999", "--config", own)

    assert result.exit_code == 2
    assert result.stderr.endswith("expected DAGSTER_HOME to be a folder with its whole path, was /nonexistent\n")
    assert result.stderr.count("\n") == 1
