"""Which runs fetch a set of symbol-days: the fewest ranges of neighbouring partitions that are exactly it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import ceil
from typing import TypeVar

import numpy as np

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.defs.rectangles import Rectangle, rectangles

Column = TypeVar("Column")
Row = TypeVar("Row")


def planned_runs(market: Market, wanted: Mapping[date, Sequence[str]], most: int | None = None) -> list[Selection]:
    """Rectangles that together are the wanted symbol-days and no others, none of more than `most` of them.

    Without `most` the market's limit for one run holds.

    Oldest first. Symbols that were retired from the market have no partitions and stand among the others by name.
    """
    days = {day: symbols for day, symbols in wanted.items() if symbols}
    if not days:
        return []
    symbols = sorted({*market.symbols, *(symbol for each in days.values() for symbol in each)})
    dates = market.sessions.between(min(days), next_day(max(days)))
    pairs = ((symbol, day) for day, each in days.items() for symbol in each)
    return [Selection(*part) for part in ranges(symbols, dates, pairs, most or market.max_symbol_days_per_run)]


def ranges(
    columns: Sequence[Column], rows: Sequence[Row], wanted: Iterable[tuple[Column, Row]], most: int
) -> list[tuple[Sequence[Column], Sequence[Row]]]:
    """Neighbouring columns × neighbouring rows that together are the wanted pairs, none of more than `most` pairs.

    `columns` and `rows` are keys in the order of the Dagster instance, whose runs take all that lies between two keys.
    The ranges are as few as there can be where none has to be split for its size. By first row, then first column.
    """
    column_of = {each: number for number, each in enumerate(columns)}
    row_of = {each: number for number, each in enumerate(rows)}
    cells = np.zeros((len(rows), len(columns)), dtype=bool)
    for column, row in wanted:
        cells[row_of[row], column_of[column]] = True
    parts = sorted(part for whole in rectangles(cells) for part in _within(whole, most))
    return [(columns[part.left : part.right], rows[part.top : part.bottom]) for part in parts]


def _within(whole: Rectangle, most: int) -> list[Rectangle]:
    """The rectangle cut into equal ones of at most `most` cells; of the ways to cut as few as it, the widest.

    A run takes long files as they are: the more symbols it holds, the fewer times their months are merged.
    """
    height, width = whole.bottom - whole.top, whole.right - whole.left
    if height * width <= most:
        return [whole]
    _, narrow = min((ceil(width / wide) * ceil(height / (most // wide)), -wide) for wide in _widths(width, most))
    wide, long = -narrow, most // -narrow
    return [
        Rectangle(top, min(top + long, whole.bottom), left, min(left + wide, whole.right))
        for top in range(whole.top, whole.bottom, long)
        for left in range(whole.left, whole.right, wide)
    ]


def _widths(width: int, most: int) -> range:
    return range(1, min(width, most) + 1)
