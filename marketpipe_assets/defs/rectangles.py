"""The fewest rectangles that are exactly the wanted cells of a grid. Which partitions the cells are is planner.py's.

Without a limit on their size the number is the least there is: corners that turn inwards, minus the most chords between
two of them that do not touch, and one for each part that hangs together, less its holes (Ohtsuki 1982; Ferrari,
Sankar and Sklansky 1984). The most such chords are found by a matching of horizontal and vertical ones.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

MOST_CROSSINGS = 200_000
"""Crossings of chords up to which the matching is searched; it takes a second there."""


class Rectangle(NamedTuple):
    """Cells of rows `[top, bottom)` and columns `[left, right)`."""

    top: int
    bottom: int
    left: int
    right: int


class _Chords(NamedTuple):
    """Straight cuts from one inward corner to another: `line` is their row (or column), `start` and `end` lie on it."""

    line: Whole
    start: Whole
    end: Whole


def rectangles(cells: Cells) -> list[Rectangle]:
    """Disjoint rectangles that together are the true cells, by their top left cell in reading order.

    As few as can be up to `MOST_CROSSINGS`; beyond, where the holes of a nearly full grid see one another in both
    directions, horizontal cuts are taken alone, which is at most twice as many.
    """
    padded = np.pad(cells, 1)
    corners = _inward_corners(padded)
    across = padded[:-1, 1:-1] & padded[1:, 1:-1]  # edges between a cell and the one below it
    down = padded[1:-1, :-1] & padded[1:-1, 1:]  # edges between a cell and the one to its right
    horizontal, vertical = _chords(across, corners), _chords(down.T, corners.T)
    keep_horizontal, keep_vertical = _apart(horizontal, vertical)
    cut_across, cut_down = np.zeros_like(across), np.zeros_like(down)
    open_corners = corners.copy()
    for line, start, end in zip(*(part[keep_horizontal] for part in horizontal), strict=True):
        cut_across[line, start:end] = True
        open_corners[line, [start, end]] = False
    for line, start, end in zip(*(part[keep_vertical] for part in vertical), strict=True):
        cut_down[start:end, line] = True
        open_corners[[start, end], line] = False
    _cut_from(open_corners, across, cut_across, cut_down)
    return _pieces(cells, ~across | cut_across, ~down | cut_down)


def _inward_corners(padded: Cells) -> Cells:
    """Points of the grid of which three of the four cells around are wanted."""
    around = padded.astype(np.int8)
    found: Cells = around[:-1, :-1] + around[:-1, 1:] + around[1:, :-1] + around[1:, 1:] == 3
    return found


def _runs(edges: Cells) -> _Chords:
    """Longest straight lines of edges in each row."""
    bounded = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    line, start = np.nonzero(bounded == 1)
    _, end = np.nonzero(bounded == -1)
    return _Chords(line, start, end)


def _chords(edges: Cells, corners: Cells) -> _Chords:
    """A line of inner edges stops at the border; between its ends no point is a corner."""
    line, start, end = _runs(edges)
    both = corners[line, start] & corners[line, end]
    return _Chords(line[both], start[both], end[both])


def _apart(horizontal: _Chords, vertical: _Chords) -> tuple[Cells, Cells]:
    """Which chords to cut along: the most of which no two have a point in common."""
    crossings = _crossings(horizontal, vertical)
    if crossings is None:
        return np.ones(horizontal.line.size, dtype=bool), np.zeros(vertical.line.size, dtype=bool)
    partner_of = _matching(crossings, vertical.line.size)
    # König: what alternating paths from unmatched horizontal chords reach, kept there and left out on the other side.
    matched = set(partner_of.values())
    reached_horizontal = {number for number in range(len(crossings)) if number not in matched}
    reached_vertical = set[int]()
    queue = deque(reached_horizontal)
    while queue:
        for other in crossings[queue.popleft()]:
            if other not in reached_vertical:
                reached_vertical.add(other)
                if (back := partner_of.get(other)) is not None and back not in reached_horizontal:
                    reached_horizontal.add(back)
                    queue.append(back)
    keep = np.zeros(horizontal.line.size, dtype=bool)
    keep[list(reached_horizontal)] = True
    keep_other = np.ones(vertical.line.size, dtype=bool)
    keep_other[list(reached_vertical)] = False
    return keep, keep_other


def _crossings(horizontal: _Chords, vertical: _Chords) -> list[Sequence[int]] | None:
    """For each horizontal chord the vertical ones it touches; None where there are too many."""
    order = np.argsort(vertical.line, kind="stable")
    lines = vertical.line[order]
    first = np.searchsorted(lines, horizontal.start, side="left")
    last = np.searchsorted(lines, horizontal.end, side="right")
    if int((last - first).sum()) > MOST_CROSSINGS * 50:
        return None
    found, total = [], 0
    for row, begin, end in zip(horizontal.line, first, last, strict=True):
        near = order[begin:end]
        touched = near[(vertical.start[near] <= row) & (row <= vertical.end[near])]
        total += touched.size
        if total > MOST_CROSSINGS:
            return None
        found.append(touched.tolist())
    return found


def _matching(crossings: Sequence[Sequence[int]], others: int) -> dict[int, int]:
    """A largest matching, other → one: each one left over takes the end of a path that alternates, breadth first."""
    partner_of: dict[int, int] = {}
    seen_in = [-1] * others
    for one in range(len(crossings)):
        came_from: dict[int, int] = {}
        queue = deque([one])
        free = None
        while queue and free is None:
            each = queue.popleft()
            for other in crossings[each]:
                if seen_in[other] == one:
                    continue
                seen_in[other] = one
                came_from[other] = each
                if other not in partner_of:
                    free = other
                    break
                queue.append(partner_of[other])
        _flip(free, came_from, partner_of, one)
    return partner_of


def _flip(free: int | None, came_from: dict[int, int], partner_of: dict[int, int], root: int) -> None:
    partners = {one: other for other, one in partner_of.items() if other in came_from} if free is not None else {}
    while free is not None:
        one = came_from[free]
        partner_of[free] = one
        free = partners.get(one) if one != root else None


def _cut_from(corners: Cells, across: Cells, cut_across: Cells, cut_down: Cells) -> None:
    """Cut along the row from each corner that no chord has used, until the border or a chord across."""
    walls = np.zeros_like(corners)
    walls[1:-1] = cut_down[:-1] & cut_down[1:]  # a chord passes through the point
    for row, column in zip(*np.nonzero(corners), strict=True):
        if column < across.shape[1] and across[row, column]:
            reach = _reach(across[row, column:], walls[row, column + 1 :])
            cut_across[row, column : column + reach] = True
        else:
            reach = _reach(across[row, :column][::-1], walls[row, :column][::-1])
            cut_across[row, column - reach : column] = True


def _reach(edges: Cells, walls: Cells) -> int:
    """How many edges from the first on are inner ones with no wall before them; `walls[n]` is after edge n."""
    stops = ~edges
    stops[1:] |= walls[: edges.size - 1]
    return int(stops.argmax()) if stops.any() else edges.size


def _pieces(cells: Cells, wall_across: Cells, wall_down: Cells) -> list[Rectangle]:
    """The rectangles between the walls."""
    tops, lefts = np.nonzero(cells & wall_across[:-1] & wall_down[:, :-1])
    right_of, below = wall_down[:, 1:], wall_across[1:]
    return [
        Rectangle(top, top + int(below[top:, left].argmax()) + 1, left, left + int(right_of[top, left:].argmax()) + 1)
        for top, left in zip(tops.tolist(), lefts.tolist(), strict=True)
    ]
