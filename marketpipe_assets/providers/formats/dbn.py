"""Databento DBN files of the schema ohlcv-1m, plain or zstd, anywhere below root."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import databento_dbn
import numpy as np
import polars as pl

from marketpipe_assets.bars.schema import PRICES
from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.archive import Limits, file_bytes, first_bytes, most_bytes
from marketpipe_assets.providers.formats.minutes import check_cadence
from marketpipe_assets.providers.formats.prices import descaled
from marketpipe_assets.providers.formats.reader import READ_COLUMNS, Reader

_SCHEMA = "ohlcv-1m"
_RTYPE = 33
_PREFIX_BYTES = 8
_UNDEFINED_TIME = 2**64 - 1
_UNDEFINED_PRICE = 2**63 - 1
_PRICE_SCALE = 1_000_000_000

_RECORD = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
    *((name, "<i8") for name in PRICES),
    ("volume", "<u8"),
]
_SENT = ("ts_out", "<u8")


class Download(NamedTuple):
    """A file and what its header says."""

    path: Path
    metadata: databento_dbn.Metadata
    header_bytes: int


class Dbn(Reader):
    """Files of a drop folder whose header overlaps the range, by their first instant.

    Symbols are the header's, dated: an instrument id may belong to another symbol tomorrow. An undefined price is null.
    """

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        paths = sorted(path for suffix in ("dbn", "dbn.zst") for path in self.settings.root.rglob(f"*.{suffix}"))
        headers = [_download(path, self.settings.limits) for path in paths]
        overlapping = [download for download in headers if _overlaps(download.metadata, start, end)]
        downloads = sorted(overlapping, key=lambda download: download.metadata.start)
        if not downloads:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        bars = pl.concat(self._bars_of(position, download, symbols) for position, download in enumerate(downloads))
        check_cadence(bars, [str(download.path) for download in downloads])
        return bars.select(*READ_COLUMNS)

    def _bars_of(self, position: int, download: Download, symbols: Sequence[str]) -> pl.DataFrame:
        records = self._records(download)
        named = _named(records, download).filter(pl.col("symbol").is_in(list(symbols)))
        bars = named.select(
            pl.lit(position, pl.UInt32).alias("file"),
            "symbol",
            pl.col("nanos").cast(pl.Datetime("ns", "UTC")).dt.cast_time_unit("us").alias("ts"),
            pl.when(pl.col(PRICES) != _UNDEFINED_PRICE).then(pl.col(PRICES)).name.keep(),
            pl.col("volume").cast(pl.Float64),
            pl.lit(None, pl.Int64).alias("trade_count"),
            pl.lit(None, pl.Float64).alias("vwap"),
        )
        return descaled(bars, _PRICE_SCALE)

    def _records(self, download: Download) -> pl.DataFrame:
        path, metadata, header_bytes = download
        if str(metadata.schema) != _SCHEMA:
            raise BadFile(f"{path}: expected the schema {_SCHEMA}, was {metadata.schema}")
        body = file_bytes(path, self.settings.limits)[header_bytes:]
        record = np.dtype([*_RECORD, _SENT] if metadata.ts_out else _RECORD)
        if not body or len(body) % record.itemsize:
            raise BadFile(
                f"{path}: expected records of {record.itemsize} bytes, was {len(body)} bytes: it is truncated"
            )
        records = np.frombuffer(body, dtype=record)
        others = np.unique(records["rtype"][records["rtype"] != _RTYPE])
        if others.size:
            raise BadFile(f"{path}: expected records of type {_RTYPE} ({_SCHEMA}), was {', '.join(map(str, others))}")
        wanted = {name: np.ascontiguousarray(records[name]) for name in ("instrument_id", *PRICES, "volume")}
        return pl.DataFrame({"nanos": records["ts_event"].astype(np.int64), **wanted})


def _download(path: Path, limits: Limits) -> Download:
    prefix = first_bytes(path, _PREFIX_BYTES)
    if prefix[:3] != b"DBN" or len(prefix) < _PREFIX_BYTES:
        raise BadFile(f"{path}: expected a DBN file, it begins with {prefix!r}")
    header_bytes = _PREFIX_BYTES + int.from_bytes(prefix[4:], "little")
    if header_bytes > (allowed := most_bytes(path, limits)):  # before that much memory is taken
        raise BadFile(f"{path}: expected a DBN header of at most {allowed} bytes, it says {header_bytes}")
    try:
        return Download(path, databento_dbn.Metadata.decode(first_bytes(path, header_bytes)), header_bytes)
    except databento_dbn.DBNError as error:
        raise BadFile(
            f"{path}: expected a DBN header of {header_bytes} bytes; reading it ended with: {error}"
        ) from error


def _overlaps(metadata: databento_dbn.Metadata, start: datetime, end: datetime) -> bool:
    return metadata.start < _nanos(end) and (metadata.end or _UNDEFINED_TIME) > _nanos(start)


def _named(records: pl.DataFrame, download: Download) -> pl.DataFrame:
    intervals = [
        (*_id_and_symbol(download.metadata, symbol, interval["symbol"]), interval["start_date"], interval["end_date"])
        for symbol, mapped in download.metadata.mappings.items()
        for interval in mapped
        if interval["symbol"]
    ]
    mapping = pl.DataFrame(
        intervals,
        schema={"instrument_id": pl.UInt32, "symbol": pl.String, "first": pl.Date, "beyond": pl.Date},
        orient="row",
    )
    day = pl.col("nanos").cast(pl.Datetime("ns")).dt.date()
    joined = records.with_row_index("record").join(mapping, on="instrument_id", maintain_order="left")
    named = joined.filter(day >= pl.col("first"), day < pl.col("beyond"))
    unnamed = records.height - named["record"].n_unique()
    if unnamed:
        raise BadFile(f"{download.path}: expected a symbol in the header for each record, {unnamed} have none")
    return named


def _id_and_symbol(metadata: databento_dbn.Metadata, asked: str, mapped: str) -> tuple[int, str]:
    by_id = str(metadata.stype_out) == "instrument_id"
    return (int(mapped), asked) if by_id else (int(asked), mapped)


def _nanos(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
