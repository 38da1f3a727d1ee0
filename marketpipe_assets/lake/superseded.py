"""Earlier versions of raw bars: kept when a provider's later answer differs, so that none is ever lost."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.restatements import differences, stood_at
from marketpipe_assets.bars.schema import BAR_COLUMNS, KEY, RAW, SUPERSEDED, TIMESTAMP, VERSION, columns_of, conform
from marketpipe_assets.lake.facts import Since, fetches_of
from marketpipe_assets.lake.layout import BarFile
from marketpipe_assets.lake.parquet import Replace, frame_of, metadata, read_file, table_of
from marketpipe_assets.lake.scan import read_bars

IDENTITY = ("session_date", "fetched_at")
"""What tells two versions of a symbol's day apart."""


class Restatement(NamedTuple):
    """A symbol-day that a provider gave otherwise later; `bars.restatements.differences` says what is counted.

    `fetched_at` is since when the earlier version had stood, None where that is not known; it was superseded by what
    `run_id` fetched.
    """

    symbol: str
    session_date: date
    fetched_at: datetime | None
    superseded_at: datetime
    run_id: str
    bars_before: int
    bars_after: int
    changed: int
    added: int
    removed: int
    largest_change: float | None


RESTATEMENTS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "fetched_at": TIMESTAMP,
    "superseded_at": TIMESTAMP,
    "run_id": pl.String(),
    **dict.fromkeys(("bars_before", "bars_after", "changed", "added", "removed"), pl.Int64()),
    "largest_change": pl.Float64(),
}
"""Columns of a frame of `Restatement`s."""


class Version(NamedTuple):
    """The bars of a raw file, and since when those of each day stand."""

    bars: pl.DataFrame
    since: Mapping[date, Since]


def supersede(
    lake: Path, raw: BarFile, days: frozenset[date], before: Version, after: Version, replace: Replace
) -> list[Restatement]:
    """Keep the versions of some days of a raw file that others are about to replace, and tell how they differ.

    Call it under the lock of the raw file, before that is given to `replace`, which takes the kept ones. A version is
    known by its day and the instant it was fetched, so one that was kept when the replacing was killed is kept once.
    """
    if not days:
        return []
    of_days = pl.col("session_date").is_in(list(days))
    old, new = (each.bars.filter(of_days).with_columns(pl.lit(raw.symbol).alias("symbol")) for each in (before, after))
    stood = {day: before.since[day].at if day in before.since else None for day in days}
    if old.height:
        rows = [(day, stood[day], *after.since[day][:2]) for day in days]
        versions = pl.DataFrame(rows, schema={"session_date": pl.Date(), **VERSION}, orient="row")
        _keep(lake, raw, old.join(versions, on="session_date", how="left", maintain_order="left"), replace)
    return [
        Restatement(symbol, day, stood[day], *after.since[day][:2], *figures)
        for symbol, day, *figures in differences(old, new).iter_rows()
    ]


def restatements_in(lake: Path, market: str, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
    """Every restatement of these symbol-days that left bars behind, columns `RESTATEMENTS`, oldest first.

    What `write_bars` told when it wrote them, read again from the lake. A version without bars leaves nothing, so a day
    that was empty before is not among them.
    """
    current, superseded = (read_bars(lake, market, table, symbols, dates) for table in (RAW, SUPERSEDED))
    stands = fetches_of(lake, market, symbols, dates).select(*KEY, "fetched_at")
    past = superseded.join(stands, on=(*KEY, "fetched_at"), how="anti", maintain_order="left")  # a killed write's copy
    rank = pl.col("superseded_at").rank("dense").over(KEY).cast(pl.Int64)
    numbered = past.with_columns(rank.alias("number"))
    dated = current.join(stands, on=KEY, how="left", maintain_order="left")
    versions = pl.concat([numbered.select(*current.columns, "fetched_at"), dated])
    last = int(numbered.select(pl.col("number").max().fill_null(0)).item())
    found = [_restated(numbered.filter(number=number), versions) for number in range(1, last + 1)]
    return pl.concat([pl.DataFrame(schema=dict(RESTATEMENTS)), *found]).sort("superseded_at", *KEY)


def _restated(before: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
    """What became of versions of some symbol-days, one of each, among all that were and are: nothing where none is."""
    days = before.select(*KEY, "fetched_at", "superseded_at", run_id="superseded_by").unique()
    began, ended = (*KEY, "fetched_at"), (*KEY, "superseded_at")
    after = versions.join(days, left_on=began, right_on=ended, how="semi", maintain_order="left")
    changes = differences(before.select(*BAR_COLUMNS), after.select(*BAR_COLUMNS))
    return changes.join(days, on=KEY).select(*RESTATEMENTS)


def raw_as_of(lake: Path, market: str, symbols: Sequence[str], dates: Sequence[date], moment: datetime) -> pl.DataFrame:
    """Raw bars as they stood at an instant, like `read_bars` reads those that stand now. Raises `DamagedFile`."""
    current, superseded = (read_bars(lake, market, table, symbols, dates) for table in (RAW, SUPERSEDED))
    bars = stood_at(moment, current, superseded, fetches_of(lake, market, symbols, dates))
    asked = pl.DataFrame({"symbol": list(symbols), "asked": range(len(symbols))})
    placed = bars.join(asked, on="symbol", how="left", maintain_order="left")
    return placed.sort("asked", "session_date", maintain_order=True).drop("asked")


def _keep(lake: Path, raw: BarFile, versions: pl.DataFrame, replace: Replace) -> None:
    file = raw._replace(table=SUPERSEDED)
    path = file.below(lake)
    kept = conform(versions, columns_of(SUPERSEDED)).drop("symbol")
    if (stored := read_file(path)) is not None:
        others = frame_of(stored).join(kept, on=IDENTITY, how="anti", nulls_equal=True, maintain_order="left")
        kept = pl.concat([others, kept])
    ordered = kept.sort(IDENTITY, maintain_order=True)
    said = metadata(file.market, file.table, file.symbol)
    replace(path, table_of(ordered).replace_schema_metadata(said))
