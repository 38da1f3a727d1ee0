"""A hash tells whether two answers hold the same bars, whatever wrote or read them."""

import math
import struct
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.content import changed_days, content_hashes
from marketpipe_assets.bars.schema import BAR_COLUMNS, empty
from marketpipe_assets_tests.lake.rows import TUESDAY, WEDNESDAY, bars_of

RAW = "raw_bars_1m"
DAY = bars_of("AAPL", TUESDAY, [10.0, 11.5, 12.25], table=RAW, feed="sip").with_columns(
    pl.Series("trade_count", [7, None, 0], dtype=pl.Int64), pl.Series("vwap", [10.1, None, math.nan])
)


def hash_of(bars: pl.DataFrame) -> str:
    (digits,) = content_hashes(bars)["content_hash"]
    return str(digits)


def test_the_hash_of_these_bars_is_the_same_for_ever() -> None:
    assert hash_of(DAY) == "a29c8628ce2bc40f"


def test_the_hash_is_what_its_description_says() -> None:
    assert hash_of(DAY) == described_hash(DAY)
    assert hash_of(bars_of("AAPL", TUESDAY, [0.1 * n for n in range(390)], table=RAW)) == described_hash(
        bars_of("MSFT", WEDNESDAY, [0.1 * n for n in range(390)], table=RAW).with_columns(
            pl.col("ts") - timedelta(days=1)
        )
    )


WORD = 1 << 64
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def described_hash(bars: pl.DataFrame) -> str:
    total = 0
    for number, row in enumerate(bars.drop("symbol", "session_date").iter_rows(), start=1):
        hashed = 0
        for value in row:
            hashed = (hashed ^ word_of(value)) * FIRST % WORD
            hashed ^= hashed >> 32
        total += mixed(hashed + number * GOLDEN)
    return f"{mixed(total + bars.height):016x}"


def word_of(value: object) -> int:
    match value:
        case datetime():
            return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        case float():
            return 0x7FF8000000000000 if math.isnan(value) else int.from_bytes(struct.pack(">d", value))
        case str():
            return int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "little")
        case int():
            return value % WORD
        case _:
            return 0x7FF86E756C6C0000


def mixed(word: int) -> int:
    word %= WORD
    word = (word ^ word >> 30) * FIRST % WORD
    word = (word ^ word >> 27) * SECOND % WORD
    return word ^ word >> 31


def test_there_is_a_hash_for_each_symbol_day_in_order_of_appearance() -> None:
    bars = pl.concat([bars_of("MSFT", WEDNESDAY, table=RAW), DAY, bars_of("AAPL", WEDNESDAY, table=RAW)])

    hashes = content_hashes(bars)

    assert hashes.select("symbol", "session_date").rows() == [
        ("MSFT", WEDNESDAY),
        ("AAPL", TUESDAY),
        ("AAPL", WEDNESDAY),
    ]
    assert hashes["content_hash"][1] == hash_of(DAY)


def test_no_bars_have_no_hashes() -> None:
    assert content_hashes(empty()).schema == {
        "symbol": pl.String(),
        "session_date": pl.Date(),
        "content_hash": pl.String(),
    }


CHANGED = {
    "ts": pl.col("ts") + timedelta(microseconds=1),
    **{name: pl.col(name) + 0.0078125 for name in ("open", "high", "low", "close", "volume", "vwap")},
    "trade_count": pl.col("trade_count") + 1,
    **{name: pl.lit("other", dtype=pl.Categorical()).alias(name) for name in ("session", "provider", "feed")},
}


@pytest.mark.parametrize("column", [name for name in BAR_COLUMNS if name not in ("symbol", "session_date")])
def test_every_column_counts(column: str) -> None:
    changed = pl.when(pl.row_index() == 0).then(CHANGED[column]).otherwise(column).alias(column)

    assert hash_of(DAY.with_columns(changed)) != hash_of(DAY)


def test_null_is_not_zero_nor_nan() -> None:
    versions = [DAY.with_columns(pl.lit(value, pl.Float64()).alias("vwap")) for value in (None, 0.0, math.nan)]

    assert len({hash_of(each) for each in versions}) == 3


def test_negative_zero_is_zero_and_nan_is_nan() -> None:
    plus, minus = (DAY.with_columns(pl.lit(value).alias("volume")) for value in (0.0, -0.0))
    nan, negative_nan = (DAY.with_columns(pl.lit(value).alias("volume")) for value in (math.nan, -math.nan))

    assert hash_of(plus) == hash_of(minus)
    assert hash_of(nan) == hash_of(negative_nan)


def test_the_order_of_arrival_and_copies_count() -> None:
    assert len({hash_of(DAY), hash_of(DAY[[1, 0, 2]]), hash_of(DAY[[0, 1, 2, 2]]), hash_of(DAY[:2])}) == 4


def test_days_that_changed_are_named() -> None:
    thursday = WEDNESDAY + timedelta(days=1)
    before = pl.concat([DAY, bars_of("AAPL", WEDNESDAY, table=RAW)]).drop("symbol")
    after = pl.concat([DAY[[1, 0, 2]], bars_of("AAPL", WEDNESDAY, table=RAW), bars_of("AAPL", thursday, table=RAW)])

    assert changed_days(before, after.drop("symbol")) == {TUESDAY, thursday}
    assert changed_days(after.drop("symbol"), empty().drop("symbol")) == {TUESDAY, WEDNESDAY, thursday}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AAPL", "MSFT"]), st.sampled_from([TUESDAY, WEDNESDAY]), st.sampled_from([1.0, 2.0])
        ),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
def test_a_symbol_days_hash_depends_on_nothing_beside_it(
    rows: list[tuple[str, date, float]], data: st.DataObject
) -> None:
    bars = pl.concat([bars_of(symbol, day, [price], table=RAW) for symbol, day, price in rows])
    cut = data.draw(st.integers(0, bars.height))
    chunked = pl.concat([bars[:cut], bars[cut:]], rechunk=False)

    together = content_hashes(chunked)

    assert together.height == len({row[:2] for row in rows})
    for symbol, day, digits in together.iter_rows():
        assert digits == hash_of(bars.filter(symbol=symbol, session_date=day))
