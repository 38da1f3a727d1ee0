"""One Parquet file: replace it whole or not at all, read it with its checksums, verify it."""

import errno
import fcntl
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import SEEK_END, BytesIO
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe_assets.bars.order import first_rows
from marketpipe_assets.bars.schema import PRICES, RAW, SECOND, SUPERSEDED, VENDOR_DAYS, columns_of
from marketpipe_assets.lake.layout import folder_symbol, locks_of, period_of

SCHEMA_VERSION = "1"
ROW_GROUP = 8192  # a month of regular minutes: read whole it costs what larger groups do, by day a twelfth of a year's
DICTIONARIES = ["session", "provider", "feed", *PRICES]  # prices come back within a month: a fifth of all bytes
DELTAS = dict.fromkeys(("ts", "session_date", "trade_count"), "DELTA_BINARY_PACKED")  # a fifth of all bytes
STATISTICS = ["ts", "session_date"]
MANY = 100_000  # rows of a frame: with fewer, polars' own conversion to Arrow is done before ours has begun
WRITING = ".writing"
PARTS = 4  # of a path below the lake: market, table, symbol, period
LOCK_FILE = "files.lock"  # one for all: each file of the lake is a byte of it, by its name
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FOOTER_END = 8  # the footer's length and the magic number
SEAL = Struct("<III")  # CRC of the pages, number of rows, CRC of these two and of the footer
SAID = Struct("<II")  # the first two
FETCHES = "fetches"  # what a raw file says of the fetches it comes from; facts.py reads and writes it


class LakeError(Exception):
    """The lake cannot hold or give bars; the message names the file.

    LakeError
    └── DamagedFile     a file is not what was written: a checksum, its footer, its schema or its place is wrong
    """


class DamagedFile(LakeError):
    """A file that must not be read, nor merged into. `marketpipe lake verify` lists them; `reason` is one line."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}; remove it and {_remedy(path)}")
        self.reason = reason


def _remedy(path: Path) -> str:
    """How the bars of a file come back: those a provider gave are asked for, the others follow from stored ones."""
    market, table, symbol = path.parts[-4], path.parts[-3], folder_symbol(path.parts[-2])
    if table == SUPERSEDED:
        return "do without these earlier versions: nobody else has them"
    if table == RAW:
        return f"ingest {symbol} {path.stem} again"
    if table in (SECOND, VENDOR_DAYS):
        return f"run the job {market}_compare for {symbol} {path.stem}"
    return f"run marketpipe aggregate --symbols {symbol} --all"


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


class _Begun(NamedTuple):
    """A file that is written beside its place."""

    path: Path
    temporary: Path
    file: BinaryIO


Replace = Callable[[Path, pa.Table], int]
"""Takes a path and its new bars, and gives the bytes written."""


@contextmanager
def replacing() -> Iterator[Replace]:
    """What writes files beside their places, each of which takes its place at the end.

    They do so in the order they were given. Call both under `locked`, and the function from as many threads as there
    are. Killed at any moment, it leaves of each file the earlier one or the new one, whole; what was begun is
    overwritten by the next writer of the same file, or swept. Raises `LakeError` where the disk is full, mostly before
    any has taken its place. Files that are flushed together share a commit of the file system, which is half the cost
    of a flush after each.
    """
    begun: deque[_Begun] = deque()

    def begin(path: Path, bars: pa.Table) -> int:
        temporary = temporary_of(path)
        content = _sealed(bars)
        with _full_disk_told(path):
            for folder in (temporary.parent, path.parent):
                _make(folder)
            file = temporary.open("wb")  # one without a buffer takes a short write for a whole one
            begun.append(_Begun(path, temporary, file))
            file.writelines(content)
            file.flush()
            _start_flush(file.fileno())
        return sum(map(len, content))

    try:
        yield begin
        for each in begun:
            with _full_disk_told(each.path):
                os.fsync(each.file.fileno())  # else a power cut leaves an empty file that the run's events call stored
        while begun:
            with _full_disk_told(begun[0].path):
                begun[0].temporary.replace(begun[0].path)
            begun.popleft().file.close()
    finally:
        for each in begun:
            with suppress(OSError):  # what its buffer still holds does not fit the disk, as was told already
                each.file.close()
            each.temporary.unlink(missing_ok=True)


def _start_flush(descriptor: int) -> None:
    """Let the disk begin, so that whoever waits for it later waits less. Pages that are not yet flushed stay cached."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise LakeError(f"no space left on the disk while writing {path}: the earlier file is untouched") from error
        raise


