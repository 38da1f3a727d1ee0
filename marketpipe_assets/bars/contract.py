"""The valid minute bar as a pandera contract. Apart, because pandera takes two seconds to import."""

import pandera.polars as pa
import polars as pl

from marketpipe_assets.bars.schema import BAR_COLUMNS, FLAGS
from marketpipe_assets.bars.schema import PRICES as PRICE_NAMES

NULLABLE = frozenset({"trade_count", "vwap", "flags"})


def _enclosed(data: pa.PolarsData) -> pl.LazyFrame:
    prices = [pl.col(name) for name in PRICE_NAMES]
    enclosed = (pl.col("high") >= pl.max_horizontal(prices)) & (pl.col("low") <= pl.min_horizontal(prices))
    return data.lazyframe.select(enclosed & pl.all_horizontal(price.is_finite() for price in prices))


def _rising(data: pa.PolarsData) -> pl.LazyFrame:
    symbol, ts = pl.col("symbol"), pl.col("ts")
    return data.lazyframe.select(((symbol != symbol.shift()) | (ts > ts.shift())).fill_null(True))


def _whole_minutes(data: pa.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select((pl.col("ts").to_physical() % 60_000_000 == 0) & (pl.col("volume") >= 0))


BARS_1M = pa.DataFrameSchema(
    {
        name: pa.Column(dtype, nullable=name in NULLABLE)
        for name, dtype in {**BAR_COLUMNS, **FLAGS}.items()
    },
    checks=[
        pa.Check(_enclosed, name="high and low enclose finite prices"),
        pa.Check(_rising, name="minutes of a symbol rise and are unique"),
        pa.Check(_whole_minutes, name="bars begin on whole minutes, with volume of zero or more"),
    ],
    strict=True,
    ordered=True,
)
"""`bars_1m` of any number of symbols, each symbol's rows together. Validate a DataFrame: of a LazyFrame pandera checks
the types alone."""


def breaches(bars: pl.DataFrame) -> list[str]:
    """What of the contract these bars break, one line each; empty where they hold it."""
    try:
        BARS_1M.validate(bars, lazy=True)
    except pa.errors.SchemaErrors as error:
        return sorted({f"{each['check']} ({each['column']})" for each in error.failure_cases.iter_rows(named=True)})
    return []
