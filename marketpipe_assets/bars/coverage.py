"""Expected minutes against received ones, per symbol and session, and where holes are. Why is said by reasons.py."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.clock import Minutes, minutes_of
from marketpipe_assets.bars.grid import Booleans, Grid
from marketpipe_assets.bars.order import first_rows
from marketpipe_assets.bars.sessions import Sessions

HOLES = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "start": pl.Datetime("us", "UTC"),
    "minutes": pl.Int64(),
    "quarantined": pl.Boolean(),
}
HELD, ABSENT, QUARANTINED = range(3)


class Coverage(NamedTuple):
    """What of the expected minutes is there.

    `days` has one row per symbol and session, also where there is no bar at all: `symbol`, `session_date`, and minutes
    `expected` of the regular session, `received` (with a raw bar), `valid` (with a valid one), `quarantined` (with
    quarantined ones only), `missing` (with none). `holes` has the ranges without a valid bar, columns `HOLES`: `start`
    is the first minute, none spans a break, and `quarantined` says that bars of them were received.
    """

    days: pl.DataFrame
    holes: pl.DataFrame


def coverage(
    raw: pl.DataFrame, valid: pl.DataFrame, sessions: Sessions, symbols: Sequence[str], dates: Sequence[date]
) -> Coverage:
    """The coverage of every symbol on every session. Of the bars `symbol`, `ts`, `session_date` are read."""
    grid = Grid(sessions, dates)
    kept = _there(valid, grid, symbols)
    received = kept if raw is valid else _there(raw, grid, symbols) | kept
    return Coverage(_days(received, kept, grid, symbols), _holes(received, kept, grid, symbols))


def covered_share(days: pl.DataFrame, minutes: str = "valid") -> float:
    """Those minutes over the expected ones, 1.0 where none is expected."""
    there, expected = days.select(pl.sum(minutes, "expected")).row(0)
    return 1.0 if expected == 0 else float(there / expected)


def minute_numbers(bars: pl.DataFrame, grid: Grid) -> Minutes:
    """The number in the grid of each bar's minute; -1 where none is expected."""
    if bars.is_empty():
        return np.zeros(0, dtype=np.int64)
    days = bars["session_date"]
    first = first_rows(days.to_physical().to_numpy())
    lengths = np.diff(first, append=bars.height)
    return grid.numbers(minutes_of(bars["ts"]), grid.session_numbers(days.gather(first)), lengths)


def _symbol_numbers(symbol: pl.Series, symbols: Sequence[str]) -> Minutes:
    """The place of each symbol among `symbols`; -1 for another."""
    if symbol.is_empty():
        return np.zeros(0, dtype=np.int64)
    first = first_rows(symbol.rle_id().to_numpy())
    places = symbol.gather(first).cast(pl.Enum(list(symbols)), strict=False).to_physical().cast(pl.Int64)
    found: Minutes = np.repeat(places.fill_null(-1).to_numpy(), np.diff(first, append=symbol.len()))
    return found


def _there(bars: pl.DataFrame, grid: Grid, symbols: Sequence[str]) -> Booleans:
    """One row per symbol, one column per expected minute."""
    there = np.zeros(len(symbols) * grid.size, dtype=bool)
    number = minute_numbers(bars, grid)
    row = _symbol_numbers(bars["symbol"], symbols)
    expected = (number >= 0) & (row >= 0)
    place = row * grid.size + number
    there[place if expected.all() else place[expected]] = True
    return there.reshape(len(symbols), grid.size)


def _days(received: Booleans, valid: Booleans, grid: Grid, symbols: Sequence[str]) -> pl.DataFrame:
    counts = {name: _per_session(there, grid) for name, there in (("received", received), ("valid", valid))}
    days = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String()}).join(
        pl.DataFrame(
            {"session_date": grid.dates, "expected": grid.lengths},
            schema={"session_date": pl.Date(), "expected": pl.Int64()},
        ),
        how="cross",
    )
    return days.with_columns(**{name: pl.Series(count) for name, count in counts.items()}).with_columns(
        (pl.col("received") - pl.col("valid")).alias("quarantined"),
        (pl.col("expected") - pl.col("received")).alias("missing"),
    )


def _per_session(there: Booleans, grid: Grid) -> Minutes:
    if not grid.size:
        return np.zeros(there.shape[0] * len(grid.dates), dtype=np.int64)
    counts = np.zeros((there.shape[0], len(grid.dates)), dtype=np.int64)
    open_days = grid.lengths > 0  # reduceat would give a session without minutes the first of the next one
    counts[:, open_days] = np.add.reduceat(there, grid.starts[open_days], axis=1, dtype=np.int64)
    return counts.ravel()


def _holes(received: Booleans, valid: Booleans, grid: Grid, symbols: Sequence[str]) -> pl.DataFrame:
    if valid.all():
        return pl.DataFrame(schema=HOLES)
    state = np.where(valid, HELD, np.where(received, QUARANTINED, ABSENT)).ravel()
    first = run_starts(state, np.tile(grid.begins, len(symbols)))
    length = np.diff(np.append(first, state.size))
    lacking = state[first] != HELD
    first, length = first[lacking], length[lacking]
    number = first % grid.size
    return pl.DataFrame(
        {
            "symbol": pl.Series(symbols, dtype=pl.String).gather(first // grid.size),
            "session_date": pl.Series(grid.dates, dtype=pl.Date).gather(grid.sessions_of(number)),
            "start": grid.instants(number),
            "minutes": length,
            "quarantined": state[first] == QUARANTINED,
        },
        schema=HOLES,
    )


def run_starts(values: npt.NDArray[np.integer], begins: Booleans) -> Minutes:
    """Where runs of equal values start; a run ends where `begins` is true as well."""
    changes = begins.copy()
    changes[1:] |= values[1:] != values[:-1]
    changes[:1] = True
    return np.flatnonzero(changes)
