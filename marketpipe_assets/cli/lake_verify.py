"""`marketpipe lake verify`: whether every file of the lake is what was written."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from marketpipe_assets.cli.display import console, counted
from marketpipe_assets.cli.options import ConfigOption, MarketOption, configuration
from marketpipe_assets.cli.outcome import UserError, note, one_line, say


def verify(
    market: MarketOption = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what a killed write left behind.")] = False,
    config: ConfigOption = None,
) -> None:
    """Read every page of every file with its checksum, and compare what files say of themselves with their place.

    Exits 1 where a file is damaged; remove it and ingest its period again.
    """
    lake = configuration(config).lake
    root = lake if market is None else lake / market
    if not root.is_dir():
        raise UserError(f"expected a lake with bars, was no folder {root}")
    begun = {*_begun(lake)}
    files = [path for path in sorted(root.rglob("*")) if not path.is_dir() and path not in begun]
    placed = [path for path in files if has_a_place(lake, path)]
    damaged = [(path, reason) for path in _shown(placed) if (reason := _damage(lake, path)) is not None]
    for path in sorted({*files} - {*placed}):
        note(f"{path} is no file of the lake")
    _tell_leftovers(lake, remove=sweep)
    if damaged:
        say("\n".join(one_line(f"{path}: {reason}") for path, reason in damaged), 1)
        raise typer.Exit(say(f"{len(damaged)} of {counted(len(placed), 'file')} damaged", 1))
    console().print(f"{counted(len(placed), 'file')} verified in {root}", soft_wrap=True)


def _tell_leftovers(lake: Path, *, remove: bool) -> None:
    from marketpipe_assets.lake.parquet import sweep

    if remove:
        note(f"{counted(sweep(lake), 'file')} left by killed writes removed")
    for path in _begun(lake):
        note(f"{path} was begun and not finished; --sweep removes it unless it is being written")


def has_a_place(lake: Path, path: Path) -> bool:
    """Whether bars are kept at this path."""
    from marketpipe_assets.bars.schema import MINUTE_TABLES
    from marketpipe_assets.bars.timeframes import TIMEFRAMES
    from marketpipe_assets.lake.layout import bar_file_of

    try:
        file = bar_file_of(lake, path)
        known = file.table in MINUTE_TABLES or file.table in {each.table for each in TIMEFRAMES.values()}
        return known and file.below(lake) == path
    except ValueError:
        return False


def _damage(lake: Path, path: Path) -> str | None:
    from marketpipe_assets.lake.layout import bar_file_of
    from marketpipe_assets.lake.parquet import damage, metadata

    file = bar_file_of(lake, path)
    return damage(path, metadata(file.market, file.table, file.symbol))


def _begun(lake: Path) -> list[Path]:
    from marketpipe_assets.lake.parquet import WRITING

    return sorted((lake / WRITING).glob("*"))


def _shown(files: list[Path]) -> Iterator[Path]:
    from rich.progress import track

    out = console(sys.stderr)
    return iter(track(files, "verifying", console=out, transient=True, disable=not out.is_terminal))
