"""Partitions of a market: which symbols and sessions a key holds, and the way from a run's keys to both and back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.catalog.groups import keep_order, order_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.keys import RememberedPartitions

WHOLE_RANGE = dg.BackfillPolicy.single_run()
MOST_KEYS = 100_000  # what Dagster advises per asset; past it pages and ticks slow sharply
KEY_FORMAT = "%Y-%m-%d"
USUAL_GROUP = 50

SYMBOLS_TAG = "marketpipe/symbols"
"""Run tag: of the symbols its partitions hold only these, parted by commas."""

SESSIONS_TAG = "marketpipe/sessions"
"""Run tag: of the sessions its partitions hold only those from the first to the last, `2024-01-02...2024-01-05`."""


class Selection(NamedTuple):
    """What a run works on: every one of `symbols` on every one of `dates`, both in partition order."""

    symbols: Sequence[str]
    dates: Sequence[date]

    @property
    def symbol_days(self) -> int:
        return len(self.symbols) * len(self.dates)


class Grid:
    """A market's partition keys in order, `2024-01-02|AAPL` or `2024-01-01|group-07`, and what each of them holds.

    `columns` are symbols, or groups of them in the order in which they came into the market; `rows` are sessions, or
    months of them by their first day. Raises `ValueError` where there would be more than `MOST_KEYS`, those of the
    coming months included: a market that loads today loads then as well.
    """

    def __init__(self, market: Market, order: Sequence[str] | None = None) -> None:
        self.market = market
        self.order = tuple(market.symbols if order is None else order)
        self.columns = _columns(market, self.order)
        self.rows = _rows(market)
        _check_keys(self)
        _check_largest(self)

    @property
    def is_plain(self) -> bool:
        """Whether a partition is one symbol on one session."""
        return self.market.partition.symbols == 1 and self.market.partition.dates == "day"

    @property
    def symbols(self) -> Sequence[str]:
        """The market's symbols; neighbours lie in the same group or in neighbouring ones."""
        return [symbol for symbols in self.columns.values() for symbol in symbols]

    @property
    def largest(self) -> int:
        """Symbol-days of the largest partition."""
        return max(map(len, self.columns.values())) * max(map(len, self.rows.values()))

    @cached_property
    def definition(self) -> dg.MultiPartitionsDefinition:
        """Days without a session have no key; months have one each, the one that is running among them."""
        sessions = self.market.sessions
        dates = _days(sessions) if self.market.partition.dates == "day" else _months(sessions)
        return RememberedPartitions({"date": dates, "symbol": dg.StaticPartitionsDefinition(list(self.columns))})

    def selection(self, keys: Iterable[str], run: dg.DagsterRun | None = None) -> Selection:
        """The symbols and sessions of partition keys; of a run's, those its tags leave.

        Of a month only the sessions that were over when the run first asked. Raises `dg.Failure` for no keys at all,
        which is what Dagster makes of a reversed range, for keys that are not every column on every row or not of this
        market, and where no session is over.
        """
        columns, rows = self._rectangle(list(map(str, keys)))
        tags = run.tags if run is not None else {}
        symbols, dates = self._left(columns, rows, tags)
        if self.market.partition.dates == "month":
            dates = self._over(dates, _as_of(run.run_id) if run is not None else datetime.now(UTC))
        if not symbols or not dates:
            raise dg.Failure(
                f"expected tags {SYMBOLS_TAG} and {SESSIONS_TAG} that leave something of {', '.join(columns)} in "
                f"{', '.join(rows)}, was {tags.get(SYMBOLS_TAG, 'none')} and {tags.get(SESSIONS_TAG, 'none')}",
                allow_retries=False,
            )
        return Selection(symbols, dates)

    def tags(self, selection: Selection) -> Mapping[str, str]:
        """Run tags for these symbols and sessions: the partitions that hold them, and what to leave out of those.

        Raises `ValueError` where other partitions lie between them: a run takes all between the first and the last.
        """
        columns = _holding(self.columns, selection.symbols)
        rows = _holding(self.rows, selection.dates)
        return {
            **_key_tags((rows[0], columns[0]), (rows[-1], columns[-1])),
            **self._symbols_tag(columns, selection.symbols),
            **self._sessions_tag(rows, selection.dates),
        }

    def tagged_keys(self, tags: Mapping[str, str]) -> Sequence[str]:
        """The partition keys a run's tags select; none where the run has no partition."""
        if PARTITION_NAME_TAG in tags:
            return [tags[PARTITION_NAME_TAG]]
        if ASSET_PARTITION_RANGE_START_TAG not in tags:
            return []
        first, last = tags[ASSET_PARTITION_RANGE_START_TAG], tags[ASSET_PARTITION_RANGE_END_TAG]
        return self.definition.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))

    def tagged(self, tags: Mapping[str, str]) -> Selection | None:
        """The symbols and sessions a run's tags select, over or not; None where they are no partitions of these."""
        first = tags.get(ASSET_PARTITION_RANGE_START_TAG, tags.get(PARTITION_NAME_TAG, ""))
        last = tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
        (first_row, _, first_column), (last_row, _, last_column) = (key.partition("|") for key in (first, last))
        columns = _between(list(self.columns), first_column, last_column)
        rows = _between(list(self.rows), first_row, last_row)
        found = self._left(columns, rows, tags)
        return found if found.symbol_days else None

    def first(self, symbols: Sequence[str], count: int) -> Sequence[str]:
        """So many of the symbols, neighbours in the order of partitions where they all are; by name."""
        place = {symbol: number for number, symbol in enumerate(self.symbols)}
        return sorted(sorted(symbols, key=place.__getitem__)[:count])

    def finished(self, dates: Iterable[date]) -> list[date]:
        """The sessions that can be fetched whole by now."""
        return _over_by(self.market.sessions, dates, datetime.now(UTC))

    def _rectangle(self, keys: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        pairs = [key.split("|", 1) for key in keys]
        if not pairs:
            raise dg.Failure(
                "expected at least one partition, was none: a range must run forward in both dates and symbols, as in "
                "2024-01-02|AAPL...2024-01-05|MSFT"
            )
        rows, columns = ({pair[n] for pair in pairs} for n in range(2))
        if len(rows) * len(columns) != len(pairs):
            raise dg.Failure(
                f"expected every symbol on every session, was {len(pairs)} keys of {len(columns)} symbols × "
                f"{len(rows)} sessions"
            )
        if unknown := sorted((rows - self.rows.keys()) | (columns - self.columns.keys())):
            raise dg.Failure(f"expected partitions of {self.market.name}, was {', '.join(unknown)}")
        return [key for key in self.columns if key in columns], [key for key in self.rows if key in rows]

    def _left(self, columns: Sequence[str], rows: Sequence[str], tags: Mapping[str, str]) -> Selection:
        """What these hold without what a run's tags leave out."""
        symbols = sorted(symbol for column in columns for symbol in self.columns[column])
        dates = [day for row in rows for day in self.rows[row]]
        if SYMBOLS_TAG in tags:
            only = frozenset(tags[SYMBOLS_TAG].split(","))
            symbols = [symbol for symbol in symbols if symbol in only]
        if SESSIONS_TAG in tags:
            first, last = tags[SESSIONS_TAG].split("...")
            dates = [day for day in dates if first <= f"{day}" <= last]
        return Selection(symbols, dates)

    def _over(self, dates: Sequence[date], at: datetime) -> list[date]:
        sessions = self.market.sessions
        finished = _over_by(sessions, dates, at)
        if dates and not finished:
            raise dg.Failure(
                f"expected sessions of {self.market.name} that are over, was {dates[0]}, which ends at "
                f"{sessions.published_by(dates[0]):%Y-%m-%d %H:%M} UTC: not published yet",
                allow_retries=False,
            )
        return finished

    def _symbols_tag(self, columns: Sequence[str], symbols: Sequence[str]) -> Mapping[str, str]:
        whole = sum(len(self.columns[column]) for column in columns)
        return {} if whole == len(symbols) else {SYMBOLS_TAG: ",".join(symbols)}

    def _sessions_tag(self, rows: Sequence[str], dates: Sequence[date]) -> Mapping[str, str]:
        held = [day for row in (rows[0], rows[-1]) for day in self.rows[row]]
        last = held[-1] if dates[-1] == held[-1] else max(self.finished(self.rows[rows[-1]]), default=None)
        if (dates[0], dates[-1]) == (held[0], last):
            return {}
        return {SESSIONS_TAG: f"{dates[0]}...{dates[-1]}"}


def grid_of(market: Market, catalog: Catalog) -> Grid:
    """The market's grid, with groups as the catalogue has them. Reads it only where there are groups."""
    if market.partition.symbols == 1:
        return Grid(market)
    return Grid(market, order_of(catalog, market.name, market.symbols))


def keep_groups(grid: Grid, catalog: Catalog) -> None:
    """Keep the order of the symbols that are in no group yet: from now on no other takes their places."""
    if grid.market.partition.symbols > 1:
        keep_order(catalog, grid.market.name, grid.order, grid.market.partition.symbols)


def _columns(market: Market, order: Sequence[str]) -> Mapping[str, Sequence[str]]:
    size = market.partition.symbols
    if size == 1:
        return {symbol: (symbol,) for symbol in market.symbols}
    configured = frozenset(market.symbols)
    groups = {f"group-{place // size:02}": order[place : place + size] for place in range(0, len(order), size)}
    present = {key: sorted(configured.intersection(symbols)) for key, symbols in groups.items()}
    return {key: symbols for key, symbols in present.items() if symbols}


def _rows(market: Market) -> Mapping[str, Sequence[date]]:
    dates = market.sessions.dates
    if market.partition.dates == "day":
        return {f"{day:{KEY_FORMAT}}": (day,) for day in dates}
    return {f"{first:{KEY_FORMAT}}": tuple(days) for first, days in groupby(dates, key=lambda day: day.replace(day=1))}


def _check_keys(grid: Grid) -> None:
    columns, rows = len(grid.columns), len(grid.rows)
    if columns * rows <= MOST_KEYS:
        return
    symbols, dates = len(grid.market.symbols), grid.market.sessions.dates
    months = len({(day.year, day.month) for day in dates})
    fitting = max(min(USUAL_GROUP, symbols), -(-symbols // max(1, MOST_KEYS // months)))
    raise ValueError(
        f"expected at most {MOST_KEYS:,} partitions in market {grid.market.name}, was {columns * rows:,} "
        f"({symbols:,} symbols from {dates[0]} to {dates[-1]}); `partition: {{symbols: {fitting}, dates: month}}` "
        f"makes it {-(-symbols // fitting) * months:,}"
    )


def _check_largest(grid: Grid) -> None:
    most, market = grid.market.max_symbol_days_per_run, grid.market
    if grid.largest > most and not grid.is_plain:
        size = f"{market.partition.symbols} symbols, a {market.partition.dates}"
        raise ValueError(
            f"expected partitions of market {market.name} that fit into one run, at most {most:,} symbol-days "
            f"(max_symbol_days_per_run), was {grid.largest:,} (partition: {size})"
        )


def _days(sessions: Sessions) -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(
        start_date=f"{sessions.dates[0]:{KEY_FORMAT}}",
        timezone=sessions.timezone,
        end_offset=1,  # so that today's key exists when the session ends, not at midnight
        exclusions=_closed_days(sessions),
    )


def _months(sessions: Sessions) -> dg.MonthlyPartitionsDefinition:
    return dg.MonthlyPartitionsDefinition(
        start_date=f"{sessions.dates[0].replace(day=1):{KEY_FORMAT}}",  # Dagster begins with the first after it
        timezone=sessions.timezone,
        end_offset=1,  # so that the month's key exists from its first day
    )


@lru_cache(maxsize=256)
def _as_of(run_id: str) -> datetime:  # noqa: ARG001  # the key: every step of a run sees the same sessions
    return datetime.now(UTC)


def _over_by(sessions: Sessions, dates: Iterable[date], at: datetime) -> list[date]:
    return [day for day in dates if sessions.published_by(day) <= at]


def _between(keys: Sequence[str], first: str, last: str) -> Sequence[str]:
    return keys[keys.index(first) : keys.index(last) + 1] if first in keys and last in keys else []


def _holding(keys: Mapping[str, Sequence[object]], wanted: Iterable[object]) -> Sequence[str]:
    """The keys that hold something wanted. Raises `ValueError` where there are others between them."""
    ours = frozenset(wanted)
    places = [place for place, held in enumerate(keys.values()) if not ours.isdisjoint(held)]
    if not places or places[-1] - places[0] + 1 != len(places):
        raise ValueError(f"expected neighbouring partitions, was {len(places)} of {', '.join(keys)}")
    return list(keys)[places[0] : places[-1] + 1]


def _key_tags(first: tuple[str, str], last: tuple[str, str]) -> Mapping[str, str]:
    if first == last:
        return {PARTITION_NAME_TAG: "|".join(first)}
    return {ASSET_PARTITION_RANGE_START_TAG: "|".join(first), ASSET_PARTITION_RANGE_END_TAG: "|".join(last)}


def _closed_days(sessions: Sessions) -> Sequence[datetime]:
    zone = ZoneInfo(sessions.timezone)
    open_days = set(sessions.dates)
    first, last = sessions.dates[0], sessions.dates[-1]
    every_day = (first + timedelta(days=n) for n in range((last - first).days))
    return [datetime(day.year, day.month, day.day, tzinfo=zone) for day in every_day if day not in open_days]


def check_size(market: Market, selection: Selection, command: str) -> None:
    """Refuse a run that would hold more than the market's limit in memory, with the command that plans it."""
    if selection.symbol_days <= market.max_symbol_days_per_run:
        return
    symbols, dates = selection
    raise dg.Failure(
        f"expected at most {market.max_symbol_days_per_run:,} symbol-days in one run (max_symbol_days_per_run of "
        f"{market.name}), was {selection.symbol_days:,}; this command plans it as several runs: marketpipe {command} "
        f"--market {market.name} --symbols {','.join(symbols)} --start {dates[0]} --end {next_day(dates[-1])}",
        allow_retries=False,
    )
