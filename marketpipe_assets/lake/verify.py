"""Whether the files of a lake are what was written."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from marketpipe_assets.bars.schema import MINUTE_TABLES, VENDOR_DAYS
from marketpipe_assets.bars.timeframes import TIMEFRAMES
from marketpipe_assets.lake.layout import bar_file_of
from marketpipe_assets.lake.parquet import WRITING, damage, metadata


class Damaged(NamedTuple):
    path: Path
    reason: str


class Files(NamedTuple):
    """Files at a place where bars are kept, and those at none; what killed writers left is in neither."""

    placed: Sequence[Path]
    foreign: Sequence[Path]


def files_of(lake: Path, root: Path) -> Files:
    """Every file below `root`, a folder of the lake, sorted."""
    begun = {*unfinished(lake)}
    found = [path for path in sorted(root.rglob("*")) if not path.is_dir() and path not in begun]
    placed = [path for path in found if has_a_place(lake, path)]
    return Files(placed, sorted({*found} - {*placed}))


def damaged(lake: Path, files: Iterable[Path]) -> Iterator[Damaged]:
    """Those of the files that cannot be read or are not what their place says. Reads every page."""
    for path in files:
        file = bar_file_of(lake, path)
        reason = damage(path, metadata(file.market, file.table, file.symbol))
        if reason is not None:
            yield Damaged(path, reason)


def has_a_place(lake: Path, path: Path) -> bool:
    """Whether bars are kept at this path."""
    try:
        file = bar_file_of(lake, path)
        known = file.table in {*MINUTE_TABLES, VENDOR_DAYS, *(each.table for each in TIMEFRAMES.values())}
        return known and file.below(lake) == path
    except ValueError:
        return False


def unfinished(lake: Path) -> list[Path]:
    """What writers that were killed, or are at work, have begun."""
    return sorted((lake / WRITING).glob("*"))
