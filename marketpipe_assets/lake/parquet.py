"""One Parquet file: replace it whole or not at all, read it with its checksums, verify it."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from marketpipe_assets.bars.schema import columns_of

SCHEMA_VERSION = "1"
ROW_GROUP = 8192  # a month of regular minutes: read whole it costs what larger groups do, by day a twelfth of a year's
DICTIONARIES = ["session", "provider", "feed"]
STATISTICS = ["ts", "session_date"]
TEMPORARY = ".writing"


class LakeError(Exception):
    """The lake cannot hold or give bars; the message names the file.

    LakeError
    └── DamagedFile     a file is not what was written: a checksum, its footer, its schema or its place is wrong
    """


class DamagedFile(LakeError):
    """A file that must not be read; `marketpipe lake verify` lists them, a new ingest of its period replaces it."""


def metadata(market: str, table: str, symbol: str) -> Mapping[str, str]:
    """What every file says of itself."""
    return {
        "schema_version": SCHEMA_VERSION,
        "market": market,
        "table": table,
        "symbol": symbol,
        "adjustment": "raw",
        "label": "start",
    }


def replace_file(path: Path, bars: pa.Table) -> int:
    """Put `bars` at `path`, whole or not at all, and give the bytes written. Call it under `locked`.

    Killed at any moment, it leaves the earlier file or the new one; what was begun is overwritten by the next writer
    of the same file. Raises `LakeError` where the disk is full, and leaves the earlier file in place.
    """
    temporary = temporary_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(
            bars,
            temporary,
            compression="zstd",
            compression_level=1,
            use_dictionary=DICTIONARIES,
            write_statistics=STATISTICS,
            write_page_checksum=True,
            row_group_size=ROW_GROUP,
        )
        size = temporary.stat().st_size
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            raise LakeError(f"no space left on the disk while writing {path}: the earlier file is untouched") from error
        raise
    return size


def temporary_of(path: Path) -> Path:
    """The one name a file is written under before it takes its place; readers never plan it."""
    return path.with_name(f".{path.name}{TEMPORARY}")


@contextmanager
def locked(path: Path, locks: Path) -> Iterator[None]:
    """Hold the lock of one file of the lake. The lock is a file below `locks`, never in the lake."""
    name = "+".join(path.parts[-4:])
    with FileLock(locks / f"{name}.lock"):
        yield


def read_file(path: Path, columns: Sequence[str] | None = None, dates: Sequence[date] | None = None) -> pa.Table | None:
    """The file's bars with page checksums verified; None where there is no file.

    With `dates`, row groups that hold none of them are skipped; those that are read are given whole.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = range(file.num_row_groups)
            if dates is not None and len(groups) > 1:
                groups = _groups_with(file.metadata, min(dates), max(dates))
            return file.read_row_groups(list(groups), columns=list(columns) if columns is not None else None)
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error


def _groups_with(footer: pq.FileMetaData, first: date, last: date) -> list[int]:
    column = footer.schema.names.index("session_date")
    spans = ((n, footer.row_group(n).column(column).statistics) for n in range(footer.num_row_groups))
    return [n for n, span in spans if span is None or (span.min <= last and span.max >= first)]


def damage(path: Path, expected: Mapping[str, str]) -> str | None:
    """What is wrong with a file: None, or one line. Reads every page. `expected` is its `metadata`."""
    try:
        bars = read_file(path)
    except DamagedFile as error:
        return str(error.__cause__)
    if bars is None:
        return "the file is gone"
    said = {key.decode(): value.decode() for key, value in (bars.schema.metadata or {}).items()}
    wrong = {key: said.get(key) for key, value in expected.items() if said.get(key) != value}
    if wrong:
        return f"expected {', '.join(f'{key} {expected[key]!r}' for key in wrong)}, was {wrong}"
    columns = {"symbol": pl.String(), **frame_of(bars.slice(0, 0)).schema}
    if columns != columns_of(expected["table"]):
        return f"expected columns {dict(columns_of(expected['table']))}, was {columns}"
    return None if bars.num_rows else "expected bars, was an empty file"


def frame_of(bars: pa.Table) -> pl.DataFrame:
    """The polars view of a file's bars, without its metadata."""
    frame: pl.DataFrame = pl.from_arrow(bars)  # type: ignore[assignment]  # a table never becomes a Series
    return frame
