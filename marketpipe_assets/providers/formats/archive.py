"""Read compressed files within limits, so that no archive can fill the memory or name a file outside itself."""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import pyarrow as pa

from marketpipe_assets.providers.base import BadFile

_CHUNK = 1 << 20

Stream = IO[bytes] | gzip.GzipFile


class Limits(NamedTuple):
    """What one archive may hold. Real minute files expand 3 to 30 times; deflate can reach 1,000."""

    members: int = 10_000
    expanded_bytes: int = 2 << 30
    ratio: int = 200

    def allowance(self, compressed_bytes: int) -> int:
        """Bytes an archive of this size may expand to; below one megabyte the ratio does no harm."""
        return min(self.expanded_bytes, max(self.ratio * compressed_bytes, _CHUNK))


def file_bytes(path: Path, limits: Limits) -> bytes:
    """The content of a file, expanded where its name ends in `.gz` or `.zst`; never empty."""
    opened = _STREAMS.get(path.suffix, _plain)
    try:
        with opened(path) as stream:
            content = _drained(stream, path, limits)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{path}: expected a whole {path.suffix} file; reading it ended with: {error}") from error
    if not content:
        raise BadFile(f"{path}: expected rows, the file is empty")
    return content


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, expanded as `file_bytes` does; fewer where it is shorter."""
    try:
        with _STREAMS.get(path.suffix, _plain)(path) as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{path}: expected a whole {path.suffix} file; reading it ended with: {error}") from error


def most_bytes(path: Path, limits: Limits) -> int:
    """How many bytes a file may hold, expanded as `file_bytes` does: a plain one has its size."""
    size = path.stat().st_size
    return limits.allowance(size) if path.suffix in _STREAMS else min(size, limits.expanded_bytes)


def zip_members(path: Path, limits: Limits) -> Mapping[str, bytes]:
    """Members of a zip by name, in the archive's order; no member is empty."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_members(path, infos, limits)
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise BadFile(
            f"{path}: expected a whole zip of {path.stat().st_size} bytes; reading it ended with: {error}"
        ) from error


def _check_members(path: Path, infos: list[zipfile.ZipInfo], limits: Limits) -> None:
    if not infos:
        raise BadFile(f"{path}: expected at least one member, the zip is empty")
    if len(infos) > limits.members:
        raise BadFile(f"{path}: expected at most {limits.members} members, it has {len(infos)}")
    names = [info.filename for info in infos]
    for name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise BadFile(f"{path}: expected members inside the zip, one is named {name!r}")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise BadFile(f"{path}: expected each member once, twice there: {', '.join(repeated)}")
    empty = [info.filename for info in infos if info.file_size == 0]
    if empty:
        raise BadFile(f"{path}: expected rows in each member, empty: {', '.join(empty)}")
    expanded, allowed = sum(info.file_size for info in infos), limits.allowance(path.stat().st_size)
    if expanded > allowed:
        raise BadFile(f"{path}: expected at most {allowed} expanded bytes, it holds {expanded}")


def _drained(stream: Stream, path: Path, limits: Limits) -> bytes:
    allowed = limits.allowance(path.stat().st_size) if path.suffix in _STREAMS else limits.expanded_bytes
    chunks, total = [], 0
    while chunk := stream.read(_CHUNK):
        chunks.append(chunk)
        total += len(chunk)
        if total > allowed:
            raise BadFile(f"{path}: expected at most {allowed} expanded bytes, it holds more")
    return b"".join(chunks)


def _plain(path: Path) -> Stream:
    return path.open("rb")


def _gzip(path: Path) -> gzip.GzipFile:
    return gzip.open(path)


def _zstd(path: Path) -> Stream:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")  # type: ignore[no-any-return]  # pyarrow has no types


_STREAMS: Mapping[str, Callable[[Path], Stream]] = {".gz": _gzip, ".zst": _zstd}
