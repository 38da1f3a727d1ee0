"""`marketpipe coverage` over a lake that was ingested, and the ledger rebuilt from it."""

import json
from pathlib import Path

import polars as pl
import pytest

from marketpipe_assets.catalog.ledger import forget, symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets_tests.cli.command import configured, marketpipe, process

CONFIGURATION = """\
config_version: 1
providers:
  shares: {type: synthetic, asset_class: equity, seed: 3, faults: {missing_minutes: 2, negative_volume: 1}}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: shares
    symbols: [AAPL, BRK.B, MSFT]
    start: 2024-01-02
    timeframes: [1d]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coverage")
    configured(folder, CONFIGURATION)
    result = marketpipe("ingest", "-c", folder / "marketpipe.yaml", "--start", "2024-01-02", "--end", "2024-01-11")
    assert result.exit_code == 0, result.output
    return folder


def ledger(folder: Path) -> pl.DataFrame:
    return symbol_days_of(Catalog(f"sqlite:///{folder}/catalog.sqlite"), "shares")


def shown(folder: Path, *args: str) -> list[dict[str, object]]:
    result = marketpipe("coverage", "-c", folder / "marketpipe.yaml", *args, "--format", "json")
    assert result.exit_code == 0, result.output
    rows: list[dict[str, object]] = json.loads(result.stdout)["results"]
    return rows


def test_symbols_are_listed_with_the_minutes_they_lack(folder: Path) -> None:
    rows = {row["symbol"]: row for row in shown(folder)}

    held = ledger(folder).group_by("symbol").agg(pl.sum("valid", "expected", "missing"))
    assert {(symbol, row["valid"], row["expected"], row["missing"]) for symbol, row in rows.items()} == set(held.rows())


@pytest.mark.parametrize(("by", "count"), [("symbol", 3), ("session", 7), ("day", 21)])
def test_rows_are_by_what_was_asked(folder: Path, by: str, count: int) -> None:
    assert len(shown(folder, "--by", by)) == count


def test_reasons_add_up_to_what_is_not_valid(folder: Path) -> None:
    held = ledger(folder)

    minutes = {row["reason"]: row["minutes"] for row in shown(folder, "--by", "reason")}

    assert sum(minutes.values()) == (held["expected"] - held["valid"]).sum()  # type: ignore[arg-type]  # numbers
    assert minutes["quarantined"] == held["quarantined"].sum()


def test_where_there_is_no_hole_that_is_said(tmp_path: Path) -> None:
    configured(tmp_path, CONFIGURATION.replace(", faults: {missing_minutes: 2, negative_volume: 1}", ""))
    done = process(tmp_path, "ingest", "--start", "2024-01-02", "--end", "2024-01-03")
    assert done.returncode == 0, done.stderr

    for by in ("hole", "reason"):
        result = marketpipe("coverage", "-c", tmp_path / "marketpipe.yaml", "--by", by)

        assert (result.exit_code, result.stdout) == (0, "")
        assert "no hole in 3 symbol-days" in result.stderr


def test_holes_are_ranges_longest_first(folder: Path) -> None:
    lengths = [row["minutes"] for row in shown(folder, "--by", "hole")]

    assert lengths == sorted(lengths, reverse=True)  # type: ignore[type-var]  # numbers


def test_a_range_and_symbols_limit_the_rows(folder: Path) -> None:
    rows = shown(folder, "--by", "day", "-s", "AAPL", "--start", "2024-01-03", "--end", "2024-01-05")

    assert sorted(str(row["session_date"]) for row in rows) == ["2024-01-03", "2024-01-04"]


def test_a_ledger_rebuilt_from_the_lake_is_the_one_that_runs_wrote(folder: Path) -> None:
    written = ledger(folder)
    with Catalog(f"sqlite:///{folder}/catalog.sqlite").begin() as connection:
        forget(connection, "shares")

    result = marketpipe("coverage", "rebuild", "-c", folder / "marketpipe.yaml")

    assert result.stdout == "shares: 21 symbol-days read from the lake\n"
    assert ledger(folder).equals(written)


def test_an_empty_ledger_says_how_to_fill_it(tmp_path: Path) -> None:
    result = marketpipe("coverage", "-c", configured(tmp_path, CONFIGURATION))

    assert result.exit_code == 2
    assert "expected symbol-days of shares in the ledger, was none" in result.stderr


def test_a_catalogue_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    path = configured(tmp_path, CONFIGURATION)
    (tmp_path / "catalog.sqlite").write_text("this is no database, but a text of some length")

    result = marketpipe("coverage", "-c", path)

    assert result.exit_code == 1
    assert result.stderr == "error: the catalogue cannot be used: file is not a database\n"


def test_a_file_is_of_the_format_its_name_says(folder: Path, tmp_path: Path) -> None:
    asked = ("coverage", "-c", folder / "marketpipe.yaml", "--output")

    done = [marketpipe(*asked, tmp_path / f"symbols.{suffix}") for suffix in ("csv", "json", "parquet", "txt")]
    table = marketpipe(*asked, tmp_path / "symbols.txt", "--format", "table")

    assert [each.exit_code for each in done] == [0, 0, 0, 2]
    assert "expected a name that ends in .csv, .json, .parquet, or --format" in done[3].stderr
    assert (tmp_path / "symbols.csv").read_text().startswith("symbol,days,covered,")
    assert json.loads((tmp_path / "symbols.json").read_text())["count"] == 3
    assert pl.read_parquet(tmp_path / "symbols.parquet").height == 3
    assert table.stderr == f"note: 3 rows written to {tmp_path}/symbols.txt\n"
    assert (tmp_path / "symbols.txt").read_text().startswith("symbol  days")
