"""Remove bars that are older than they are to be kept: whole files, and the old part of the file in which the age ends.

Dates come from where a file lies below the lake and from `session_date`, never from the folders above.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from marketpipe_assets.bars.schema import MINUTE_TABLES, QUARANTINED, RAW, VALID
from marketpipe_assets.lake.facts import facts_in, facts_metadata
from marketpipe_assets.lake.layout import PERIOD_FILE, BarFile, locks_of
from marketpipe_assets.lake.parquet import (
    alone,
    encoded_size,
    frame_of,
    locked,
    metadata,
    read_file,
    replace_file,
    table_of,
)
from marketpipe_assets.lake.scan import held

Keeps = Callable[[str, date], bool]
"""Whether a symbol's bars of a date are kept whatever their age."""


class Policy(NamedTuple):
    """`kept_from`: table → the first session date that is kept; a table without one keeps everything."""

    kept_from: Mapping[str, date]
    keeps: Keeps = lambda _symbol, _day: False


class Cut(NamedTuple):
    """What goes of one file: `rows` of these dates, `bytes` of the disk; None stays of it where it is `whole`.

    Dates without a bar that a raw file tells were fetched go as well.
    """

    file: BarFile
    dates: Sequence[date]
    rows: int
    bytes: int
    whole: bool


class Kept(NamedTuple):
    """Minutes that are old enough and stay: a table that is kept longer has no bar of them yet."""

    symbol: str
    dates: Sequence[date]
    table: str


class Plan(NamedTuple):
    """What pruning removes, in order of table, symbol and period, and what it leaves for a table kept longer."""

    cuts: Sequence[Cut]
    kept: Sequence[Kept]


def plan(lake: Path, market: str, policy: Policy, longer: Sequence[str]) -> Plan:
    """What there is to remove of a market, symbols that were retired included. Changes nothing. Raises `DamagedFile`.

    `longer` are the market's tables of longer bars. A day's minutes stay, in every minute table, until each of them
    that keeps the day has a bar of it.
    """
    needed: dict[tuple[str, date], str] = {}
    cuts: list[Cut] = []
    stored = held(lake, market)
    minutes = [table for table in MINUTE_TABLES if table in policy.kept_from]
    for symbol in sorted({*stored.get(RAW, ()), *stored.get(VALID, ())}) if minutes else ():
        before = max(policy.kept_from[table] for table in minutes)
        needed |= {(symbol, day): table for day, table in _unbuilt(lake, market, symbol, before, policy, longer)}
    for table in sorted(policy.kept_from.keys() & stored.keys()):
        spared = needed if table in MINUTE_TABLES else {}
        for symbol in stored[table]:
            goes = _goes(policy, table, symbol, spared)
            files = _files(lake, market, table, symbol)
            cuts += [cut for file in files if (cut := _cut(lake, file, policy.kept_from[table], goes)) is not None]
    return Plan(cuts, _kept(needed))


def execute(lake: Path, cut: Cut) -> Cut:
    """Remove what a plan says of one file, under its lock, and give what was removed.

    Bars that came into the file since then and are not of the cut's dates stay. Raises `LakeError`, `DamagedFile`.
    """
    path = cut.file.below(lake)
    with locked([path], locks_of(lake)):
        bars = read_file(path)
        if bars is None:
            return cut._replace(rows=0, bytes=0, whole=True)
        size = path.stat().st_size
        kept = _remaining(cut.file, bars, frozenset(cut.dates))
        if kept is None:
            path.unlink()
            return cut._replace(rows=bars.num_rows, bytes=size, whole=True)
        written = replace_file(path, kept)
        return cut._replace(rows=bars.num_rows - kept.num_rows, bytes=size - written, whole=False)


def remove_empty_folders(lake: Path, market: str, tables: Iterable[str]) -> None:
    """Remove folders of symbols and tables that hold no file, while nobody writes."""
    with alone(locks_of(lake)):
        for table in tables:
            folder = lake / market / table
            for each in [*folder.glob("symbol=*"), folder]:
                if each.is_dir() and not any(each.iterdir()):
                    each.rmdir()