def replace_file(path: Path, bars: pa.Table) -> int:
    """`replacing` for one file."""
    with replacing() as replace:
        return replace(path, bars)


def encoded_size(bars: pa.Table) -> int:
    """The bytes that `replace_file` would write."""
    return sum(map(len, _sealed(bars)))


def _sealed(bars: pa.Table) -> tuple[memoryview, bytes, memoryview]:
    """Pages, seal and footer of a Parquet file.

    Page checksums do not cover the footer: of 500 bits flipped in one 168 changed nothing or some value silently, and
    a few made the reader abort the process. polars does not look at them either. The seal covers every byte, and says
    how many rows there are without a look into the footer. Readers of Parquet find the footer from the end of the file
    and pages by offset, so they never see the seal between.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        bars,
        sink,
        compression="lz4",  # with deltas as small as zstd without, on real bars; 0.6 of its time to write and to read
        use_dictionary=DICTIONARIES,
        column_encoding=DELTAS,
        write_statistics=STATISTICS,
        write_page_checksum=True,
        row_group_size=ROW_GROUP,
    )
    content = memoryview(sink.getvalue())
    footer = content[-FOOTER_END - int.from_bytes(content[-FOOTER_END:-4], "little") :]
    pages = content[: -len(footer)]
    said = SAID.pack(crc32(pages), bars.num_rows)
    return pages, said + crc32(footer, crc32(said)).to_bytes(4, "little"), footer


def temporary_of(path: Path) -> Path:
    """Where a file is written before it takes its place: on the lake's file system, apart from what readers scan.

    polars refuses to scan a folder below which any file is called otherwise than the others.
    """
    lake, *_ = str(path).rsplit(os.sep, PARTS)
    return Path(f"{lake}/{WRITING}/{_flat(path)}{WRITING}")


def sweep(lake: Path) -> int:
    """Remove what killed writers began, and give how many. What is being written now is left alone."""
    return sum(_swept(temporary, lake) for temporary in (lake / WRITING).glob(f"*{WRITING}"))


def _swept(temporary: Path, lake: Path) -> bool:
    """Whether nobody was writing it: a writer holds the lock as long as its temporary file is there."""
    try:
        with _held(locks_of(lake), [_place(temporary.name.removesuffix(WRITING))], wait=False):
            temporary.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(paths: Iterable[Path], locks: Path) -> Iterator[None]:
    """Hold the locks of files of the lake, against other processes and threads. A killed holder lets go of them."""
    with _held(locks, sorted({_place(_flat(path)) for path in paths})):
        yield


@contextmanager
def alone(locks: Path) -> Iterator[None]:
    """Hold the locks of every file of the lake: nobody else writes. Call it while holding none of them."""
    with _held(locks, [EVERY]):
        yield


class _Place(NamedTuple):
    """Bytes of the file of locks; a length of 0 goes on for ever."""

    first: int
    length: int


EVERY = _Place(0, 0)


@contextmanager
def _held(locks: Path, places: Sequence[_Place], *, wait: bool = True) -> Iterator[None]:
    """In their order, which is the same for all, so that no two wait for each other."""
    _make(locks)  # a lake that was moved or copied has none
    descriptor = os.open(locks / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        for place in places:
            _lock(descriptor, place, wait=wait)
        yield
    finally:
        _unlock(descriptor)  # a child that was forked meanwhile has the descriptor as well
        os.close(descriptor)


if sys.platform == "linux":
    FLOCK = Struct("hhqqi4x")  # of fcntl(2): type, whence, first byte, length, no process

    def _lock(descriptor: int, place: _Place, *, wait: bool) -> None:
        """The kernel's own lock of an open file: it goes with the process, and no two threads share it."""
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(descriptor, command, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, *place, 0))

    def _unlock(descriptor: int) -> None:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, *EVERY, 0))

