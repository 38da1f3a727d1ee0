"""Whether our day is the day a vendor gives: open, high, low, close and volume, each within its tolerance."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import KEY

FIELDS = ("open", "high", "low", "close", "volume")
ROUNDING = 1e-9  # a sum of the same numbers in another order; no price differs by so little

TOLERANCES: Mapping[str, float] = {"open": 0.0, "high": 0.001, "low": 0.001, "close": 0.0, "volume": 0.1}
"""Field → largest |ours / vendor's - 1| where a market says nothing else.

Minutes of a regular session open and close as the vendor's day does. Its high and low may come from prints that are in
no minute, and its volume counts trades outside the session and the closing auction.
"""

DIFFERENCES: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "field": pl.String(),
    "ours": pl.Float64(),
    "vendor": pl.Float64(),
    "difference": pl.Float64(),
}


class TieOut(NamedTuple):
    """`compared` symbol-days that both have, the fields in which they differ by too much, largest difference first, and
    the symbol-days that only one of the two has."""

    compared: int
    differences: pl.DataFrame
    only_ours: pl.DataFrame
    only_vendor: pl.DataFrame


def tie_out(ours: pl.DataFrame, vendor: pl.DataFrame, tolerances: Mapping[str, float] = TOLERANCES) -> TieOut:
    """Compare two frames of daily bars, at most one per symbol and session in each.

    `difference` is |ours / vendor's - 1|; infinite where the vendor's is 0 and ours is not. A field that the vendor's
    bar does not have is not compared; one that only ours lacks differs without a measure.
    """
    both = ours.select(*KEY, *FIELDS).join(vendor.select(*KEY, *FIELDS), on=KEY, suffix="_vendor")
    apart = pl.concat([_field(both, field, tolerances[field]) for field in FIELDS])
    return TieOut(
        both.height,
        apart.sort("difference", *KEY, descending=[True, False, False], nulls_last=False, maintain_order=True),
        _lacking(ours, vendor),
        _lacking(vendor, ours),
    )


def _field(both: pl.DataFrame, field: str, tolerance: float) -> pl.DataFrame:
    ours, vendor = pl.col(field).fill_nan(None), pl.col(f"{field}_vendor").fill_nan(None)
    distance = (ours - vendor).abs()
    difference = pl.when(distance == 0).then(0.0).otherwise(distance / vendor.abs())
    named = both.select(
        *KEY,
        pl.lit(field).alias("field"),
        ours.alias("ours"),
        vendor.alias("vendor"),
        difference.alias("difference"),
    )
    allowed = (pl.col("difference") <= tolerance + ROUNDING).fill_null(False)
    return named.filter(pl.col("vendor").is_not_null() & ~allowed)


def _lacking(days: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return days.select(KEY).join(others.select(KEY), on=KEY, how="anti").sort(KEY)
