"""Refuse a file that does not hold the minutes its name promises: another cadence, another date, another unit."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.reader import DatedFile

_MINUTE_US = 60_000_000
_CHANCE = 1e6
_OFF_GRID = 0.25

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Unit of an integer time → nanoseconds."""


def check_cadence(bars: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise `BadFile` for a file whose bars are finer or coarser than a minute. Columns used: file, symbol, ts.

    Finer: more than a quarter of its times are off the minute (a stray one is left to the rules). Coarser: all times
    of a symbol are a multiple of g minutes apart, and so many that traded minutes would do so once in a million
    times: 1/g for each spacing. An illiquid symbol whose few trades happen to be 5 minutes apart passes.
    """
    times = bars.select("file", "symbol", us=pl.col("ts").dt.epoch("us")).with_columns(
        off=pl.col("us") % _MINUTE_US != 0
    )
    for file, share in (
        times.group_by("file").agg(pl.col("off").mean()).filter(pl.col("off") > _OFF_GRID).sort("file").iter_rows()
    ):
        raise BadFile(f"{names[file]}: expected times on whole minutes, {share:.0%} of its rows are not")
    minutes = times.filter(~pl.col("off")).select("file", "symbol", minute=pl.col("us") // _MINUTE_US)
    for file, step in _steps(minutes):
        raise BadFile(f"{names[file]}: expected bars of 1 minute, all its times are {step} minutes or a multiple apart")


def _steps(minutes: pl.DataFrame) -> list[tuple[int, int]]:
    if not minutes.height:
        return []
    ordered = minutes.with_columns(pl.col("minute") - pl.col("minute").first().over("file", "symbol"))
    by_file = ordered.sort("file", maintain_order=True)
    files = by_file["file"].to_numpy()
    starts = np.flatnonzero(np.r_[True, files[1:] != files[:-1]])
    steps = np.gcd.reduceat(np.abs(by_file["minute"].to_numpy()), starts)
    distinct = by_file.group_by("file", maintain_order=True).agg(pl.col("minute").n_unique())["minute"].to_numpy()
    likely = (steps > 1) & ((distinct - 1) * np.log(np.maximum(steps, 1)) > math.log(_CHANCE))
    return [(int(file), int(step)) for file, step in zip(files[starts][likely], steps[likely], strict=True)]


def check_dates(bars: pl.DataFrame, files: Sequence[DatedFile], zone: str) -> None:
    """Raise `BadFile` for a file with bars of another date of the zone than its name states.

    Columns used: file, ts, and `label`, the time as the file writes it, which of a bar labelled by its end may
    already be the next day's.
    """
    local = (pl.col("label").min(), pl.col("ts").max())
    spans = bars.group_by("file").agg(time.dt.convert_time_zone(zone).dt.date() for time in local).sort("file")
    for file, first, last in spans.iter_rows():
        dated = files[file]
        wrong = next((day for day in (first, last) if day.strftime(dated.pattern) != dated.stamp), None)
        if wrong is not None:
            raise BadFile(f"{dated.path}: expected bars of {dated.stamp} ({zone}), it has some of {wrong}")


def check_unit(times: pl.DataFrame, names: Sequence[str], column: str, unit: str) -> None:
    """Raise `BadFile` where integer times cannot be of this unit: they would lie before 1973 or after 5138."""
    low, high = 10**17 // UNITS[unit], 10**20 // UNITS[unit]
    wrong = times.filter(~pl.col(column).is_between(low, min(high, 2**63 - 1), closed="left")).head(1)
    if wrong.height:
        row = wrong.row(0, named=True)
        raise BadFile(f"{names[row['file']]}: expected times in {unit} since 1970, was {row[column]}")
