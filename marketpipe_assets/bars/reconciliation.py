"""How far two providers agree, minute by minute."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import KEY, PRICES

MINUTE = (*KEY, "ts")
TOLERANCE = 0.001
"""Largest |first / second - 1| of a price where a market says nothing else: a tenth of a per cent."""

SYMBOL_DAYS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    **dict.fromkeys(("both", "only_first", "only_second", "differing"), pl.Int64()),
    "largest_difference": pl.Float64(),
}


class Agreement(NamedTuple):
    """`symbol_days` counts the minutes of each, columns `SYMBOL_DAYS`, sorted by symbol and session.

    `differences` are the minutes that both have whose prices are further apart than allowed, furthest first: `symbol`,
    `session_date`, `ts`, `field` (the price that is furthest apart), `first`, `second`, `difference`.
    """

    symbol_days: pl.DataFrame
    differences: pl.DataFrame

    @property
    def share(self) -> float:
        """Minutes that both have, at prices that do not differ, of those that either has; 1 where neither has any."""
        counts = self.symbol_days.select("both", "only_first", "only_second", "differing").sum().row(0, named=True)
        either = counts["both"] + counts["only_first"] + counts["only_second"]
        return float(counts["both"] - counts["differing"]) / either if either else 1.0


def agreement(first: pl.DataFrame, second: pl.DataFrame, tolerance: float = TOLERANCE) -> Agreement:
    """Compare minute bars of two providers; of several bars of a minute the first to come is taken.

    The difference of a price is |first / second - 1|. Volumes are not compared: each feed counts its own trades.
    """
    ours, theirs = (
        bars.select(*MINUTE, *PRICES).unique(MINUTE, keep="first", maintain_order=True).with_columns(there=pl.lit(True))
        for bars in (first, second)
    )
    minutes = ours.join(theirs, on=MINUTE, how="full", coalesce=True, suffix="_second")
    apart = [_apart(name).alias(f"{name}_apart") for name in PRICES]
    measured = minutes.with_columns(apart).with_columns(
        pl.max_horizontal(f"{name}_apart" for name in PRICES).alias("difference")
    )
    had, has = pl.col("there").is_not_null(), pl.col("there_second").is_not_null()
    differs = (pl.col("difference") > tolerance).fill_null(False)
    counts = {"both": had & has, "only_first": ~has, "only_second": ~had, "differing": had & has & differs}
    symbol_days = (
        measured.group_by(KEY)
        .agg(
            *(counted.sum().cast(pl.Int64).alias(name) for name, counted in counts.items()),
            pl.col("difference").max().alias("largest_difference"),
        )
        .sort(KEY)
    )
    return Agreement(symbol_days.select(*SYMBOL_DAYS), _differences(measured.filter(had & has & differs)))


def _apart(name: str) -> pl.Expr:
    first, second = pl.col(name).fill_nan(None), pl.col(f"{name}_second").fill_nan(None)
    distance = (first - second).abs()
    return pl.when(distance == 0).then(0.0).otherwise(distance / second.abs())


def _differences(minutes: pl.DataFrame) -> pl.DataFrame:
    furthest = pl.concat_list(f"{name}_apart" for name in PRICES).list.arg_max()
    first, second = (pl.concat_list(f"{name}{side}" for name in PRICES).list.get(furthest) for side in ("", "_second"))
    named = minutes.select(
        *MINUTE,
        pl.lit(pl.Series(PRICES)).gather(furthest).alias("field"),
        first.alias("first"),
        second.alias("second"),
        "difference",
    )
    return named.sort("difference", *MINUTE, descending=[True, False, False, False])
