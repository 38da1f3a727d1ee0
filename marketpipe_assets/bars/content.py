"""Whether two answers of a provider hold the same bars: a hash of each symbol-day's content."""

from collections.abc import Sequence
from datetime import date
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.order import symbol_day_starts
from marketpipe_assets.bars.schema import BAR_COLUMNS, KEY

Words = npt.NDArray[np.uint64]
HASHED = tuple(name for name in BAR_COLUMNS if name not in KEY)
COLUMNS = {"symbol": pl.String(), "session_date": pl.Date(), "content_hash": pl.String()}
CHUNK = 1 << 14  # rows whose words stay in the processor's cache
GOLDEN, FIRST, SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
ONE = np.uint64(1)
HALF = np.uint64(32)
MINUS_ZERO = np.uint64(1 << 63)
NULL = np.uint64(0x7FF86E756C6C0000)


def content_hashes(bars: pl.DataFrame) -> pl.DataFrame:
    """`symbol`, `session_date`, `content_hash` (16 hex digits) of each symbol-day of raw bars, in order of appearance.

    Two symbol-days have one hash where they hold equal bars in the same order of arrival; the symbol and the session
    date themselves do not count. NaN equals NaN, -0.0 equals 0.0, null equals null only.

    The hash is computed from values alone, so it outlives versions of polars and layouts of files, with 64-bit unsigned
    integers that wrap. A cell is a word: `ts` its microseconds, `trade_count` its value, a float its IEEE 754 bits (NaN
    0x7ff8000000000000), text the first eight bytes, little-endian, of its UTF-8's BLAKE2b-64, null
    0x7ff86e756c6c0000. A row starts at h = 0 and takes its words in the order of `HASHED`: h = (h ^ word) · FIRST,
    h ^= h >> 32. The n-th row of a symbol-day, from 1, becomes mix(h + n · GOLDEN), where mix is SplitMix64's
    finaliser. The hash is mix of their sum plus the number of rows.
    """
    if bars.is_empty():
        return pl.DataFrame(schema=COLUMNS)
    grouped, first = bars, symbol_day_starts(bars)
    if bars.select(KEY)[first].is_duplicated().any():
        grouped = bars.with_row_index().sort(pl.col("index").min().over(KEY), maintain_order=True)
        first = symbol_day_starts(grouped)
    count = np.diff(np.append(first, grouped.height))
    number = np.arange(1, grouped.height + 1, dtype=np.uint64)
    number -= np.repeat(first.astype(np.uint64), count)
    columns = [_words(grouped[name]) for name in HASHED]
    for at in range(0, grouped.height, CHUNK):
        _hash_rows([column[at : at + CHUNK] for column in columns], number[at : at + CHUNK])
    totals = np.add.reduceat(number, first) + count.astype(np.uint64)
    _mix(totals, np.empty_like(totals))
    digits = pl.Series("content_hash", [f"{total:016x}" for total in totals.tolist()], dtype=pl.String)
    return grouped.select(KEY)[first].with_columns(digits)


def changed_days(before: pl.DataFrame, after: pl.DataFrame) -> frozenset[date]:
    """Dates on which two versions of one symbol's bars differ. The frames need no `symbol`."""
    of_one = pl.lit("").alias("symbol")
    hashes = [content_hashes(version.with_columns(of_one)).drop("symbol") for version in (before, after)]
    differ = pl.col("content_hash").ne_missing(pl.col("content_hash_right"))
    joined = hashes[0].join(hashes[1], on="session_date", how="full", coalesce=True)
    return frozenset(joined.filter(differ)["session_date"])


def _hash_rows(columns: Sequence[Words], number: Words) -> None:
    """Put the rows' hashes in the place of their numbers."""
    hashed, shifted = np.zeros_like(number), np.empty_like(number)
    for words in columns:
        hashed ^= words
        hashed *= FIRST
        hashed ^= np.right_shift(hashed, HALF, out=shifted)
    number *= GOLDEN
    number += hashed
    _mix(number, shifted)


def _words(values: pl.Series) -> Words:
    """The column's cells as words; without a copy where every cell is a number like any other."""
    nulls = values.null_count()
    if nulls == len(values):
        return np.broadcast_to(NULL, len(values))
    if values.dtype == pl.Categorical:
        return _text_words(values)
    numbers = (values.fill_null(0) if nulls else values).to_physical().to_numpy()
    words = _float_words(numbers) if values.dtype.is_float() else numbers.view(np.uint64)
    return np.where(values.is_null().to_numpy(), NULL, words) if nulls else words


def _float_words(values: npt.NDArray[np.float64]) -> Words:
    words = values.view(np.uint64)
    if np.isnan(values).any() or (words == MINUS_ZERO).any():
        words = np.where(np.isnan(values), np.nan, values + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
    return words


def _text_words(values: pl.Series) -> Words:
    distinct = values.unique()
    words = [_text_word(text) for text in distinct.cast(pl.String)]
    if len(words) == 1:
        return np.broadcast_to(words[0], len(values))
    known = pl.DataFrame({"text": distinct, "word": pl.Series(words, dtype=pl.UInt64)})
    found = values.alias("text").to_frame().join(known, on="text", how="left", nulls_equal=True, maintain_order="left")
    return found["word"].to_numpy()


def _text_word(text: str | None) -> np.uint64:
    return NULL if text is None else np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(words: Words, shifted: Words) -> None:
    """SplitMix64's finaliser, in place."""
    for shift, factor in ((30, FIRST), (27, SECOND), (31, ONE)):
        words ^= np.right_shift(words, np.uint64(shift), out=shifted)
        words *= factor
