"""Whatever a symbol is called, its file lies below the lake, or the symbol is refused."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketpipe_assets.lake.layout import (
    BarFile,
    bar_file_of,
    check_symbol,
    folder_symbol,
    locks_of,
    period_of,
    symbol_folder,
)

LAKE = Path("/data/lake")
SYMBOLS = r"[A-Za-z0-9][A-Za-z0-9._/:^=+-]{0,31}"

HOSTILE = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "/",
            "\\",
            "\0",
            "%2e",
            "%2F",
            "%00",
            "C:",
            "~",
            "|",
            " ",
            "\n",
            "=",
            "AUX",
            "é",
            "A",
            "９",
            "\u202e",
        ]  # noqa: PLE2502, RUF100  # right-to-left override
    ),
    min_size=1,
    max_size=8,
).map("".join)


@given(st.one_of(st.text(max_size=80), HOSTILE))
@example("../../etc/passwd")
@example("A/../../B")
@example("A/..")
@example("/etc/passwd")
@example("C:/Windows")
@example("AAPL\0.parquet")
@example("%2e%2e/x")
@example("AAPL\n")
@example("A" * 33)
@example("")
def test_a_path_stays_below_the_lake_or_the_symbol_is_refused(symbol: str) -> None:
    try:
        path = BarFile("us_equities", "bars_1m", symbol, "2024-01").below(LAKE)
    except ValueError:
        return

    assert path.resolve().relative_to(LAKE.resolve()).parts == path.relative_to(LAKE).parts
    assert path.parent.parent == LAKE / "us_equities" / "bars_1m"
    assert path.name == "2024-01.parquet"
    assert len(path.parent.name) < 255


@given(st.from_regex(SYMBOLS, fullmatch=True).filter(lambda name: ".." not in name))
def test_a_folder_gives_back_its_symbol(symbol: str) -> None:
    folder = symbol_folder(symbol)

    assert folder_symbol(folder) == symbol
    assert "/" not in folder
    assert folder.isascii()


@given(
    st.from_regex(SYMBOLS, fullmatch=True).filter(lambda name: ".." not in name), st.sampled_from(["2024", "2024-01"])
)
def test_a_path_gives_back_its_market_table_symbol_and_period(symbol: str, period: str) -> None:
    file = BarFile("us_equities", "bars_1m", symbol, period)

    assert bar_file_of(LAKE, file.below(LAKE)) == file


@pytest.mark.parametrize(
    "path",
    [
        "us_equities/bars_1m/symbol=AAPL",
        "us_equities/bars_1m/AAPL/2024-01.parquet",
        "us_equities/bars_1m/symbol=AAPL/.2024-01.parquet.tmp",
        "us_equities/bars_1m/symbol=AAPL/2024-01-02.parquet",
        "us_equities/bars_1m/symbol=AAPL/more/2024-01.parquet",
    ],
)
def test_a_path_at_which_no_bars_are_kept_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"expected market/table/symbol=…/period\.parquet, was"):
        bar_file_of(LAKE, LAKE / path)


def test_locks_lie_beside_the_lake_and_not_in_it() -> None:
    assert locks_of(LAKE).parent == LAKE.parent
    assert locks_of(LAKE) != LAKE


@pytest.mark.parametrize(
    ("symbol", "folder"),
    [
        ("AAPL", "symbol=AAPL"),
        ("BRK.B", "symbol=BRK.B"),
        ("BTC/USD", "symbol=BTC%2FUSD"),
        ("0700", "symbol=0700"),
        ("GC=F", "symbol=GC%3DF"),
        ("X:BTCUSD", "symbol=X%3ABTCUSD"),
    ],
)
def test_symbols_have_one_folder_each(symbol: str, folder: str) -> None:
    assert symbol_folder(symbol) == folder


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        ".",
        "..",
        "../x",
        "A/../B",
        ".A",
        "/A",
        "-A",
        "^GSPC",
        "A B",
        "A|B",
        "A\0",
        "A\n",
        "%2e",
        "é",
        "A" * 33,
        "A\\B",
    ],
)
def test_a_symbol_that_cannot_name_a_folder_is_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="expected a symbol of 1 to 32 letters"):
        check_symbol(symbol)


@pytest.mark.parametrize(
    ("table", "period"),
    [
        ("raw_bars_1m", "2024-02"),
        ("bars_1m", "2024-02"),
        ("quarantined_bars_1m", "2024-02"),
        ("bars_5m", "2024"),
        ("bars_1d", "2024"),
    ],
)
def test_minute_bars_lie_in_months_and_longer_bars_in_years(table: str, period: str) -> None:
    assert period_of(table, date(2024, 2, 29)) == period
