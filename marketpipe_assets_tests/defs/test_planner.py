"""Ranges of partitions: exactly the wanted symbol-days, in as few runs as there can be."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets.defs.planner import planned_runs, ranges
from marketpipe_assets.defs.rectangles import Cells, Rectangle, rectangles
from marketpipe_assets.defs.wanted import requests_for
from marketpipe_assets.providers.base import Capabilities, Rate

SHARES = Market(
    name="shares",
    calendar="XNYS",
    asset_class="equity",
    provider="given",
    symbols=("ACME", "BOLT", "CASK"),
    start=date(2024, 1, 2),
)


def grid(*rows: str) -> Cells:
    return np.array([[each == "#" for each in row] for row in rows])


@st.composite
def grids(draw: st.DrawFn, most: int) -> Cells:
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    share = draw(st.integers(1, 9))
    return np.array([[draw(st.integers(0, 9)) < share for _ in range(width)] for _ in range(height)])


def covered(parts: Iterable[Rectangle], like: Cells) -> npt.NDArray[np.int64]:
    """How many of the rectangles hold each cell."""
    times: npt.NDArray[np.int64] = np.zeros(like.shape, dtype=np.int64)
    for part in parts:
        times[part.top : part.bottom, part.left : part.right] += 1
    return times


def fewest(cells: Cells) -> int:
    """By trying every way: the first cell left over lies in some rectangle of wanted cells, as its top left one."""
    height, width = cells.shape

    def bits(part: Rectangle) -> int:
        return sum(
            1 << (row * width + column)
            for row in range(part.top, part.bottom)
            for column in range(part.left, part.right)
        )

    wanted = sum(1 << (row * width + column) for row, column in np.argwhere(cells).tolist())
    every = [
        bits(Rectangle(top, bottom, left, right))
        for top in range(height)
        for bottom in range(top + 1, height + 1)
        for left in range(width)
        for right in range(left + 1, width + 1)
    ]
    inside = [each for each in every if each & ~wanted == 0]

    @cache
    def least(left_over: int) -> int:
        if not left_over:
            return 0
        first = left_over & -left_over
        starting = (each for each in inside if each & -each == first and each & ~left_over == 0)
        return 1 + min(least(left_over & ~each) for each in starting)

    return least(wanted)


@given(grids(9))
def test_rectangles_hold_each_wanted_cell_once_and_no_other(cells: Cells) -> None:
    assert (covered(rectangles(cells), cells) == cells).all()


@settings(max_examples=300)
@given(grids(4))
def test_no_other_way_needs_fewer_rectangles(cells: Cells) -> None:
    assert len(rectangles(cells)) == fewest(cells)


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        (grid("###", "###"), 1),
        (grid("##.", "###"), 2),
        (grid("#.", ".#"), 2),
        (grid("###", "#.#", "###"), 4),
        (grid(".#.", "###", ".#."), 3),
        (grid("...", "..."), 0),
        (grid("##..", "###.", ".###", "..##"), 4),
    ],
)
def test_shapes_take_as_many_rectangles_as_they_must(cells: Cells, count: int) -> None:
    assert len(rectangles(cells)) == count


def test_holes_that_see_one_another_by_the_thousand_are_covered_too() -> None:
    cells = np.ones((600, 600), dtype=bool)
    cells[1::2, 1::2] = False

    assert (covered(rectangles(cells), cells) == cells).all()


@given(grids(8), st.integers(1, 12))
def test_ranges_are_neighbours_hold_each_pair_once_and_keep_to_the_limit(cells: Cells, most: int) -> None:
    rows, columns = [f"day {n}" for n in range(cells.shape[0])], [f"symbol {n}" for n in range(cells.shape[1])]
    wanted = [(columns[column], rows[row]) for row, column in np.argwhere(cells)]

    parts = ranges(columns, rows, wanted, most)

    assert sorted((column, row) for part in parts for column in part[0] for row in part[1]) == sorted(wanted)
    assert all(len(part[0]) * len(part[1]) <= most for part in parts)
    for chosen, order in [(part[0], columns) for part in parts] + [(part[1], rows) for part in parts]:
        assert chosen == order[order.index(chosen[0]) :][: len(chosen)]


@given(width=st.integers(1, 40), height=st.integers(1, 40), most=st.integers(1, 60))
def test_a_rectangle_too_large_for_one_run_is_cut_into_a_tenth_more_than_the_fewest_equal_ones(
    width: int, height: int, most: int
) -> None:
    columns, rows = range(width), range(height)

    parts = ranges(columns, rows, [(column, row) for column in columns for row in rows], most)

    ways = [(wide, long) for wide in range(1, width + 1) for long in range(1, height + 1) if wide * long <= most]
    assert len(parts) <= 1.1 * min(-(-width // wide) * -(-height // long) for wide, long in ways)


def test_runs_are_as_long_as_few_of_them_can_be() -> None:
    def sizes(symbols: int, sessions: int) -> tuple[int, set[tuple[int, int]]]:
        every = [(column, row) for column in range(symbols) for row in range(sessions)]
        parts = ranges(range(symbols), range(sessions), every, 5000)
        return len(parts), {(len(columns), len(rows)) for columns, rows in parts}

    assert sizes(100, 252) == (6, {(17, 252), (15, 252)})
    assert sizes(20, 250) == (1, {(20, 250)})
    assert sizes(5001, 1) == (2, {(2501, 1), (2500, 1)})


def test_sessions_on_both_sides_of_a_weekend_are_one_run() -> None:
    friday, monday = date(2024, 1, 5), date(2024, 1, 8)

    runs = planned_runs(Grid(SHARES), {monday: ["BOLT", "ACME"], friday: ["ACME", "BOLT"], date(2024, 1, 4): ["CASK"]})

    assert [(list(run.symbols), list(run.dates)) for run in runs] == [
        (["CASK"], [date(2024, 1, 4)]),
        (["ACME", "BOLT"], [friday, monday]),
    ]


def test_requests_for_a_monday_count_the_closed_days_before_it() -> None:
    able = Capabilities(rates=(Rate(50, 3600),), symbols_per_request=1, longest_window=timedelta(days=1))
    monday = Selection(["ACME", "BOLT"], [date(2024, 1, 8)])

    assert requests_for(SHARES, monday, able) == 2 * 3  # a request for each day from Saturday on
