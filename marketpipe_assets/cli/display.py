"""Tables and numbers as the terminal shows them."""

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 160
SMALL = 0.001  # below it six decimals are too few
SECONDS = "%Y-%m-%d %H:%M:%S"


def console(file: TextIO | None = None) -> "Console":
    """Standard output, or the file; as wide as the terminal, and wide where there is none."""
    from rich.console import Console

    out = file or sys.stdout
    return Console(file=out, width=None if out.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> "Table":
    """A table; the columns named in `numbers` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for header in headers:
        shown.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    return shown


def print_frame(frame: "pl.DataFrame", file: TextIO | None = None) -> None:
    """A frame as a table, times in UTC and without seconds where all are whole minutes."""
    import polars as pl

    times = {name: dtype.time_zone for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)}
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    whole = all(frame[name].dt.truncate("1m").equals(frame[name]) for name in times)
    shown = frame.with_columns(pl.col(name).dt.strftime("%Y-%m-%d %H:%M" if whole else SECONDS) for name in times)
    headers = {name: f"{name} (UTC)" if times.get(name) else name for name in frame.columns}
    console(file).print(table(list(headers.values()), shown.iter_rows(), numbers))


def cell(value: object) -> str:
    """Numbers with thousands separators and the digits that matter, lists as words, nothing for nothing."""
    match value:
        case None:
            return ""
        case list() | tuple():
            return ", ".join(map(str, value))
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case float():
            plain = value == 0 or SMALL <= abs(value) < math.inf
            return f"{value:,.6f}".rstrip("0").rstrip(".") if plain else f"{value:.6g}"
        case _:
            return str(value)


def size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def span(dates: Sequence[date]) -> str:
    return f"{dates[0]} to {dates[-1]}" if len(dates) > 1 else str(dates[0])


def some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def counted(count: int, noun: str) -> str:
    """`1 run`, `2,000 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
