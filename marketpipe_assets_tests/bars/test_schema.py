"""A frame is read as bars without a guess, or refused with what was expected."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from marketpipe_assets.bars.schema import (
    BAR_COLUMNS,
    MINUTE_TABLES,
    TIMESTAMP,
    VENDOR_COLUMNS,
    SchemaError,
    columns_of,
    conform,
    empty,
)

ROW: dict[str, Any] = {
    "symbol": "ACME",
    "ts": datetime(2024, 1, 2, 14, 30, tzinfo=UTC),
    "open": 10.0,
    "high": 11.0,
    "low": 9.0,
    "close": 10.5,
    "volume": 100.0,
    "trade_count": 3,
    "vwap": 10.2,
    "provider": "files",
    "feed": "csv",
}


def vendor_row(**other: Any) -> pl.DataFrame:
    return pl.DataFrame([{**ROW, **other}]).with_columns(pl.col("ts").cast(TIMESTAMP))


def test_columns_come_in_their_order_and_types() -> None:
    shuffled = vendor_row().select(reversed(list(VENDOR_COLUMNS)))

    frame = conform(shuffled, VENDOR_COLUMNS)

    assert list(frame.schema.items()) == list(VENDOR_COLUMNS.items())
    assert frame.rows(named=True) == [ROW]


def test_whole_numbers_widen() -> None:
    frame = conform(vendor_row(open=10, volume=100), VENDOR_COLUMNS)

    assert frame.select("open", "volume").rows() == [(10.0, 100.0)]


@pytest.mark.parametrize("column", ["trade_count", "vwap"])
def test_what_a_provider_may_leave_out_is_null(column: str) -> None:
    frame = conform(vendor_row().drop(column), VENDOR_COLUMNS)

    assert frame[column].to_list() == [None]
    assert frame.schema[column] == VENDOR_COLUMNS[column]


@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_times_in_utc_of_another_unit_are_converted(unit: Any) -> None:
    frame = conform(vendor_row().with_columns(pl.col("ts").cast(pl.Datetime(unit, "UTC"))), VENDOR_COLUMNS)

    assert frame["ts"].to_list() == [ROW["ts"]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (vendor_row().drop("close"), r"missing: \['close'\]; unknown: none"),
        (vendor_row().with_columns(price=1.0), r"missing: none; unknown: \['price'\]"),
        (vendor_row(close="10.5"), "close is String, expected Float64"),
        (vendor_row(trade_count=3.0), "trade_count is Float64, expected Int64"),
        (vendor_row(provider=1), "provider is Int64, expected Categorical"),
        (vendor_row(symbol=700), "symbol is Int64, expected String"),
        (vendor_row().with_columns(pl.col("ts").dt.replace_time_zone(None)), "ts is Datetime.*, expected Datetime"),
        (
            vendor_row().with_columns(pl.col("ts").dt.convert_time_zone("America/New_York")),
            "ts is Datetime.*New_York.*, expected Datetime",
        ),
        (vendor_row().with_columns(pl.col("ts").dt.date()), "ts is Date, expected Datetime"),
        (vendor_row().with_columns(pl.col("ts").to_physical()), "ts is Int64, expected Datetime"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        conform(frame, VENDOR_COLUMNS)


@pytest.mark.parametrize("table", [*MINUTE_TABLES, "bars_5m", "bars_1d"])
def test_an_empty_frame_of_a_table_conforms(table: str) -> None:
    frame = empty(columns_of(table))

    assert conform(frame, columns_of(table)).schema == frame.schema


def test_longer_bars_have_the_columns_of_a_bar() -> None:
    assert columns_of("bars_15m") == BAR_COLUMNS
