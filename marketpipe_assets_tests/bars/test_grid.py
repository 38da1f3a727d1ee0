"""Expected minutes, numbered: breaks, half days and days of another length."""

from datetime import date

import numpy as np
import pytest

from marketpipe_assets.bars.clock import minutes_of
from marketpipe_assets.bars.grid import Grid
from marketpipe_assets.bars.sessions import sessions

CASES = [
    ("XNYS", [date(2024, 11, 27), date(2024, 11, 29)]),
    ("XTKS", [date(2024, 11, 1), date(2024, 11, 5)]),
    ("FX", [date(2024, 1, 5), date(2024, 1, 7), date(2024, 1, 8)]),
    ("24/7", [date(2024, 1, 6), date(2024, 1, 7)]),
    ("CME_GLOBEX", [date(2013, 10, 31), date(2013, 11, 4)]),
]


@pytest.mark.parametrize(("calendar", "dates"), CASES)
def test_every_number_is_that_of_its_instant(calendar: str, dates: list[date]) -> None:
    known = sessions(calendar, date(2013, 1, 1), date(2025, 1, 1))
    grid = Grid(known, dates)
    minutes = minutes_of(grid.instants(np.arange(grid.size)))

    numbers = grid.numbers(minutes, np.arange(len(dates)), grid.lengths)

    assert grid.size == known.rows(dates)["expected_minutes"].sum()
    assert numbers.tolist() == list(range(grid.size))
