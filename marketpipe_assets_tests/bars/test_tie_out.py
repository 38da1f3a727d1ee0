"""A day is compared with the vendor's, field by field, within what is stated."""

import math
from collections.abc import Mapping
from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.tie_out import DIFFERENCES, FIELDS, TOLERANCES, tie_out

TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)
EXACT = dict.fromkeys(FIELDS, 0.0)


def day(fields: Mapping[str, float | None] | None = None, symbol: str = "ACME", on: date = TUESDAY) -> pl.DataFrame:
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 1000.0, **(fields or {})}
    schema = {"symbol": pl.String(), "session_date": pl.Date(), **dict.fromkeys(FIELDS, pl.Float64())}
    return pl.DataFrame([{"symbol": symbol, "session_date": on, **values}], schema=schema)


def test_equal_days_tie_out() -> None:
    found = tie_out(day(), day())

    assert found.compared == 1
    assert found.differences.equals(pl.DataFrame(schema=dict(DIFFERENCES)))
    assert found.only_ours.is_empty()
    assert found.only_vendor.is_empty()


@pytest.mark.parametrize("field", ["open", "close"])
def test_open_and_close_are_compared_exactly_unless_told_otherwise(field: str) -> None:
    off = tie_out(day(), day({field: 10.5}))

    assert off.differences["field"].to_list() == [field]
    assert tie_out(day(), day({field: 10.5}), {**TOLERANCES, field: 0.1}).differences.is_empty()


@pytest.mark.parametrize("field", FIELDS)
def test_a_difference_as_large_as_its_tolerance_is_allowed(field: str) -> None:
    ours = day({field: 8.0 * 1.25})

    assert tie_out(ours, day({field: 8.0}), {**EXACT, field: 0.25}).differences.is_empty()
    assert tie_out(ours, day({field: 8.0}), {**EXACT, field: 0.24}).differences.row(0) == (
        "ACME",
        TUESDAY,
        field,
        10.0,
        8.0,
        0.25,
    )


def test_sums_that_differ_by_their_rounding_are_equal() -> None:
    assert tie_out(day({"volume": 0.1 + 0.2}), day({"volume": 0.3}), EXACT).differences.is_empty()


def test_differences_come_largest_first() -> None:
    ours = pl.concat([day(), day(symbol="BOLT")])
    vendor = pl.concat([day({"high": 13.0}), day({"open": 20.0, "volume": 0.0}, "BOLT")])

    found = tie_out(ours, vendor).differences

    assert found.select("symbol", "field").rows() == [("BOLT", "volume"), ("BOLT", "open"), ("ACME", "high")]
    assert found["difference"][0] == math.inf


def test_a_field_the_vendor_lacks_is_not_compared_and_one_we_lack_differs() -> None:
    assert tie_out(day(), day({"volume": None})).differences.is_empty()
    assert tie_out(day(), day({"volume": math.nan})).differences.is_empty()
    assert tie_out(day({"volume": None}), day()).differences.select("field", "difference").rows() == [("volume", None)]


def test_days_that_only_one_has_are_told() -> None:
    found = tie_out(pl.concat([day(), day(symbol="BOLT")]), pl.concat([day(), day(on=WEDNESDAY)]))

    assert found.compared == 1
    assert found.only_ours.rows() == [("BOLT", TUESDAY)]
    assert found.only_vendor.rows() == [("ACME", WEDNESDAY)]


NUMBERS = st.floats(0.01, 1e6)


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, NUMBERS)), st.sampled_from(FIELDS), st.floats(1e-6, 0.5))
def test_a_change_beyond_the_tolerance_is_found_and_one_within_it_is_not(
    values: dict[str, float], field: str, change: float
) -> None:
    ours, vendor = day({**values, field: values[field] * (1 + change)}), day(values)

    assert tie_out(ours, vendor, {**EXACT, field: change * 0.99}).differences["field"].to_list() == [field]
    assert tie_out(ours, vendor, {**EXACT, field: change * 1.01}).differences.is_empty()
