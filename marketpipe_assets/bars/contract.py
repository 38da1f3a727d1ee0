"""The valid minute bar as a pandera contract. Apart, because pandera takes two seconds to import."""

import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context

from marketpipe_assets.bars.clock import MICROSECONDS_PER_MINUTE
from marketpipe_assets.bars.schema import BAR_COLUMNS, FLAGS
from marketpipe_assets.bars.schema import PRICES as PRICE_NAMES

NULLABLE = frozenset({"trade_count", "vwap", "flags"})


def _enclosed(data: pa.PolarsData) -> pl.LazyFrame:
    prices = [pl.col(name) for name in PRICE_NAMES]
    enclosed = (pl.col("high") >= pl.max_horizontal(prices)) & (pl.col("low") <= pl.min_horizontal(prices))
    return data.lazyframe.select(enclosed & pl.all_horizontal(price.is_finite() for price in prices))


def _rising(data: pa.PolarsData) -> pl.LazyFrame:
    symbol, ts = pl.col("symbol"), pl.col("ts")
    rises = pl.when(symbol == symbol.shift()).then(ts > ts.shift()).otherwise(symbol.is_first_distinct())
    return data.lazyframe.select(rises.fill_null(True))


def _whole_minutes(data: pa.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select((pl.col("ts").to_physical() % MICROSECONDS_PER_MINUTE == 0) & (pl.col("volume") >= 0))


BARS_1M = pa.DataFrameSchema(
    {name: pa.Column(dtype, nullable=name in NULLABLE) for name, dtype in {**BAR_COLUMNS, **FLAGS}.items()},
    checks=[
        pa.Check(_enclosed, name="high and low enclose finite prices"),
        pa.Check(_rising, name="minutes of a symbol rise and are unique"),
        pa.Check(_whole_minutes, name="bars begin on whole minutes, with volume of zero or more"),
    ],
    strict=True,
    ordered=True,
)
"""`bars_1m` of any number of symbols, each symbol's rows together. Ask `breaches`: of a LazyFrame pandera itself checks
the types alone, unless told."""


def breaches(bars: pl.DataFrame) -> list[str]:
    """What of the contract these bars break, one line each, with the column; empty where they hold it."""
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            BARS_1M.validate(bars, lazy=True)
    except pa.errors.SchemaErrors as error:
        return sorted({_breach(**each) for each in error.failure_cases.iter_rows(named=True)})
    return []


def _breach(check: str, check_number: int | None, column: str | None, failure_case: str, **_: object) -> str:
    if check_number is not None:  # one of `checks`, whose case is the whole bar
        return check
    return f"{check} ({column or failure_case})"
