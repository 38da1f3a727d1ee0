"""Reports of validation open in a spreadsheet, and say what was broken, waived and repaired."""

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from marketpipe_assets.bars.amendments import Repair, Waiver
from marketpipe_assets.bars.audit import AUDIT_COLUMNS, audit
from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import RULES, RuleSet
from marketpipe_assets.reports import read_report, reports, write_reports
from marketpipe_assets_tests.bars.minutes import Bar, calendar_of, minute_bars

BAD: Bar = ("09:31", 10, 9, 9, 10, -1)
JUMP: Bar = ("09:32", 20, 20, 20, 20, 100)
GOOD: Bar = ("09:30", 10, 10.01, 9.99, 10, 100)


def rows(bars: pl.DataFrame, rule_set: RuleSet | None = None) -> pl.DataFrame:
    rules = rule_set or RuleSet("equity")
    return audit(bars, split_by_rules(bars, rules, calendar_of()), rules)


def test_a_row_for_each_rule_a_bar_broke_in_the_order_of_arrival() -> None:
    found = rows(minute_bars(GOOD, BAD, JUMP))

    assert found.columns[:3] == ["symbol", "ts_ns", "reason"]
    assert found["rule"].to_list() == ["ohlc_logic", "negative_volume", "price_jump"]
    assert found["severity"].to_list() == ["ERROR", "ERROR", "WARN"]
    assert found["ts"].to_list() == ["2024-01-02T14:31:00Z"] * 2 + ["2024-01-02T14:32:00Z"]
    assert found["ts_ns"][0] == datetime(2024, 1, 2, 14, 31, tzinfo=UTC).timestamp() * 1_000_000_000
    assert found["reason"][0] == RULES["ohlc_logic"].sentence
    assert found["detail"][0] == "open 10.0, high 9.0, low 9.0, close 10.0, volume -1.0"


def test_bars_of_several_symbols_that_came_apart_are_reported_together() -> None:
    parts = [minute_bars(GOOD, BAD, symbol=symbol) for symbol in ("ACME", "BOLT", "CORE")]

    assert rows(pl.concat(parts, rechunk=False))["symbol"].unique(maintain_order=True).to_list() == [
        "ACME",
        "BOLT",
        "CORE",
    ]


def test_good_bars_and_no_bars_have_no_rows_but_the_columns() -> None:
    for bars in (minute_bars(GOOD), minute_bars(GOOD).clear()):
        assert rows(bars).schema == pl.Schema(AUDIT_COLUMNS)
        assert rows(bars).is_empty()


def test_a_missing_number_is_called_missing() -> None:
    assert "high missing" in rows(minute_bars(("09:30", 10, None, 9, 10, 100)))["detail"][0]


def test_what_was_waived_or_repaired_says_why_and_by_whom() -> None:
    day = date(2024, 1, 2)
    waiver = Waiver("ACME", day, day, "price_jump", "takeover", "ana", date(2099, 1, 1))
    repair = Repair("ACME", datetime(2024, 1, 2, 14, 31, tzinfo=UTC), {"high": 11}, "a typing error", "bob")

    found = rows(minute_bars(GOOD, BAD, JUMP), RuleSet("equity", waivers=(waiver,), repairs=(repair,)))

    assert found["rule"].to_list() == ["negative_volume", "price_jump"]
    assert found["detail"][0].endswith("; still so when repaired: a typing error (bob)")
    assert found["detail"][1].endswith("; waived: takeover (ana)")


def test_a_report_for_each_symbol_lies_in_the_folder_of_its_run(tmp_path: Path) -> None:
    bars = pl.concat([minute_bars(GOOD, BAD, symbol="BTC/USD"), minute_bars(GOOD)])

    folder = write_reports(tmp_path, "run-1", rows(bars), ["BTC/USD", "ACME"])

    assert sorted(path.name for path in folder.iterdir()) == ["run-1_ACME.csv", "run-1_BTC%2FUSD.csv"]
    assert (folder / "run-1_ACME.csv").read_text() == "symbol,ts_ns,reason,rule,severity,detail,ts\n"
    assert [(each.run_id, each.symbol) for each in reports(tmp_path)] == [("run-1", "ACME"), ("run-1", "BTC/USD")]


def test_a_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = rows(minute_bars(GOOD, BAD, JUMP))

    folder = write_reports(tmp_path, "run-1", found, ["ACME"])

    assert read_report(folder / "run-1_ACME.csv").equals(found)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_take_for_a_formula_is_made_inert(tmp_path: Path, start: str) -> None:
    found = rows(minute_bars(GOOD, BAD)).with_columns(detail=pl.lit(f'{start}HYPERLINK("x")'))

    folder = write_reports(tmp_path, "run-1", found, ["ACME"])

    with (folder / "run-1_ACME.csv").open(newline="") as file:
        cells = [cell for row in list(csv.reader(file))[1:] for cell in row]
    assert f'\'{start}HYPERLINK("x")' in cells
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in cells)
    assert all(int(cell) for cell in cells if cell.startswith("-"))


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0"])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)

    with pytest.raises(ValueError, match="expected a report of validation"):
        read_report(path)
