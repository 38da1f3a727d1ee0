"""`marketpipe lake verify`: whether every file of the lake is what was written."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from marketpipe_assets.cli.display import console, counted
from marketpipe_assets.cli.options import ConfigOption, MarketsOption, chosen_market, configuration
from marketpipe_assets.cli.outcome import UserError, note, one_line, say


def verify(
    market: MarketsOption = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what a killed write left behind.")] = False,
    config: ConfigOption = None,
) -> None:
    """Read every page of every file with its checksum, and compare what files say of themselves with their place.

    Exits 1 where a file is damaged, and says how its bars come back.
    """
    from marketpipe_assets.lake.verify import damaged, files_of

    loaded = configuration(config)
    lake = loaded.lake
    root = lake if market is None else lake / chosen_market(loaded, market, ()).name
    if not root.is_dir():
        raise UserError(f"expected a lake with bars, was no folder {root}")
    placed, foreign = files_of(lake, root)
    bad = list(damaged(lake, _shown(placed)))
    for path in foreign:
        note(f"{path} is no file of the lake")
    _tell_leftovers(lake, remove=sweep)
    if bad:
        say("\n".join(one_line(f"{each.path}: {each.reason}") for each in bad), 1)
        raise typer.Exit(say(f"{len(bad)} of {counted(len(placed), 'file')} damaged", 1))
    console().print(f"{counted(len(placed), 'file')} verified in {root}", soft_wrap=True)


def _tell_leftovers(lake: Path, *, remove: bool) -> None:
    from marketpipe_assets.lake.parquet import sweep
    from marketpipe_assets.lake.verify import unfinished

    if remove:
        note(f"{counted(sweep(lake), 'file')} left by killed writes removed")
    for path in unfinished(lake):
        note(f"{path} was begun and not finished; --sweep removes it unless it is being written")


def _shown(files: Sequence[Path]) -> Iterator[Path]:
    from rich.progress import track

    out = console(sys.stderr)
    return iter(track(files, "verifying", console=out, transient=True, disable=not out.is_terminal))
