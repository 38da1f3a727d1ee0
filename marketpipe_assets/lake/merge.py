"""Put the bars of some symbols and sessions into their files, beside what those files hold of other sessions."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe_assets.bars.clock import days_of
from marketpipe_assets.bars.content import changed_days
from marketpipe_assets.bars.order import first_rows, ordered
from marketpipe_assets.bars.schema import FETCHED, RAW, columns_of, conform, empty
from marketpipe_assets.lake.facts import Fetch, Since, facts_in, facts_metadata
from marketpipe_assets.lake.layout import BarFile, locks_of, period_of
from marketpipe_assets.lake.parquet import Replace, frame_of, locked, metadata, read_file, replacing, sweep, table_of
from marketpipe_assets.lake.scan import planned_files
from marketpipe_assets.lake.shrink import Shrunk, shrunk_days
from marketpipe_assets.lake.superseded import Restatement, Version, supersede


class Written(NamedTuple):
    """What a write changed. Files whose bars were equal already are not rewritten.

    `shrunk` are symbol-days of which fewer minutes were fetched than were stored, kept or not.
    """

    files: int
    unchanged: int
    bytes: int
    restated: tuple[Restatement, ...] = ()
    shrunk: tuple[Shrunk, ...] = ()


class _Part(NamedTuple):
    """The bars of one file, ordered as they are stored, and the dates they are of."""

    bars: pa.Table
    days: frozenset[date]


class _Merged(NamedTuple):
    """What became of a file: `bytes` is None where it holds these bars already."""

    bytes: int | None = None
    restated: Sequence[Restatement] = ()
    shrunk: Sequence[Shrunk] = ()


def write_bars(  # noqa: PLR0913, PLR0917  # whose bars, which, whence, and what stays
    lake: Path,
    market: str,
    table: str,
    bars: pl.DataFrame,
    symbols: Sequence[str],
    dates: Sequence[date],
    fetch: Fetch | None = None,
    spared: Mapping[str, Collection[date]] = MappingProxyType({}),
) -> Written:
    """Make `bars` all that the table holds of these symbols on these dates; other dates keep theirs.

    `spared` dates of a symbol count as other dates. `bars` has the table's columns and only these symbols and dates.
    Raw bars keep their order within a session; every other table is stored sorted by `ts`. Each file is replaced whole
    under its lock, so that two runs on different days of one month lose nothing; so many are flushed together
    (`TOGETHER`), and take their places then.

    `fetch` is where raw bars come from: their file then says of each date since when its content stands, and is there
    even where the provider had none; a day's earlier bars that differ go to `superseded_bars_1m`. Of a day that lacks
    its last minute and was fetched before its publication, the file also says once that it was given again after it.
    Raw bars that are changed without a fetch are of unknown origin, and what they replace is gone. Whether a fetch
    shrinks a symbol-day is seen under the file's lock, so that what another writer has just stored counts as stored.
    """
    parts = _parts(table, conform(bars, columns_of(table)), market)
    places = {file: file.below(lake) for file in sorted(planned_files(market, table, symbols, dates))}
    foreign = [f"{file.symbol} {file.period}" for file in sorted(parts.keys() - places.keys())]
    days_of_period: dict[str, list[date]] = {file.period: [] for file in places}
    for day in dates:
        days_of_period[period_of(table, day)].append(day)
    within = {
        file: [day for day in days_of_period[file.period] if day not in spared.get(file.symbol, ())] for file in places
    }
    foreign += [f"{day}" for file, part in parts.items() for day in sorted(part.days.difference(within.get(file, ())))]
    if foreign:
        raise ValueError(f"expected bars of {len(symbols)} symbols on {len(dates)} dates, was also {foreign[0]}")
    sweep(lake)
    touched = [
        file
        for file, path in places.items()
        if within[file] and (file in parts or _asked(file, fetch) or path.exists())
    ]

    def merge(files: Sequence[BarFile]) -> list[_Merged]:
        paths = [places[file] for file in files]
        given = [parts.get(file) or _nothing(table) for file in files]
        with locked(paths, locks_of(lake)), replacing() as replace, ThreadPoolExecutor(THREADS) as threads:
            work = partial(_merge, lake=lake, fetch=fetch, replace=replace)
            return list(threads.map(work, files, paths, given, map(within.get, files)))

    together = (touched[first : first + TOGETHER] for first in range(0, len(touched), TOGETHER))
    merged = [each for files in together for each in merge(files)]
    sizes = [each.bytes for each in merged if each.bytes is not None]
    restated = tuple(change for each in merged for change in each.restated)
    shrunk = tuple(day for each in merged for day in each.shrunk)
    return Written(len(sizes), len(places) - len(sizes), sum(sizes), restated, shrunk)


def as_stored(table: str, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars as they are read again once they are stored, for symbols asked in alphabetical order."""
    return ordered(conform(bars, columns_of(table)), ORDER.get(table, ("symbol", "ts")))


