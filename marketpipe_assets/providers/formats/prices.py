"""Prices written as scaled numbers."""

import polars as pl

from marketpipe_assets.bars.schema import PRICES


def descaled(bars: pl.DataFrame, scale: float) -> pl.DataFrame:
    """The same bars with prices divided by `scale`, each the float64 nearest to the quotient; null stays null.

    polars multiplies by the reciprocal of a scalar, which is off by one unit in the last place for a third of prices
    in hundredths of a cent (1688900 / 10000 gave 168.89000000000001); numpy divides.
    """
    quotients = {name: pl.Series(bars[name].cast(pl.Float64).to_numpy() / scale) for name in PRICES}
    return bars.with_columns(
        pl.when(pl.col(name).is_not_null()).then(pl.lit(quotient)).alias(name) for name, quotient in quotients.items()
    )
