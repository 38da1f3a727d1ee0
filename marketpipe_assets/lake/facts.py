"""Since when the raw bars of a symbol-day stand, and which run fetched them: facts in the footers of raw files."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import RAW, TIMESTAMP
from marketpipe_assets.lake.parquet import FETCHES, read_footer
from marketpipe_assets.lake.scan import planned_files

COLUMNS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "fetched_at": TIMESTAMP,
    "run_id": pl.String(),
    "settled_at": TIMESTAMP,
}


class Since(NamedTuple):
    """The instant from which a symbol-day's content stands, and the run that fetched it.

    `settled_at` is when the session had been published, where the content was fetched before and given again after it.
    """

    at: datetime
    run_id: str
    settled_at: datetime | None = None


class Publication(NamedTuple):
    """A session's last regular minute, and the instant from which its provider has all of it."""

    last_minute: datetime
    published_at: datetime


class Fetch(NamedTuple):
    """One run's question to a provider: the instant it was put, the run, and the sessions it was about.

    Unless it `may_shrink` them, symbol-days of which more minutes are stored than it gave keep their bars.
    """

    at: datetime
    run_id: str
    sessions: Sequence[date]
    publications: Mapping[date, Publication] = {}
    may_shrink: bool = True


def fetches_of(
    lake: Path, market: str, symbols: Sequence[str], dates: Sequence[date], table: str = RAW
) -> pl.DataFrame:
    """Which of these symbol-days were fetched: `symbol`, `session_date`, `fetched_at` (UTC), `run_id`,
    `settled_at`.

    `fetched_at` is since when the stored content stands: a later fetch that gave the same bars does not change it, but
    may set `settled_at`, null otherwise: the session's publication, before which the content was fetched. A day that
    was fetched and has no bars has a row; one that was never fetched, or whose file is from before these facts were
    kept, has none. Reads footers only. Raises `DamagedFile`.
    """
    wanted = set(dates)
    rows = [
        (file.symbol, day, *since)
        for file in planned_files(market, table, symbols, dates)
        if (footer := read_footer(file.below(lake))) is not None
        for day, since in facts_in(footer.metadata).items()
        if day in wanted
    ]
    return pl.DataFrame(rows, schema=dict(COLUMNS), orient="row")


def facts_in(said: Mapping[bytes, bytes] | None) -> Mapping[date, Since]:
    """The facts in a file's metadata, by session date; none in a file from before they were kept."""
    written = json.loads((said or {}).get(FETCHES.encode(), b"{}"))
    return {
        date.fromisoformat(day): Since(datetime.fromisoformat(at), run, *map(datetime.fromisoformat, settled))
        for day, (at, run, *settled) in written.items()
    }


def facts_metadata(facts: Mapping[date, Since]) -> Mapping[str, str]:
    """What a raw file says of its fetches: `{"2024-01-02": ["2024-01-03T02:00:00+00:00", run id]}` as JSON.

    A third text is `settled_at`.
    """
    if not facts:
        return {}
    written = {
        f"{day}": (_text(since.at), since.run_id, *([_text(since.settled_at)] if since.settled_at else []))
        for day, since in sorted(facts.items())
    }
    return {FETCHES: json.dumps(written, separators=(",", ":"))}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()
