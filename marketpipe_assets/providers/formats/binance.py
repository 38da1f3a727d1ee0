"""Binance bulk klines: `<SYMBOL>-1m-<YYYY-MM>.zip` or `-<YYYY-MM-DD>.zip`, anywhere below root."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import PRICES
from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.archive import zip_members
from marketpipe_assets.providers.formats.minutes import check_cadence, check_dates, check_unit
from marketpipe_assets.providers.formats.reader import READ_COLUMNS, DatedFile, Reader, local_dates
from marketpipe_assets.providers.formats.text import Text, require_numbers, rows_of

log = logging.getLogger(__name__)

_MICROSECONDS_FROM = 10**14

_KLINE: Mapping[str, pl.DataType] = {
    "opened": pl.Int64(),
    **{name: pl.Float64() for name in (*PRICES, "volume")},
    "closed": pl.Int64(),
    "quote_volume": pl.Float64(),
    "trade_count": pl.Int64(),
    "taker_base": pl.Float64(),
    "taker_quote": pl.Float64(),
    "ignored": pl.String(),
}

_NAME = re.compile(r"(.+)-1m-(\d{4}-\d\d(-\d\d)?)\.zip")


class Archive(NamedTuple):
    """One zip of one symbol."""

    symbol: str
    file: DatedFile


class Binance(Reader):
    """Kline archives of a drop folder. Where a month and its days are both there, the month is read.

    A `.CHECKSUM` beside an archive is verified. Times are milliseconds before 2025 and microseconds after, decided
    for each value. Rows with neither volume nor trades are the vendor's filler: dropped, and counted in the log.
    """

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        listed = self._listed(set(symbols))
        days = [f"{day:%Y-%m-%d}" for day in local_dates(start, end, "UTC")]
        archives = [archive for symbol in symbols for archive in _planned(symbol, days, listed)]
        if not archives:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        files = [archive.file for archive in archives]
        names = [str(file.path) for file in files]
        rows = rows_of([self._text(file) for file in files], _KLINE)
        bars = _timed(rows, [archive.symbol for archive in archives], names)
        check_dates(bars, files, "UTC")
        check_cadence(bars, names)
        return _without_filler(bars).select(*READ_COLUMNS)

    def _listed(self, symbols: set[str]) -> Mapping[tuple[str, str], Path]:
        listed: dict[tuple[str, str], Path] = {}
        for path in sorted(self.settings.root.rglob("*-1m-*.zip")):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] not in symbols:
                continue
            if (match[1], match[2]) in listed:
                raise BadFile(f"{path}: expected one {path.name} below root, another is {listed[match[1], match[2]]}")
            listed[match[1], match[2]] = path
        return listed

    def _text(self, file: DatedFile) -> Text:
        _verify_checksum(file.path)
        members = zip_members(file.path, self.settings.limits)
        expected = file.path.with_suffix(".csv").name
        if list(members) != [expected]:
            raise BadFile(f"{file.path}: expected the member {expected}, was {', '.join(members)}")
        content = members[expected]
        name = f"{file.path} ({expected})"
        return Text(name, content) if content[:1].isdigit() else Text(name, content.partition(b"\n")[2], above=1)


def _planned(symbol: str, days: Sequence[str], listed: Mapping[tuple[str, str], Path]) -> list[Archive]:
    stamps = dict.fromkeys(day[:7] if (symbol, day[:7]) in listed else day for day in days)
    patterns = {7: "%Y-%m", 10: "%Y-%m-%d"}
    return [
        Archive(symbol, DatedFile(listed[symbol, stamp], patterns[len(stamp)], stamp))
        for stamp in stamps
        if (symbol, stamp) in listed
    ]


def _verify_checksum(path: Path) -> None:
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.exists():
        return
    stated = beside.read_text(encoding="utf-8", errors="replace").split()[:1]
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if stated != [actual]:
        raise BadFile(f"{path}: expected sha256 {' '.join(stated) or 'in ' + beside.name}, was {actual}")


def _timed(rows: pl.DataFrame, symbols: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    require_numbers(rows, names, ("opened", *PRICES, "volume", "trade_count"))
    micros = pl.when(pl.col("opened") > _MICROSECONDS_FROM).then("opened").otherwise(pl.col("opened") * 1000)
    timed = rows.with_columns(micros=micros)
    check_unit(timed, names, "micros", "us")
    return timed.with_columns(
        pl.lit(pl.Series(symbols)).gather(pl.col("file")).alias("symbol"),
        ts=pl.col("micros").cast(pl.Datetime("us", "UTC")),
        label=pl.col("micros").cast(pl.Datetime("us", "UTC")),
        vwap=pl.lit(None, pl.Float64),
    )


def _without_filler(bars: pl.DataFrame) -> pl.DataFrame:
    filler = (pl.col("volume") == 0) & (pl.col("trade_count") == 0)
    for symbol, count in bars.filter(filler).group_by("symbol", maintain_order=True).len().iter_rows():
        log.info("dropped %d filler bars of %s (no volume, no trades)", count, symbol)
    return bars.filter(~filler)
