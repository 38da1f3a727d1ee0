"""How two versions of a symbol-day's raw bars differ, and which of several stood at an instant."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from marketpipe_assets.bars.content import HASHED
from marketpipe_assets.bars.schema import KEY

COUNTS = ("bars_before", "bars_after", "changed", "added", "removed")
DIFFERENCES: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    **dict.fromkeys(COUNTS, pl.Int64()),
    "largest_change": pl.Float64(),
}
BAR = (*KEY, "ts", "copy")
PAYLOAD = tuple(name for name in HASHED if name != "ts")


def differences(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """What became of each symbol-day that either version has: columns `DIFFERENCES`, sorted by symbol and session.

    A bar of one version is the same bar in the other where symbol, session and `ts` are equal; of several copies the
    first is compared with the first. It is `changed` where any column differs, `added` or `removed` where the other
    version lacks it. `largest_change` is the largest |close after / close before - 1| of a bar both have, null where
    no finite one is left. Two versions with the same bars in another order of arrival differ by nothing here.
    """
    old, new = (_numbered(version).with_columns(pl.lit(True).alias("there")) for version in (before, after))
    both = old.join(new, on=BAR, how="full", coalesce=True, nulls_equal=True, suffix="_after")
    had, has = pl.col("there").is_not_null(), pl.col("there_after").is_not_null()
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_after")) for name in PAYLOAD)
    change = (pl.col("close_after") / pl.col("close") - 1).abs()
    counts = {
        "bars_before": had,
        "bars_after": has,
        "changed": had & has & differs,
        "added": ~had,
        "removed": ~has,
    }
    return (
        both.group_by(KEY)
        .agg(
            *(counted.sum().cast(pl.Int64).alias(name) for name, counted in counts.items()),
            change.filter(had & has & change.is_finite()).max().alias("largest_change"),
        )
        .sort(KEY)
        .select(*DIFFERENCES)
    )


def _numbered(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(*KEY, *HASHED, pl.int_range(pl.len()).over(*KEY, "ts").alias("copy"))


def stood_at(moment: datetime, current: pl.DataFrame, superseded: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The raw bars that stood at an instant, columns of `current`, each symbol-day's in its order of arrival.

    `facts` has `symbol`, `session_date`, `fetched_at` of the current version; `superseded` has `fetched_at` and
    `superseded_at` beside the bars. A version stood from the instant it was fetched until the next one was; one whose
    fetch is not known has stood from the beginning.
    """
    known = pl.col("fetched_at").is_null() | (pl.col("fetched_at") <= moment)
    earlier = superseded.filter(known & (pl.col("superseded_at") > moment))
    versions = earlier.select(*KEY).unique()
    dated = current.join(facts.select(*KEY, "fetched_at"), on=KEY, how="left", maintain_order="left")
    standing = dated.filter(known).join(versions, on=KEY, how="anti", maintain_order="left")
    return pl.concat([standing.select(current.columns), earlier.select(current.columns)])
