"""Compare the coverage of real vendor files with a folder's expected completeness, row by row.

Run it by hand: `python -m marketpipe_assets_tests.completeness FOLDER`. As with realdata.py the folder is not part of
this project. Exits 1 where a row that has a calendar differs.
"""

import csv
import sys
from datetime import date, time
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.coverage import coverage
from marketpipe_assets.bars.schema import VENDOR_COLUMNS, conform
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.providers.files import FilesProvider


class Place(NamedTuple):
    """How the files of one folder are read, and by which hours."""

    security: str
    market: str
    calendar: str
    timezone: str
    hours: tuple[time, time] | None = None


PLACES = {
    "equity/usa": Place("equity", "usa", "XNYS", "America/New_York", (time(4), time(20))),
    "equity/india": Place("equity", "india", "XNSE", "Asia/Kolkata", (time(9), time(16))),
    "index/usa": Place("index", "usa", "XNYS", "America/Chicago", (time(9, 30), time(17))),
    "crypto/coinbase": Place("crypto", "coinbase", "24/7", "UTC"),
    "cryptofuture/bybit": Place("cryptofuture", "bybit", "24/7", "UTC"),
    "future/eurex": Place("future", "eurex", "XEUR", "UTC", (time(0), time(23, 59))),
}
"""Folder below the data → how it is read."""

COMPARED = (
    "rows",
    "expected_minutes",
    "present_in_session",
    "missing",
    "outside_session",
    "duplicate_ts",
    "out_of_order",
    "n_gap_runs",
    "longest_gap_min",
    "first",
    "last",
    "missing_list",
)


def main(folder: Path) -> int:
    """Exit code: 1 where a row differs that was expected with a calendar."""
    differing = 0
    with (folder / "expected" / "completeness.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        found = measured(folder / "input" / "lean" / "Data", row)
        found["missing_list"] = " ".join(found["missing_list"].split()[: len(row["missing_list"].split())])  # cut there
        wrong = {name: (row[name], found[name]) for name in COMPARED if row[name] != found[name]}
        has_calendar = row["expected_minutes"] != "0"
        differing += bool(wrong) and has_calendar
        verdict = "equal" if not wrong else "differs" if has_calendar else "expected without a calendar"
        print(f"{row['file']} {row['symbol']} {row['date']}: {verdict} {wrong or ''}".rstrip())
    print(f"{len(rows) - differing} of {len(rows)} rows equal, or expected without a calendar")
    return int(differing > 0)


def measured(root: Path, row: dict[str, str]) -> dict[str, str]:
    """What the product finds in a row's file, as the row says it."""
    place = PLACES["/".join(Path(row["file"]).parts[2:4])]
    day = date.fromisoformat(row["date"])
    calendar = sessions(place.calendar, date(day.year, 1, 1), date(day.year + 1, 1, 1), place.hours)
    symbol = row["symbol"]
    if "#" in row["file"]:  # a member of the archive, whose name ends with its contract
        symbol += f".{row['file'].rsplit('_', 1)[1].removesuffix('.csv')}"
    provider = FilesProvider(format="lean", root=str(root), security=place.security, market=place.market)
    window = calendar.request([day])
    bars = calendar.assign(conform(provider.minute_bars([symbol], *window), VENDOR_COLUMNS))
    return _as_row(bars.filter(pl.col("session_date") == day), calendar, place, symbol, day)


def _as_row(bars: pl.DataFrame, calendar: Sessions, place: Place, symbol: str, day: date) -> dict[str, str]:
    found = coverage(bars, bars, calendar, [symbol], [day])
    days, holes = found.days.row(0, named=True), found.holes
    local = bars["ts"].dt.convert_time_zone(place.timezone)
    distinct = bars["ts"].n_unique()
    absent = holes.select(
        pl.datetime_ranges("start", pl.col("start") + pl.duration(minutes=pl.col("minutes") - 1), "1m")
        .explode()
        .dt.convert_time_zone(place.timezone)
        .dt.strftime("%H:%M")
    ).to_series()
    numbers = {
        "rows": bars.height,
        "expected_minutes": days["expected"],
        "present_in_session": days["received"],
        "missing": days["missing"],
        "outside_session": distinct - days["received"],
        "duplicate_ts": bars.height - distinct,
        "out_of_order": bars.filter(pl.col("ts") < pl.col("ts").shift()).height,
        "n_gap_runs": holes.height,
        "longest_gap_min": holes["minutes"].max() or 0,
    }
    clock = local.dt.strftime("%Y-%m-%d %H:%M:%S")
    texts = {
        "first": str(clock.min()),
        "last": str(clock.max()),
        "missing_list": " ".join(absent.to_list()),
    }
    return {**{name: str(number) for name, number in numbers.items()}, **texts}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
