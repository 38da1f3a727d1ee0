"""Partitions of a market: trading sessions by symbols, and the way from a run's keys to both."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
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
from marketpipe_assets.config import Market

WHOLE_RANGE = dg.BackfillPolicy.single_run()
MOST_KEYS = 100_000  # what Dagster advises per asset; past it pages and ticks slow sharply
KEY_FORMAT = "%Y-%m-%d"


class Selection(NamedTuple):
    """What a run works on: every one of `symbols` on every one of `dates`, both in partition order."""

    symbols: Sequence[str]
    dates: Sequence[date]

    @property
    def symbol_days(self) -> int:
        return len(self.symbols) * len(self.dates)


def partitions_of(market: Market) -> dg.MultiPartitionsDefinition:
    """`2024-01-02|AAPL`: one key per session and symbol; days without a session have none.

    Raises `ValueError` where there would be more than `MOST_KEYS`, those of the coming months included: a market that
    loads today loads then as well.
    """
    sessions, symbols = market.sessions, market.symbols
    if (keys := len(sessions.dates) * len(symbols)) > MOST_KEYS:
        fitting = MOST_KEYS // len(sessions.dates)
        raise ValueError(
            f"expected at most {MOST_KEYS:,} partitions in market {market.name}, was {keys:,} ({len(symbols)} symbols "
            f"× {len(sessions.dates)} sessions from {sessions.dates[0]} to {sessions.dates[-1]}): split it into "
            f"markets of at most {fitting} symbols, or begin later"
        )
    return dg.MultiPartitionsDefinition(
        {
            "date": dg.DailyPartitionsDefinition(
                start_date=f"{sessions.dates[0]:{KEY_FORMAT}}",
                timezone=sessions.timezone,
                end_offset=1,  # so that today's key exists when the session ends, not at midnight
                exclusions=_closed_days(sessions),
            ),
            "symbol": dg.StaticPartitionsDefinition(list(symbols)),
        }
    )


def _closed_days(sessions: Sessions) -> Sequence[datetime]:
    zone = ZoneInfo(sessions.timezone)
    open_days = set(sessions.dates)
    first, last = sessions.dates[0], sessions.dates[-1]
    every_day = (first + timedelta(days=n) for n in range((last - first).days))
    return [datetime(day.year, day.month, day.day, tzinfo=zone) for day in every_day if day not in open_days]


def selection_of(keys: Iterable[str]) -> Selection:
    """The symbols and sessions of a run's partition keys.

    Raises `dg.Failure` for no keys at all, which is what Dagster makes of a reversed range, and for keys that are not
    every symbol on every session.
    """
    pairs = [key.split("|", 1) for key in map(str, keys)]
    dates = sorted({date.fromisoformat(day) for day, _ in pairs})
    symbols = sorted({symbol for _, symbol in pairs})
    if not pairs:
        raise dg.Failure(
            "expected at least one partition, was none: a range must run forward in both dates and symbols, as in "
            "2024-01-02|AAPL...2024-01-05|MSFT"
        )
    if len(dates) * len(symbols) != len(pairs):
        raise dg.Failure(
            f"expected every symbol on every session, was {len(pairs)} keys of {len(symbols)} symbols × "
            f"{len(dates)} sessions"
        )
    return Selection(symbols, dates)


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


def range_tags(selection: Selection) -> Mapping[str, str]:
    """Run tags that select a rectangle of partitions."""
    (first_day, last_day), (first, last) = ((values[0], values[-1]) for values in (selection.dates, selection.symbols))
    if selection.symbol_days == 1:
        return {PARTITION_NAME_TAG: f"{first_day}|{first}"}
    return {
        ASSET_PARTITION_RANGE_START_TAG: f"{first_day}|{first}",
        ASSET_PARTITION_RANGE_END_TAG: f"{last_day}|{last}",
    }


def tagged_keys(tags: Mapping[str, str], partitions: dg.PartitionsDefinition[str]) -> Sequence[str]:
    """The partition keys a run's tags select; none where the run has no partition."""
    if PARTITION_NAME_TAG in tags:
        return [tags[PARTITION_NAME_TAG]]
    if ASSET_PARTITION_RANGE_START_TAG not in tags:
        return []
    first, last = tags[ASSET_PARTITION_RANGE_START_TAG], tags[ASSET_PARTITION_RANGE_END_TAG]
    return partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))
