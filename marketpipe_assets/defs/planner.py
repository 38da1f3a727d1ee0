"""Which runs fetch a set of symbol-days: the fewest ranges of neighbouring partitions that are exactly it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import ceil
from typing import TypeVar

import numpy as np

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.defs.rectangles import Rectangle, rectangles

Column = TypeVar("Column")
Row = TypeVar("Row")


def planned_runs(grid: Grid, wanted: Mapping[date, Sequence[str]]) -> list[Selection]:
    """Rectangles that together are the wanted symbol-days and no others, none above the market's limit for one run.

    Oldest first. Partitions that are wanted whole are planned as such, so that each is one run's. Symbols that were
    retired from the market have no partitions and stand after the others.
    """
    days = {day: frozenset(symbols) for day, symbols in wanted.items() if symbols}
    if not days:
        return []
    most = grid.market.max_symbol_days_per_run
    whole = [] if grid.is_plain else _whole(grid, days, most)
    for symbols, dates in whole:
        days.update((day, days[day].difference(symbols)) for day in dates)
    rest = _symbol_days(grid, {day: symbols for day, symbols in days.items() if symbols}, most)
    return sorted([*whole, *rest], key=lambda run: (run.dates[0], run.symbols[0]))


def _whole(grid: Grid, wanted: Mapping[date, frozenset[str]], most: int) -> list[Selection]:
    """Runs of the partitions of which every session that is over is wanted for every symbol."""
    finished = {row: grid.finished(dates) for row, dates in grid.rows.items() if not wanted.keys().isdisjoint(dates)}
    cells = [
        (column, row)
        for row, dates in finished.items()
        for column, symbols in grid.columns.items()
        if dates and all(wanted.get(day, frozenset()).issuperset(symbols) for day in dates)
    ]
    parts = ranges(list(grid.columns), list(grid.rows), cells, max(1, most // grid.largest))
    return [
        Selection(
            sorted(symbol for column in columns for symbol in grid.columns[column]),
            [day for row in rows for day in finished[row]],
        )
        for columns, rows in parts
    ]


def _symbol_days(grid: Grid, wanted: Mapping[date, frozenset[str]], most: int) -> list[Selection]:
    if not wanted:
        return []
    known = grid.symbols
    retired = frozenset[str]().union(*wanted.values()).difference(known)
    dates = grid.market.sessions.between(min(wanted), next_day(max(wanted)))
    pairs = ((symbol, day) for day, symbols in wanted.items() for symbol in symbols)
    parts = ranges([*known, *sorted(retired)], dates, pairs, most)
    return [Selection(sorted(symbols), part) for symbols, part in parts]


def ranges(
    columns: Sequence[Column], rows: Sequence[Row], wanted: Iterable[tuple[Column, Row]], most: int
) -> list[tuple[Sequence[Column], Sequence[Row]]]:
    """Neighbouring columns × neighbouring rows that together are the wanted pairs, none of more than `most` pairs.

    `columns` and `rows` are keys in the order of the Dagster instance, whose runs take all that lies between two keys.
    The ranges are as few as there can be where none has to be split for its size, and where one has to, at most a tenth
    more. By first row, then first column.
    """
    column_of = {each: number for number, each in enumerate(columns)}
    row_of = {each: number for number, each in enumerate(rows)}
    cells = np.zeros((len(rows), len(columns)), dtype=bool)
    for column, row in wanted:
        cells[row_of[row], column_of[column]] = True
    parts = sorted(part for whole in rectangles(cells) for part in _within(whole, most))
    return [(columns[part.left : part.right], rows[part.top : part.bottom]) for part in parts]


def _within(whole: Rectangle, most: int) -> list[Rectangle]:
    """The rectangle cut into equal ones of at most `most` cells: of the ways to cut that take few, the longest ones.

    Longer ones put more sessions into a file at once, and ask a provider for more of a symbol at once. Ten days of 500
    symbols are as many cells as a year of 20, and write each file of a year 25 times.
    """
    height, width = whole.bottom - whole.top, whole.right - whole.left
    if height * width <= most:
        return [whole]
    ways = [(ceil(width / wide) * ceil(height / (most // wide)), wide) for wide in range(1, min(width, most) + 1)]
    fewest, _ = min(ways)
    wide = min(wide for count, wide in ways if count <= fewest * FEW)
    across, along = ceil(width / wide), ceil(height / (most // wide))
    wide, long = ceil(width / across), ceil(height / along)
    return [
        Rectangle(top, min(top + long, whole.bottom), left, min(left + wide, whole.right))
        for top in range(whole.top, whole.bottom, long)
        for left in range(whole.left, whole.right, wide)
    ]


FEW = 1.1
"""Of the fewest runs that a rectangle can be cut into."""