else:

    def _lock(descriptor: int, place: _Place, *, wait: bool) -> None:  # noqa: ARG001
        """Of the whole lake: Python does not know the locks of open files' bytes there."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _make(folder: Path) -> None:
    if not folder.is_dir():  # to look costs a tenth of trying to make one that is there
        folder.mkdir(parents=True, exist_ok=True)


def _place(name: str) -> _Place:
    owner = name.replace(f"+{SUPERSEDED}+", f"+{RAW}+")  # written by whoever holds the raw file it comes from
    return _Place(crc32(owner.encode()), 1)


def _flat(path: Path) -> str:
    return "+".join(
        str(path).rsplit(os.sep, PARTS)[1:]
    )  # in a market, table, folder of a symbol or period there is no +


class Content(NamedTuple):
    """The bytes of a sound file, and how many rows they hold."""

    file: bytes
    rows: int


def content_of(path: Path) -> Content | None:
    """The file with every byte verified; None where there is no file. Raises `DamagedFile`."""
    try:
        with path.open("rb", buffering=0) as source:
            content = source.read()
    except FileNotFoundError:
        return None
    end = _end_of(BytesIO(content), path)
    pages, rows = SAID.unpack_from(end)
    if crc32(memoryview(content)[: -len(end)]) != pages:
        raise DamagedFile(path, "expected the pages that were written, was others")
    return Content(content, rows)


def read_file(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """The file's bars with seal and page checksums verified; None where there is no file. Raises `DamagedFile`."""
    content = content_of(path)
    if content is None:
        return None
    try:
        file = pq.ParquetFile(pa.BufferReader(content.file), page_checksum_verification=True)
        return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(path, str(error)) from error


def check_footer(path: Path) -> bool:
    """Whether there is a file; raises `DamagedFile` where its footer is not the one that was written. Reads no page."""
    try:
        with path.open("rb") as source:
            _end_of(source, path)
    except FileNotFoundError:
        return False
    return True


def read_footer(path: Path) -> pq.FileMetaData | None:
    """What the file says of itself, its seal verified; None where there is no file. Raises `DamagedFile`."""
    try:
        with path.open("rb") as source:
            end = _end_of(source, path)
    except FileNotFoundError:
        return None
    return pq.read_metadata(pa.BufferReader(end))


def _end_of(source: BinaryIO, path: Path) -> bytes:
    """Seal and footer of a file. Raises `DamagedFile` where they do not agree."""
    size = source.seek(0, SEEK_END)
    source.seek(-min(size, FOOTER_END), SEEK_END)
    length = SEAL.size + int.from_bytes(source.read(4), "little") + FOOTER_END
    source.seek(-min(size, length), SEEK_END)
    end = source.read()
    if size < length or crc32(memoryview(end)[SEAL.size :], crc32(end[: SAID.size])) != SEAL.unpack_from(end)[2]:
        raise DamagedFile(path, "expected the footer that was written, was another")
    return end


def damage(path: Path, expected: Mapping[str, str]) -> str | None:
    """What is wrong with a file: None, or one line. Reads every page. `expected` is its `metadata`."""
    try:
        bars = read_file(path)
    except DamagedFile as error:
        return error.reason
    if bars is None:
        return "the file is gone"
    if not bars.num_rows and FETCHES.encode() not in (bars.schema.metadata or {}):
        return "expected bars, was an empty file"
    return _misplaced(path, bars, expected)


def _misplaced(path: Path, bars: pa.Table, expected: Mapping[str, str]) -> str | None:
    said = {key.decode(): value.decode() for key, value in (bars.schema.metadata or {}).items()}
    wrong = {key: said.get(key) for key, value in expected.items() if said.get(key) != value}
    if wrong:
        return f"expected {', '.join(f'{key} {expected[key]!r}' for key in wrong)}, was {wrong}"
    table = expected["table"]
    columns = {"symbol": pl.String(), **frame_of(bars.slice(0, 0)).schema}
    if columns != columns_of(table):
        return f"expected columns {dict(columns_of(table))}, was {columns}"
    periods = {period_of(table, day) for day in frame_of(bars)["session_date"].unique()}
    if not periods <= {path.stem}:
        return f"expected sessions of {path.stem}, was {', '.join(sorted(periods))}"
    return None


def table_of(bars: pl.DataFrame) -> pa.Table:
    """The bars as they are written: the reverse of `frame_of`."""
    if bars.height < MANY:
        return bars.to_arrow()
    schema = bars.clear().to_arrow().schema  # says which columns are categoricals of polars
    return pa.table([_array_of(column) for column in bars], schema=schema)


def _array_of(column: pl.Series) -> pa.Array:
    """Of a categorical polars looks up the code of every row; that of each run is a tenth of the work."""
    if column.dtype != pl.Categorical or column.null_count():
        return column.to_arrow()
    starts = first_rows(column.to_physical().to_numpy())
    runs = column.gather(starts).to_arrow()
    lengths = np.diff(starts, append=column.len())
    return pa.DictionaryArray.from_arrays(np.repeat(runs.indices.to_numpy(), lengths), runs.dictionary)


def frame_of(bars: pa.Table) -> pl.DataFrame:
    """The polars view of a file's bars, without its metadata."""
    frame: pl.DataFrame = pl.from_arrow(bars)  # type: ignore[assignment]  # a table never becomes a Series
    return frame
