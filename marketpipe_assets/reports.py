"""Reports of validation: a folder per run, a CSV file per symbol. They lie beside the lake, never in it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.audit import AUDIT_COLUMNS
from marketpipe_assets.lake.layout import folder_symbol, symbol_folder

STARTS_A_FORMULA = r"^[=+\-@\t\r]"  # of a cell, in spreadsheets; none of ours is a number


class Report(NamedTuple):
    """A report as it lies in the folder."""

    path: Path
    run_id: str
    symbol: str
    written_at: datetime


def write_reports(folder: Path, run_id: str, rows: pl.DataFrame, symbols: Sequence[str]) -> Path:
    """The run's folder, with a file for each symbol: its rows of `audit.AUDIT_COLUMNS`, the header alone for none.

    Cells that a spreadsheet would take for a formula begin with an apostrophe.
    """
    run_folder = folder / run_id
    run_folder.mkdir(parents=True, exist_ok=True)
    text = [name for name, dtype in AUDIT_COLUMNS.items() if dtype == pl.String()]
    inert = rows.with_columns(pl.col(text).str.replace(f"({STARTS_A_FORMULA})", "'$1"))
    parts = inert.with_columns(rows["symbol"].alias("of")).partition_by("of", as_dict=True, include_key=False)
    for symbol in symbols:
        path = run_folder / f"{run_id}_{symbol_folder(symbol).removeprefix('symbol=')}.csv"
        written = path.with_suffix(".writing")
        parts.get((symbol,), rows.clear()).write_csv(written)
        written.replace(path)
    return run_folder


def reports(folder: Path) -> Iterator[Report]:
    """Every report, the run written last first, by symbol within a run."""
    runs = sorted((each for each in folder.glob("*") if each.is_dir()), key=lambda run: run.stat().st_mtime)
    for run in reversed(runs):
        for path in sorted(run.glob(f"{run.name}_*.csv")):
            symbol = folder_symbol(f"symbol={path.stem.removeprefix(f'{run.name}_')}")
            yield Report(path, run.name, symbol, datetime.fromtimestamp(path.stat().st_mtime, UTC))


def read_report(path: Path) -> pl.DataFrame:
    """The rows of one report. Raises `ValueError` for a file that is none."""
    try:
        rows = pl.read_csv(path, schema=dict(AUDIT_COLUMNS))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"expected a report of validation, was {path}: {str(error).splitlines()[0]}") from error
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip()
    if header != ",".join(AUDIT_COLUMNS):
        raise ValueError(f"expected a report of validation with the columns {', '.join(AUDIT_COLUMNS)}, was {header!r}")
    return rows