def _parts(table: str, bars: pl.DataFrame, market: str) -> Mapping[BarFile, _Part]:
    if bars.is_empty():
        return {}
    bars = ordered(bars, ORDER.get(table, ("symbol", "ts")))
    number, day = bars["symbol"].rle_id().to_numpy(), days_of(bars["session_date"])
    symbol_days = first_rows(number, day)
    distinct, on_day = np.unique(day[symbol_days], return_inverse=True)
    days: list[date] = distinct.astype("datetime64[D]").tolist()
    periods, of_day = np.unique([period_of(table, each) for each in days], return_inverse=True)
    period = of_day[on_day]
    files = first_rows(number[symbol_days], period)
    starts = symbol_days[files]
    spans = zip(starts.tolist(), [*starts[1:].tolist(), bars.height], strict=True)
    names = zip(bars["symbol"].gather(starts), periods[period[files]].tolist(), strict=True)
    columns = table_of(bars.drop("symbol"))
    parts = {
        BarFile(market, table, *name): _Part(columns.slice(start, end - start), frozenset(days[each] for each in dates))
        for name, (start, end), dates in zip(names, spans, np.split(on_day, files[1:]), strict=True)
    }
    if len(parts) < files.size:
        raise ValueError(f"expected session dates of {table} that rise with the bars of a symbol, was one that falls")
    return parts


ORDER = {RAW: ("symbol", "session_date")}
"""How a table's rows are ordered where it is not by symbol and `ts`; ties keep the order they came in."""

THREADS = 2
"""Files encoded at once: that leaves Python to the other thread. More cost more than they gain."""

TOGETHER = 64
"""Files flushed at once; more gain little, and keep other writers waiting."""


@cache
def _nothing(table: str) -> _Part:
    return _Part(table_of(empty(columns_of(table)).drop("symbol")), frozenset())


def _merge(
    file: BarFile,
    path: Path,
    part: _Part,
    dates: Sequence[date],
    lake: Path,
    fetch: Fetch | None,
    replace: Replace,
) -> _Merged:
    """Under the file's lock. `dates` are those of the file's period."""
    asked = _asked(file, fetch)
    stored = read_file(path)
    known = facts_in(stored.schema.metadata) if stored is not None else {}
    joined = _joined(stored, part.bars, dates) if known.keys().isdisjoint(dates) else None
    if joined is not None:
        days = part.days | asked
        return _Merged(replace(path, _saying(file, joined, _stands(known, days, fetch))) if days else None)
    before = frame_of(stored)
    given = frame_of(part.bars)
    shrunk = _shrunk(file, before, given, dates, fetch)
    full = frozenset[date]() if fetch is None or fetch.may_shrink else frozenset(day.session_date for day in shrunk)
    kept = before.filter(~pl.col("session_date").is_in([day for day in dates if day not in full]))
    new = given.filter(~pl.col("session_date").is_in(list(full))) if full else given
    after = pl.concat([kept, new]).sort(_key(file.table), maintain_order=True)
    changed = _changed(file, before, after, asked - known.keys())
    facts = _stands(known, changed, fetch)
    facts = {**facts, **_settled(file, facts, after, fetch, full)}
    if after.equals(before) and facts == known:
        return _Merged(shrunk=shrunk)
    restates = fetch is not None and file.table == RAW and changed
    days = changed & _held(before, known) if restates else frozenset()
    restated = supersede(lake, file, days, Version(before, known), Version(after, facts), replace)
    if after.is_empty() and not facts:
        path.unlink()
        return _Merged(0)
    return _Merged(replace(path, _saying(file, table_of(after), facts)), restated, shrunk)


