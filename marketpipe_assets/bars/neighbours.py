"""How a bar stands to those around it: what the rules for spikes and for moves between sessions rest on."""

from fractions import Fraction
from math import inf

import numpy as np
import polars as pl

WINDOW = 21  # bars whose middle range is what is usual around a bar
SEGMENT = ("symbol", "session_date", "session")

SPLIT_RATIOS = tuple(
    sorted(
        {
            float(each)
            for whole in (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)
            for each in (Fraction(whole), Fraction(1, whole))
        }
        | {float(Fraction(*each)) for each in ((3, 2), (2, 3), (4, 3), (3, 4), (5, 4), (4, 5))}
    )
)
"""What a price is multiplied by in splits and reverse splits that happen. 100 is left out: that is a unit mistaken."""

SPLIT_TOLERANCE = 0.05  # a share moves overnight as well

same_session = pl.col("follows")
"""The row above is the bar that arrived before this one, of the same symbol and session: see `followers`."""

open_, high, low, close = (pl.col(name) for name in ("open", "high", "low", "close"))
volume = pl.col("volume")
goes_on = same_session.shift(-1)
top, bottom = pl.col("top"), pl.col("bottom")
highest_around = pl.max_horizontal(
    pl.when(same_session).then(top.shift()).otherwise(open_),
    pl.when(goes_on).then(top.shift(-1)).otherwise(close),
)
lowest_around = pl.min_horizontal(
    pl.when(same_session).then(bottom.shift()).otherwise(open_),
    pl.when(goes_on).then(bottom.shift(-1)).otherwise(close),
)
highest, lowest = pl.col("highest"), pl.col("lowest")
above, below = high / pl.when(highest > 0).then(highest), lowest / pl.when(low > 0).then(low)
apart = pl.max_horizontal(above.fill_nan(None), below.fill_nan(None)) - 1


def followers(bars: pl.DataFrame) -> pl.Series:
    """`follows`, computed once because half of the rules ask it of every row, and text is slow to compare."""
    same = (pl.col(name) == pl.col(name).shift() for name in ("symbol", "session_date"))
    return bars.select(pl.all_horizontal(same).fill_null(False).alias("follows")).to_series()


def continuations(least_volume: float) -> dict[str, pl.Expr]:
    """Fact → whether a bar goes on with the run of the one that arrived before it.

    `same_bar` has all its numbers, `flat` its one price with more volume than this, `risen` more volume than it;
    `no_volume` is of the bar alone.
    """
    same = pl.all_horizontal(each == each.shift() for each in (open_, high, low, close, volume))
    facts = {
        "same_bar": same_session & same & ((volume > 0) | (high > low)),
        "flat": same_session & (high == low) & (close == close.shift()) & (volume > least_volume),
        "risen": same_session & (volume > volume.shift()),
        "no_volume": volume == 0,
    }
    return {name: holds.fill_null(False) for name, holds in facts.items()}


def spikes(bars: pl.DataFrame, floor: float) -> pl.DataFrame:
    """`apart`, and where it is above the floor also `usual`; both are shares of the price, null at zero and below.

    `apart` is how far high or low reach beyond the open and close of both the bar before and the bar after: a level
    that moves and stays is within reach of the bar after it, and one that comes back of the bar before. The first bar
    of a session has its own open for the bar before, the last its own close for the bar after. `usual` is the middle
    range of the bars around, of the same session and the same part of it (a wick of the quiet hours is measured by the
    quiet hours), or a third of what open and close of the bars before and after span, or the middle one of the ranges
    above zero of that whole part, which is a tick where prices move by less: whichever is most.
    """
    ends = bars.select(
        "follows",
        *(open_, high, low, close),
        pl.max_horizontal(open_, close).fill_null(inf).alias("top"),
        pl.min_horizontal(open_, close).fill_null(-inf).alias("bottom"),
    )
    around = ends.select(high, low, highest_around.alias("highest"), lowest_around.alias("lowest"))
    found = around.select(apart.alias("apart"))
    suspect = found["apart"] > floor
    if not suspect.any():
        return found.with_columns(pl.lit(None, pl.Float64).alias("usual"))
    spanned = around.select(((highest / pl.when(lowest > 0).then(lowest) - 1) / 3).fill_nan(None)).to_series()
    segments = bars.filter(suspect).select(SEGMENT).unique()
    part = bars.select(*SEGMENT, pl.when((low > 0) & high.is_finite()).then(high / low - 1).alias("range"))
    middle = pl.col("range").rolling_median(WINDOW, center=True, min_samples=1).over(SEGMENT)
    tick = pl.col("range").filter(pl.col("range") > 0).median().over(SEGMENT)
    ranges = (
        part.with_row_index()
        .join(segments, on=SEGMENT, how="semi", nulls_equal=True, maintain_order="left")
        .select("index", pl.max_horizontal(middle, tick).alias("range"))
    )
    usual = pl.select(pl.max_horizontal(spanned.gather(ranges["index"]), ranges["range"])).to_series()
    return found.with_columns(spanned.scatter(ranges["index"], usual).alias("usual"))


def overnight_moves(bars: pl.DataFrame) -> pl.Series:
    """`overnight`: at the first bar of a session its open against the close before, as a share of it, else null.

    The close before is that of the symbol's session above in these bars, whichever that is; null too where there is
    none, and where the move is a split (`SPLIT_RATIOS`).
    """
    firsts = (~bars["follows"]).arg_true()[1:]  # the very first bar has none before it
    ratio = (bars["open"].gather(firsts) / bars["close"].gather(firsts - 1)).to_numpy()
    same_symbol = (bars["symbol"].gather(firsts) == bars["symbol"].gather(firsts - 1)).to_numpy()
    split = (np.abs(ratio[:, None] / np.array(SPLIT_RATIOS) - 1) <= SPLIT_TOLERANCE).any(axis=1)
    unexplained = same_symbol & ~split & ~np.isnan(ratio)
    moves = pl.Series("overnight", pl.repeat(None, bars.height, dtype=pl.Float64, eager=True))
    return moves.scatter(firsts.filter(pl.Series(unexplained)), np.abs(ratio[unexplained] - 1))
