"""`make bench` measures what it is asked to, and keeps the other figures."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from marketpipe_assets_tests.bench import reads
from marketpipe_assets_tests.bench.__main__ import TOPICS, asked, write
from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.entry import Entry


def test_every_topic_can_be_measured() -> None:
    assert all(callable(import_module(f"marketpipe_assets_tests.bench.{topic}").measured) for topic in TOPICS)


def test_all_topics_are_measured_where_none_is_named() -> None:
    assert asked([])[1] == list(TOPICS)
    assert asked(["reads", "--turns", "3"])[1] == ["reads"]


def test_a_topic_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        asked(["writes"])

    assert "expected topics of pipeline, backfill, validation, " in capsys.readouterr().err


def test_figures_of_other_topics_stay_in_the_results(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    write([Entry("a", 1, "ms", 1, "b"), Entry("c", 2, "ms", 1, "b")], results)

    write([Entry("c", 3, "ms", 1.5, "b")], results)

    assert json.loads(results.read_text()) == [
        {"name": "a", "value": 1, "unit": "ms", "ratio": 1},
        {"name": "c", "value": 3, "unit": "ms", "ratio": 1.5},
    ]


def test_both_ways_to_read_give_the_same_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "CASE", Case(symbol_count=4, session_count=101))
    monkeypatch.setattr(reads, "MANY", ["D000", "D001"])
    config = reads.prepared(tmp_path)

    for read in reads.reads(reads.CASE.dates):
        ours, theirs = reads.by_load_bars(read, config), reads.by_polars(read, config)

        assert ours.height == theirs.height > 0
        assert ours.equals(theirs.select(ours.columns))