def _joined(stored: pa.Table | None, given: pa.Table, dates: Sequence[date]) -> pa.Table | None:
    """Both in their order, where a file holds no bars from the first to the last of the dates, else None.

    Most writes add sessions after or before those of a file: as Arrow tables they take a fifth of the work of frames.
    """
    if stored is None or not stored.num_rows:
        return given
    held = pc.min_max(stored["session_date"])
    if held["max"].as_py() < min(dates):
        parts = stored.cast(given.schema), given
    elif max(dates) < held["min"].as_py():
        parts = given, stored.cast(given.schema)
    else:
        return None
    return pa.concat_tables(parts).unify_dictionaries()


def _shrunk(
    file: BarFile, before: pl.DataFrame, given: pl.DataFrame, dates: Sequence[date], fetch: Fetch | None
) -> Sequence[Shrunk]:
    if fetch is None or file.table != RAW:
        return ()
    stored = before.filter(pl.col("session_date").is_in(list(dates)))
    return () if stored.is_empty() or stored.equals(given) else shrunk_days(file.symbol, stored, given)


def _changed(file: BarFile, before: pl.DataFrame, after: pl.DataFrame, unknown: frozenset[date]) -> frozenset[date]:
    """Dates of a fetched file whose content changed; of those not known to have been fetched, the ones without bars."""
    if file.table not in FETCHED:
        return frozenset()
    changed = frozenset() if after.equals(before) else changed_days(before, after)
    return changed | (unknown - {*before["session_date"].unique()}) if unknown else changed


def _asked(file: BarFile, fetch: Fetch | None) -> frozenset[date]:
    """The sessions of a file that a fetch was about: it is there even where none of them has bars."""
    if fetch is None or file.table not in FETCHED:
        return frozenset()
    return frozenset(day for day in fetch.sessions if period_of(file.table, day) == file.period)


def _stands(known: Mapping[date, Since], changed: frozenset[date], fetch: Fetch | None) -> Mapping[date, Since]:
    """Since when each date's content stands, where these changed.

    A fetch that ends after a later one, and changes what that gave, is taken for the later of the two.
    """
    facts = {day: since for day, since in known.items() if fetch is not None or day not in changed}
    if fetch is not None:
        for day in changed:
            at = max(fetch.at, facts[day][0] + timedelta(microseconds=1)) if day in facts else fetch.at
            facts[day] = Since(at, fetch.run_id)
    return facts


def _settled(
    file: BarFile, facts: Mapping[date, Since], after: pl.DataFrame, fetch: Fetch | None, thin: frozenset[date]
) -> Mapping[date, Since]:
    """Facts of days without a last minute whose early content was given again once they were published.

    Not of those whose bars were kept from a `thin` answer. They name the publication, not this fetch, so that whichever
    later fetch is written first leaves the same file.
    """
    if fetch is None or file.table != RAW:
        return {}
    early = {
        day: publication
        for day, publication in fetch.publications.items()
        if day in facts.keys() - thin
        and (facts[day].settled_at or facts[day].at) < publication.published_at <= fetch.at
    }
    if not early:
        return {}
    whole = {*after.filter(pl.col("ts").is_in([each.last_minute for each in early.values()]))["session_date"]}
    return {day: facts[day]._replace(settled_at=each.published_at) for day, each in early.items() if day not in whole}


def _held(bars: pl.DataFrame, known: Mapping[date, Since]) -> frozenset[date]:
    """The days a raw file is about: those with bars, and those that were fetched."""
    return frozenset(bars["session_date"].unique()) | known.keys()


def _key(table: str) -> str:
    return ORDER.get(table, ("symbol", "ts"))[1]


def _saying(file: BarFile, bars: pa.Table, facts: Mapping[date, Since]) -> pa.Table:
    said = {**metadata(file.market, file.table, file.symbol), **facts_metadata(facts)}
    return bars.replace_schema_metadata(said)
