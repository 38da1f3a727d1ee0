from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from marketpipe_assets.cli.export import csv, json, write_whole
from marketpipe_assets.cli.outcome import UserError


def test_cells_a_spreadsheet_would_run_are_made_text() -> None:
    frame = pl.DataFrame({"cell": ["=1+1", "+x", "-x", "@x", "\tx", "-1.5", "+2e3", "x=1"]})

    assert csv(frame).decode().splitlines()[1:] == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "-1.5", "+2e3", "x=1"]


def test_lists_are_words_and_nothing_is_empty() -> None:
    frame = pl.DataFrame({"a": [1, 2], "rules": [["ohlc_logic", "=x"], None]})

    assert csv(frame).decode() == "a,rules\n1,ohlc_logic =x\n2,\n"


def test_times_are_iso_8601_and_no_number_is_null() -> None:
    frame = pl.DataFrame({"ts": [datetime(2024, 1, 2, 14, 30, tzinfo=UTC)], "vwap": [float("nan")]})

    assert json(frame).decode() == '{"count": 1, "results": [{"ts":"2024-01-02T14:30:00+00:00","vwap":null}]}\n'


def test_decimals_are_numbers() -> None:
    frame = pl.DataFrame(
        {"sum": [Decimal(3597040)], "none": [None], "part": [Decimal("1.25")]},
        schema={"sum": pl.Decimal(38, 0), "none": pl.Decimal(38, 0), "part": pl.Decimal(9, 2)},
    )

    assert json(frame).decode() == '{"count": 1, "results": [{"sum":3597040,"none":null,"part":1.25}]}\n'


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(b"old")

    write_whole(path, b"new")

    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("bars.csv", b"new")]


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a file in a folder that exists"):
        write_whole(tmp_path, b"x")


def test_a_column_that_csv_cannot_hold_is_named() -> None:
    with pytest.raises(UserError, match="expected columns that CSV can hold, was place of Struct"):
        csv(pl.DataFrame({"place": [{"row": 1}]}))
