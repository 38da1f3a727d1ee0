"""What a bar is: its columns, their types and their order."""

from collections.abc import Mapping

import polars as pl

TIMESTAMP = pl.Datetime("us", "UTC")
KEY = ("symbol", "session_date")
"""What names a symbol-day."""

RAW, VALID, QUARANTINED, SUPERSEDED = "raw_bars_1m", "bars_1m", "quarantined_bars_1m", "superseded_bars_1m"
SECOND, VENDOR_DAYS = "second_bars_1m", "vendor_bars_1d"
FETCHED = (RAW, SECOND)
"""Tables whose files say which sessions were fetched, also of those that have no bars."""

PRICES = ("open", "high", "low", "close")

BAR_COLUMNS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "ts": TIMESTAMP,
    "session_date": pl.Date(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "trade_count": pl.Int64(),
    "vwap": pl.Float64(),
    "session": pl.Categorical(),
    "provider": pl.Categorical(),
    "feed": pl.Categorical(),
}
"""Columns of every bar table, in order. `symbol` is a folder at rest and a column in memory."""

MEANING: Mapping[str, str] = {
    "symbol": "the market's name for the instrument",
    "ts": "the bar's first instant, UTC",
    "session_date": "the trading day the bar belongs to, in the exchange's time zone",
    "open": "first price, unadjusted",
    "high": "highest price, unadjusted",
    "low": "lowest price, unadjusted",
    "close": "last price, unadjusted",
    "volume": "units traded; fractions where the vendor has them",
    "trade_count": "number of trades; null where the vendor has none",
    "vwap": "volume-weighted average price; null where the vendor has none",
    "session": "regular, pre or post market; null on a day without a session",
    "provider": "who gave the bar",
    "feed": "the provider's variant",
    "flags": "rules of severity WARN the bar broke, and those waived for it; then waived, repaired; null: none",
    "broken_rules": "every rule the bar broke",
    "fetched_at": "since when this version of the bar's day stood; null where that is not known",
    "superseded_at": "when the provider's next version of the bar's day was fetched",
    "superseded_by": "the run that fetched the next version",
}
"""Column → what it holds."""

VENDOR_COLUMNS: Mapping[str, pl.DataType] = {
    name: dtype for name, dtype in BAR_COLUMNS.items() if name not in ("session_date", "session")
}
"""What a provider answers: a bar before the calendar has said which session it belongs to."""

VENDOR_DAY_COLUMNS: Mapping[str, pl.DataType] = {
    name: dtype for name, dtype in BAR_COLUMNS.items() if name not in ("ts", "session")
}
"""What a provider answers that gives days of its own: one bar of each symbol and session date."""

OPTIONAL = ("trade_count", "vwap")
"""Columns a provider may leave out; they are then null."""

FLAGS: Mapping[str, pl.DataType] = {"flags": pl.List(pl.String())}
VERSION: Mapping[str, pl.DataType] = {
    "fetched_at": TIMESTAMP,
    "superseded_at": TIMESTAMP,
    "superseded_by": pl.String(),
}
BROKEN_RULES: Mapping[str, pl.DataType] = {"broken_rules": pl.List(pl.String())}

MINUTE_TABLES: Mapping[str, Mapping[str, pl.DataType]] = {
    RAW: BAR_COLUMNS,
    "bars_1m": {**BAR_COLUMNS, **FLAGS},
    "quarantined_bars_1m": {**BAR_COLUMNS, **BROKEN_RULES},
    SECOND: BAR_COLUMNS,
    SUPERSEDED: {**BAR_COLUMNS, **VERSION},
}
"""Tables of minute bars → their columns. Every other table is a longer bar and has `BAR_COLUMNS`."""


class SchemaError(ValueError):
    """A frame cannot be read as bars: a column is missing, unknown, or of another kind."""


def columns_of(table: str) -> Mapping[str, pl.DataType]:
    """Columns and types of a table, in order, `symbol` first."""
    return MINUTE_TABLES.get(table, BAR_COLUMNS)


def empty(columns: Mapping[str, pl.DataType] = BAR_COLUMNS) -> pl.DataFrame:
    """A frame with these columns and no rows."""
    return pl.DataFrame(schema=dict(columns))


def conform(frame: pl.DataFrame, columns: Mapping[str, pl.DataType] = BAR_COLUMNS) -> pl.DataFrame:
    """The same rows with exactly these columns, in this order and of these types.

    Integers widen to float64 and text becomes categorical; `OPTIONAL` columns that are absent are null.
    Raises `SchemaError` for a missing or unknown column and for a type that would have to be guessed: text as a
    price, a time without UTC.
    """
    if list(frame.schema.items()) == list(columns.items()):
        return frame
    missing = [name for name in columns if name not in frame.columns and name not in OPTIONAL]
    unknown = [name for name in frame.columns if name not in columns]
    if missing or unknown:
        expected = ", ".join(columns)
        raise SchemaError(f"expected columns {expected}; missing: {missing or 'none'}; unknown: {unknown or 'none'}")
    absent = [pl.lit(None).alias(name) for name in OPTIONAL if name in columns and name not in frame.columns]
    wrong = {
        name: dtype
        for name, dtype in frame.schema.items()
        if dtype != columns[name] and not _widens(dtype, columns[name])
    }
    if wrong:
        was = ", ".join(f"{name} is {dtype}, expected {columns[name]}" for name, dtype in wrong.items())
        raise SchemaError(f"columns of another type: {was}")
    return frame.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in columns.items())


def _widens(dtype: pl.DataType, target: pl.DataType) -> bool:
    if dtype == pl.Null:
        return True
    if target == pl.Categorical:
        return dtype == pl.String or isinstance(dtype, pl.Enum)
    if target.is_numeric():
        return dtype.is_integer() or (target.is_float() and dtype.is_float())
    return isinstance(target, pl.Datetime) and isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC"