def _files(lake: Path, market: str, table: str, symbol: str) -> list[BarFile]:
    folder = BarFile(market, table, symbol, "0000").below(lake).parent
    names = (
        sorted(path.name for path in folder.iterdir() if PERIOD_FILE.fullmatch(path.name)) if folder.is_dir() else []
    )
    return [BarFile(market, table, symbol, name.removesuffix(".parquet")) for name in names]


def _goes(policy: Policy, table: str, symbol: str, spared: Mapping[tuple[str, date], str]) -> Callable[[date], bool]:
    first = policy.kept_from[table]
    return lambda day: day < first and not policy.keeps(symbol, day) and (symbol, day) not in spared


def _cut(lake: Path, file: BarFile, first: date, goes: Callable[[date], bool]) -> Cut | None:
    if _first_day(file.period) >= first:
        return None
    path = file.below(lake)
    bars = read_file(path)
    if bars is None:
        return None
    dates = sorted(day for day in _dates(bars) if goes(day))
    if not dates:
        return None
    size = path.stat().st_size
    kept = _remaining(file, bars, frozenset(dates))
    if kept is None:
        return Cut(file, dates, bars.num_rows, size, whole=True)
    return Cut(file, dates, bars.num_rows - kept.num_rows, size - encoded_size(kept), whole=False)


def _first_day(period: str) -> date:
    year, _, month = period.partition("-")
    return date(int(year), int(month or 1), 1)


def _dates(bars: pa.Table) -> set[date]:
    """Of bars, and of sessions a raw file says were fetched and had none."""
    return {*bars["session_date"].unique().to_pylist(), *facts_in(bars.schema.metadata)}


def _remaining(file: BarFile, bars: pa.Table, dates: frozenset[date]) -> pa.Table | None:
    """The file without these dates; None where nothing is left."""
    facts = {day: since for day, since in facts_in(bars.schema.metadata).items() if day not in dates}
    kept = frame_of(bars).filter(~pl.col("session_date").is_in(list(dates)))
    if kept.is_empty() and not facts:
        return None
    said = {**metadata(file.market, file.table, file.symbol), **facts_metadata(facts)}
    return table_of(kept).replace_schema_metadata(said)


def _unbuilt(
    lake: Path, market: str, symbol: str, before: date, policy: Policy, longer: Sequence[str]
) -> Iterator[tuple[date, str]]:
    """Dates with valid regular minutes, or raw ones that were not judged, of which a table that keeps them has no bar
    yet.
    """

    def days(table: str, days_in: Callable[[Path, BarFile], set[date]] = _days_of) -> set[date]:
        files = [file for file in _files(lake, market, table, symbol) if _first_day(file.period) < before]
        return {day for file in files for day in days_in(lake, file) if day < before}

    valid = days(VALID)
    minutes = days(VALID, _regular_dates) | (days(RAW) - valid - days(QUARANTINED))
    built = {VALID: valid, **{table: days(table) for table in longer}} if minutes else {}
    for table, there in built.items():
        yield from ((day, table) for day in minutes - there if day >= policy.kept_from.get(table, date.min))


def _regular_dates(lake: Path, file: BarFile) -> set[date]:
    bars = read_file(file.below(lake), ["session_date", "session"])
    if bars is None:
        return set()
    regular = frame_of(bars).filter(pl.col("session").cast(pl.String) == "regular")
    return set(regular["session_date"].unique())


def _days_of(lake: Path, file: BarFile) -> set[date]:
    bars = read_file(file.below(lake), ["session_date"])
    return set() if bars is None else set(bars["session_date"].unique().to_pylist())


def _kept(needed: Mapping[tuple[str, date], str]) -> list[Kept]:
    together: dict[tuple[str, str], list[date]] = {}
    for (symbol, day), table in sorted(needed.items()):
        together.setdefault((symbol, table), []).append(day)
    return [Kept(symbol, days, table) for (symbol, table), days in together.items()]


def through(cut: Cut) -> date:
    """The last date that a cut removes."""
    return max(cut.dates)
