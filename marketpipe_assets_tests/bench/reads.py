"""Reading stored bars: `load_bars` against the leanest polars code that knows the paths, and against ArcticDB.

The lake is written by the product; both read the same files, in turns, in one process, warm. `load_bars` verifies every
byte it reads, plans the paths from the calendar and gives `symbol` as a column; the polars code does none of the first
two. ArcticDB holds the same columns of the same bars and reads them into polars frames, in a process of its own.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import polars as pl
import yaml

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.resample import resample
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.timeframes import timeframe
from marketpipe_assets.config import Config, load_config
from marketpipe_assets.lake.layout import period_of
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.query import load_bars
from marketpipe_assets_tests.bench.case import MARKET, Case
from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.measure import Cost, best, timed
from marketpipe_assets_tests.bench.options import Options

CASE = Case(symbol_count=20, session_count=252)
TO_ARCTIC = (pl.col(pl.Categorical).cast(pl.String), pl.col(pl.Date).cast(pl.Datetime("ns")))  # types it has
MANY = [f"D{number:03d}" for number in range(500)]


class Read(NamedTuple):
    """Bars of some symbols from the first date to the last, which is one of them."""

    name: str
    label: str
    symbols: Sequence[str]
    first: date
    last: date

    @property
    def table(self) -> str:
        return timeframe(self.label).table


def reads(dates: Sequence[date]) -> Sequence[Read]:
    february = [day for day in dates if day.month == 2]
    return (
        Read("read_symbol_year_1m", "1m", CASE.symbols[:1], dates[0], dates[-1]),
        Read("read_20_symbols_month_5m", "5m", CASE.symbols, february[0], february[-1]),
        Read("read_500_symbols_day_1d", "1d", MANY, dates[100], dates[100]),
        Read("read_symbol_day_1m", "1m", CASE.symbols[3:4], dates[100], dates[100]),
    )


def measured(options: Options) -> Iterator[Entry]:
    with TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        config = prepared(Path(folder))
        planned = reads(CASE.dates)
        arctic = arctic_costs(options.arctic, config, planned, Path(folder)) if options.arctic else {}
        for read in planned:
            ours, theirs = beside(read, config, options.turns)
            yield from _entries(f"{read.name}_vs_polars", ours, theirs, "polars with known paths")
            if read.name in arctic:
                yield from _entries(f"{read.name}_vs_arcticdb", ours, arctic[read.name], "ArcticDB")


def prepared(folder: Path) -> Config:
    """A lake of 20 symbols' minutes over a year and of 500 symbols' daily bars."""
    document = dict(CASE.configuration(str(folder / "lake")))
    document["markets"][MARKET]["symbols"] = [*CASE.symbols, *MANY]
    written = folder / "marketpipe.yaml"
    written.write_text(yaml.safe_dump(document), encoding="utf-8")
    config = load_config(written)
    dates = CASE.sessions.owned_dates(CASE.dates)
    minutes = split_by_rules(CASE.sessions.assign(CASE.generated()), RuleSet("equity"), CASE.sessions).valid
    longer = resample(minutes, map(timeframe, ("5m", "1d")), CASE.sessions)
    write_bars(config.lake, MARKET, "bars_1m", minutes, CASE.symbols, dates)
    write_bars(config.lake, MARKET, "bars_5m", longer["5m"], CASE.symbols, dates)
    day = longer["1d"].filter(pl.col("symbol") == CASE.symbols[0])
    days = pl.concat([day.with_columns(pl.lit(symbol).alias("symbol")) for symbol in MANY])
    write_bars(config.lake, MARKET, "bars_1d", days, MANY, dates)
    return config


def beside(read: Read, config: Config, turns: int) -> tuple[Cost, Cost]:
    """The least cost of each, in turns. Raises `ValueError` where the two do not give as many bars."""
    ways: Sequence[Callable[[], pl.DataFrame]] = (lambda: by_load_bars(read, config), lambda: by_polars(read, config))
    if (rows := {way().height for way in ways}) == {0} or len(rows) != 1:
        raise ValueError(f"expected the same bars by both ways of {read.name}, was {rows} rows")
    costs = [[timed(way) for way in ways] for _ in range(turns)]
    ours, theirs = (best([cost[way] for cost in costs]) for way in range(2))
    return ours, theirs


def by_load_bars(read: Read, config: Config) -> pl.DataFrame:
    return load_bars(read.symbols, read.label, read.first, read.last + timedelta(days=1), config=config)


def by_polars(read: Read, config: Config) -> pl.DataFrame:
    files = [
        f"{config.lake}/{MARKET}/{read.table}/symbol={symbol}/{period}.parquet"
        for symbol in read.symbols
        for period in periods(read)
    ]
    scan = pl.scan_parquet(files, hive_partitioning=True, hive_schema={"symbol": pl.String})
    if len(periods(read)) == 1:
        scan = scan.filter(pl.col("session_date").is_between(read.first, read.last))
    return scan.collect()


def periods(read: Read) -> Sequence[str]:
    days = pl.date_range(read.first, read.last, eager=True)
    return sorted({period_of(read.table, day) for day in days})


def arctic_costs(python: Path, config: Config, planned: Sequence[Read], folder: Path) -> Mapping[str, Cost]:
    """Name of a read → the cost of the same bars in ArcticDB. Raises `ValueError` where they are not as many."""
    plan = []
    for read in planned:
        whole = read._replace(first=CASE.dates[0], last=CASE.dates[-1])
        exported = folder / "exported" / read.name
        exported.mkdir(parents=True)
        bars = by_load_bars(whole, config).drop("flags", strict=False)
        files = []
        for (symbol,), part in bars.group_by("symbol", maintain_order=True):
            files.append(str(exported / f"{symbol}.parquet"))
            part.drop("symbol").with_columns(TO_ARCTIC).write_parquet(files[-1])
        span = by_load_bars(read, config)["ts"]
        first, last = (_instant(each) for each in (span.min(), span.max()))
        plan.append({"name": read.name, "files": files, "first": first, "last": last})
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    told = subprocess.run(
        [str(python), str(Path(__file__).with_name("arctic.py")), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(told.stdout.splitlines()[-1])
    expected = {read.name: by_load_bars(read, config).height for read in planned}
    if expected != {name: rows for name, (*_, rows) in found.items()}:
        raise ValueError(f"expected {expected} rows in ArcticDB, was {found}")
    return {name: Cost(cpu, wall) for name, (cpu, wall, _) in found.items()}


def _instant(moment: object) -> str:
    if not isinstance(moment, datetime):
        raise TypeError(f"expected an instant, was {moment!r}")
    return moment.isoformat()


def _entries(name: str, ours: Cost, theirs: Cost, reference: str) -> Iterator[Entry]:
    yield Entry(name, ours.cpu * 1000, "ms CPU", ours.cpu / theirs.cpu, reference)
    yield Entry(f"{name}_wall", ours.wall * 1000, "ms wall", ours.wall / theirs.wall, reference)
