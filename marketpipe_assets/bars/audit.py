"""The list of every rule that a bar broke, one row each, for people and spreadsheets."""

from collections.abc import Mapping

import polars as pl

from marketpipe_assets.bars.quarantine import Split, waived_days
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.schema import TIMESTAMP

AUDIT_COLUMNS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "ts_ns": pl.Int64(),
    "reason": pl.String(),
    "rule": pl.String(),
    "severity": pl.String(),
    "detail": pl.String(),
    "ts": pl.String(),
}
"""`ts_ns` is the bar's first instant in nanoseconds since 1970, `reason` what a good bar holds, `detail` the bar."""

DETAILS = ("open", "high", "low", "close", "volume")


def audit(bars: pl.DataFrame, split: Split, rule_set: RuleSet) -> pl.DataFrame:
    """`AUDIT_COLUMNS` of these judged bars, in the order they arrived; no row where no rule is broken.

    Values are those that arrived; what was repaired or waived says so in `detail`, with the reason.
    """
    broken = split.verdict != 0
    if not broken.any():
        return pl.DataFrame(schema=AUDIT_COLUMNS)
    few = (
        bars.with_row_index()
        .with_columns(split.verdict.alias("verdict"))
        .filter(broken)
        .join(_repairs(split), on=("symbol", "ts"), how="left", maintain_order="left")
    )
    by_rule = [
        few.filter(pl.col("verdict") & (1 << number) != 0).with_columns(
            pl.lit(name).alias("rule"),
            pl.lit(rule.severity.value).alias("severity"),
            pl.lit(rule.sentence).alias("reason"),
        )
        for number, (name, rule) in enumerate(rule_set.rules.items())
    ]
    values = pl.concat_str(
        # not pl.format: polars 2.1 panics where it formats a few rows of a filtered frame
        [pl.lit(f"{name} ") + pl.col(name).cast(pl.String).fill_null("missing") for name in DETAILS],
        separator=", ",
    )
    detail = pl.concat_str([values, pl.col("repaired"), pl.col("waived")], separator="; ", ignore_nulls=True)
    ts = pl.col("ts")
    return (
        pl.concat(by_rule)
        .join(
            waived_days(few, rule_set.waivers), on=("symbol", "session_date", "rule"), how="left", maintain_order="left"
        )
        .sort("index", maintain_order=True)
        .rechunk()  # polars 2.1 panics where it formats a column in several chunks, as bars of several files are
        .select(
            "symbol",
            ts.dt.epoch("ns").alias("ts_ns"),
            "reason",
            "rule",
            "severity",
            detail.alias("detail"),
            ts.dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("ts"),
        )
    )


def _repairs(split: Split) -> pl.DataFrame:
    said = [
        (repair.symbol, repair.ts, f"still so when repaired: {repair.reason} ({repair.author})")
        for repair in split.mended
    ]
    return pl.DataFrame(said, {"symbol": pl.String, "ts": TIMESTAMP, "repaired": pl.String}, orient="row")
