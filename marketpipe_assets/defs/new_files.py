"""The sensor of a drop folder: files that come into it are read by runs of the market."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.in_flight import in_flight, not_in_flight
from marketpipe_assets.defs.jobs import ingest_job_name
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.planner import planned_runs
from marketpipe_assets.defs.schedules import WHY_TAG
from marketpipe_assets.defs.wanted import wanted

TICK_SECONDS = 60
SETTLED = timedelta(seconds=10)  # a file that changed later may still be written
DATE = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)")
ONE_DAY = timedelta(days=1)


class Drop(NamedTuple):
    """A folder of vendor files, and our symbols → the vendor's names, where they differ."""

    provider: str
    root: Path
    names: Mapping[str, str] = {}


class Found(NamedTuple):
    """A file below the folder. `changed` is its inode's instant, which a copy with its old date has as well."""

    path: Path
    changed: datetime


def new_files_sensor(grid: Grid, drop: Drop) -> dg.SensorDefinition:
    """Reads files as they come: by the symbols and dates in their paths, else what the ledger lacks or has empty."""
    market = grid.market

    @dg.sensor(
        name=f"{market.name}_new_files_of_{drop.provider}",
        job_name=ingest_job_name(market.name),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if market.schedules.heal else dg.DefaultSensorStatus.STOPPED,
        required_resource_keys={"catalog"},
        description=f"Reads files that come into the folder of {drop.provider} into {market.name}.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        seen = datetime.fromisoformat(context.cursor) if context.cursor else None
        if not drop.root.is_dir():
            return dg.SkipReason(f"there is no folder {drop.root}")
        fresh = [each for each in _files(drop.root) if seen is None or each.changed > seen]
        settled = [each for each in fresh if each.changed + SETTLED <= now]
        if not settled:
            return dg.SkipReason(f"{len(fresh)} files are still being written" if fresh else "no new file")
        asked = _days(context.resources.catalog, market, drop, settled, now)
        days = not_in_flight(asked, in_flight(context.instance, grid))
        if days.height < asked.height:  # a run that has read the folder already has not seen them
            waiting = asked.height - days.height
            return dg.SkipReason(f"{len(settled):,} new files wait for runs of {waiting:,} of their symbol-days to end")
        runs = planned_runs(grid, dict(days.group_by("session_date").agg("symbol").rows()))
        newest = max(each.changed for each in settled).isoformat()
        said = f"{len(settled):,} new files: {days.height:,} symbol-days to read in {len(runs):,} runs"
        context.log.info(said)
        if not runs:
            return dg.SensorResult(skip_reason=said, cursor=newest)
        requests = [
            dg.RunRequest(
                run_key=f"{run.dates[0]}|{run.symbols[0]}...{run.dates[-1]}|{run.symbols[-1]} {newest}",
                tags={**grid.tags(run), WHY_TAG: "new files"},
            )
            for run in runs
        ]
        return dg.SensorResult(requests, cursor=newest)

    return new_files


def _files(root: Path) -> Iterator[Found]:
    for path in root.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            yield Found(path.relative_to(root), datetime.fromtimestamp(path.stat().st_ctime, UTC))


def _days(catalog: Catalog, market: Market, drop: Drop, files: Sequence[Found], now: datetime) -> pl.DataFrame:
    """Symbol-days, `symbol` and `session_date`, that the files may be about."""
    published = [day for day in market.sessions.dates if market.sessions.published_by(day) <= now]
    lacking = _lacking(catalog, market, now)
    parts = [_of_file(market, drop, file.path, published, lacking) for file in files]
    return pl.concat([lacking.clear(), *parts]).unique().sort("session_date", "symbol")


def _of_file(market: Market, drop: Drop, path: Path, published: Sequence[date], lacking: pl.DataFrame) -> pl.DataFrame:
    symbols = [symbol for symbol in market.symbols if _names(path, drop.names.get(symbol, symbol))] or market.symbols
    if not (dates := _dates(path)):
        return lacking.filter(pl.col("symbol").is_in(list(symbols)))
    near = [day for day in published if any(abs(day - each) <= ONE_DAY for each in dates)]  # in UTC or local, as it may
    return pl.DataFrame([(symbol, day) for symbol in symbols for day in near], schema=lacking.schema, orient="row")


def _names(path: Path, symbol: str) -> bool:
    """Whether a symbol stands in a path as a word: `ACME` does in acme/2024.csv and not in ACMEX.csv."""
    return re.search(rf"(?i)(?<![A-Za-z0-9]){re.escape(symbol)}(?![A-Za-z0-9])", path.as_posix()) is not None


def _dates(path: Path) -> list[date]:
    return [day for parts in DATE.findall(path.as_posix()) if (day := _date(parts)) is not None]


def _date(parts: Iterable[str]) -> date | None:
    try:
        return date(*map(int, parts))
    except ValueError:
        return None


def _lacking(catalog: Catalog, market: Market, now: datetime) -> pl.DataFrame:
    """Symbol-days that were never fetched, have holes a vendor may fill, or were fetched and had nothing."""
    missing = wanted(catalog, market, now).select("symbol", "session_date")
    known = symbol_days_of(catalog, market.name, market.symbols, [market.start, next_day(now.date())])
    kept = market.kept_from("raw_bars_1m", now.date()) or date.min
    empty = known.filter(pl.col("received") == 0, pl.col("session_date") >= kept).select("symbol", "session_date")
    return pl.concat([missing, empty])
