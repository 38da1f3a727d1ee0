"""A drop folder as a provider: what it answers, which settings it refuses, which files it does not trust."""

import logging
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from marketpipe_assets.bars.schema import VENDOR_COLUMNS
from marketpipe_assets.providers.base import BadFile, ProviderError
from marketpipe_assets.providers.files import FilesProvider

DAY = (datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC))
PRICED = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


def minutes(*rows: str) -> str:
    return "t,o,h,l,c,v\n" + "\n".join(rows) + "\n"


def provider(root: Path, **settings: Any) -> FilesProvider:
    given: dict[str, Any] = {
        "format": "csv",
        "path": "{symbol}/{date:%Y-%m-%d}.csv",
        "columns": {"ts": "t", **PRICED},
        "timezone": "UTC",
        "label": "start",
    }
    return FilesProvider(root=str(root), **{**given, **settings})


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_zip(path: Path, members: Mapping[str, str] | Sequence[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, content)


def crypto(root: Path) -> FilesProvider:
    return FilesProvider(format="lean", root=str(root), security="crypto", market="coinbase")


CRYPTO_ZIP = Path("crypto/coinbase/minute/btcusd/20240102_trade.zip")
CRYPTO_MEMBER = "20240102_btcusd_minute_trade.csv"


def test_bars_have_the_vendor_columns_with_provider_and_feed(tmp_path: Path) -> None:
    write(tmp_path / "ABC/2024-01-02.csv", minutes("2024-01-02 09:00:00,1,2,0.5,1.5,10"))

    bars = provider(tmp_path, name="mine", feed="gold").minute_bars(["ABC"], *DAY)

    assert dict(bars.schema) == dict(VENDOR_COLUMNS)
    assert bars.rows() == [
        ("ABC", datetime(2024, 1, 2, 9, tzinfo=UTC), 1.0, 2.0, 0.5, 1.5, 10.0, None, None, "mine", "gold")
    ]


def test_symbols_come_in_the_order_asked_and_rows_as_they_arrived(tmp_path: Path) -> None:
    rows = ("2024-01-02 09:01:00,2,2,2,2,1", "2024-01-02 09:00:00,1,1,1,1,1", "2024-01-02 09:00:00,3,3,3,3,1")
    write(tmp_path / "B/2024-01-02.csv", minutes(*rows))
    write(tmp_path / "A/2024-01-02.csv", minutes(rows[0]))

    bars = provider(tmp_path).minute_bars(["B", "A"], *DAY)

    assert bars["symbol"].to_list() == ["B", "B", "B", "A"]
    assert bars["open"].to_list() == [2.0, 1.0, 3.0, 2.0]


def test_bars_outside_the_range_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "A/2024-01-02.csv", minutes(*(f"2024-01-02 09:0{n}:00,1,1,1,1,{n}" for n in range(4))))

    bars = provider(tmp_path).minute_bars(
        ["A"], datetime(2024, 1, 2, 9, 1, tzinfo=UTC), datetime(2024, 1, 2, 9, 3, tzinfo=UTC)
    )

    assert bars["volume"].to_list() == [1.0, 2.0]


def test_files_of_other_dates_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path / "A/2024-01-02.csv", minutes("2024-01-02 09:00:00,1,1,1,1,1"))
    write(tmp_path / "A/2024-01-03.csv", "")

    assert provider(tmp_path).minute_bars(["A"], *DAY).height == 1


def test_absent_files_have_no_bars(tmp_path: Path) -> None:
    bars = provider(tmp_path).minute_bars(["A"], *DAY)

    assert bars.is_empty()
    assert dict(bars.schema) == dict(VENDOR_COLUMNS)


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="expected a folder at root"):
        provider(tmp_path / "nowhere").minute_bars(["A"], *DAY)


@pytest.mark.parametrize("symbol", ["../x", "a/b", "..", ".hidden", "a\\b", "a\0b", ""])
def test_a_symbol_cannot_leave_the_root(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(ProviderError, match="cannot name a file"):
        provider(tmp_path).minute_bars([symbol], *DAY)


def test_symbols_are_read_under_the_vendors_names(tmp_path: Path) -> None:
    write(tmp_path / "BRK-B/2024-01-02.csv", minutes("2024-01-02 09:00:00,1,1,1,1,1"))

    bars = provider(tmp_path, symbols={"BRK.B": "BRK-B"}).minute_bars(["BRK.B"], *DAY)

    assert bars["symbol"].to_list() == ["BRK.B"]


def test_two_symbols_of_one_vendor_symbol_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="one symbol for each"):
        provider(tmp_path, symbols={"A": "B"}).minute_bars(["A", "B"], *DAY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "xls"}, "expected one of lean, dbn, csv, parquet, binance, massive, was 'xls'"),
        ({"label": None}, "missing: label"),
        ({"label": "middle"}, "expected start or end, was 'middle'; it is not guessed"),
        ({"unit": "days"}, "expected one of s, ms, us, ns"),
        ({"market": "usa"}, "not of this format: market"),
        ({"path": "../{symbol}.csv"}, "expected a path below root"),
        ({"path": "{ticker}.csv"}, "expected {symbol} and {date:%Y-%m-%d}"),
        ({"path": "{symbol"}, "path: expected {symbol} and {date:%Y-%m-%d} as fields, was '{symbol': expected '}'"),
        ({"path": "{symbol!r}.csv"}, "path: expected {symbol} and {date:%Y-%m-%d} as fields, was {symbol!r} in "),
        ({"daily_path": "{ticker}.csv"}, "daily_path: expected {symbol} and {date:%Y-%m-%d} as fields, was {ticker}"),
        ({"path": "{date}.csv"}, "expected {symbol} and {date:%Y-%m-%d}"),
        ({"path": "all.csv"}, "missing: ['symbol']"),
        ({"columns": {"ts": "t", **PRICED, "vwop": "w"}}, "unknown: ['vwop']"),
        ({"columns": {"date": "d", **PRICED}}, "missing: ['time']"),
        ({"columns": {"ts": "o", **PRICED}}, "each column of the file once"),
        ({"scale": 0.0}, "greater than 0"),
        ({"timezone": "New York"}, "expected a name such as America/New_York, was 'New York'"),
    ],
)
def test_wrong_settings_fail_when_the_provider_is_made(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as failure:
        provider(tmp_path, **settings)

    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected rows, it is empty"),
        (["2024-01-02 09:00:00,1,1,1,x,1"], "expected a number as close, line 2 has 'x'"),
        (["2024-01-02 09:00:00,1,1,1,nan,1"], "expected finite numbers"),
        (["2024-01-02 09:00:00,1,1,1,1"], "expected 6 columns, line 2 has 5"),
        (["2024-01-03 09:00:00,1,1,1,1,1"], "expected bars of 2024-01-02 .UTC., it has some of 2024-01-03"),
        (["02/01/2024 09:00,1,1,1,1,1"], "expected a time .ISO 8601"),
        ([f"2024-01-02 09:00:{n:02},1,1,1,1,1" for n in range(9)], "expected times on whole minutes"),
        ([f"2024-01-02 {n:02}:00:00,1,1,1,1,1" for n in range(9)], "bars of 1 minute, all its times are 60 minutes"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_by_name(tmp_path: Path, rows: list[str], message: str) -> None:
    write(tmp_path / "A/2024-01-02.csv", minutes(*rows))

    with pytest.raises(BadFile, match=message) as failure:
        provider(tmp_path).minute_bars(["A"], *DAY)
    assert "A/2024-01-02.csv" in str(failure.value)


def test_a_few_trades_of_an_illiquid_symbol_are_not_taken_for_longer_bars(tmp_path: Path) -> None:
    write(tmp_path / "A/2024-01-02.csv", minutes(*(f"2024-01-02 {n:02}:30:00,1,1,1,1,1" for n in (9, 10, 15))))

    assert provider(tmp_path).minute_bars(["A"], *DAY).height == 3


def test_a_stray_time_off_the_minute_is_left_to_the_rules(tmp_path: Path) -> None:
    rows = [f"2024-01-02 09:{n:02}:00,1,1,1,1,1" for n in range(8)]
    write(tmp_path / "A/2024-01-02.csv", minutes(*rows, "2024-01-02 09:08:13,1,1,1,1,1"))

    assert provider(tmp_path).minute_bars(["A"], *DAY).height == 9


def test_an_empty_file_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "A/2024-01-02.csv", "")

    with pytest.raises(BadFile, match=r"A/2024-01-02.csv: expected rows, the file is empty"):
        provider(tmp_path).minute_bars(["A"], *DAY)


def test_the_file_at_fault_is_named_among_many(tmp_path: Path) -> None:
    write(tmp_path / "A/2024-01-02.csv", minutes("2024-01-02 09:00:00,1,1,1,1,1"))
    write(tmp_path / "B/2024-01-02.csv", minutes("2024-01-02 09:00:00,1,1,?,1,1"))

    with pytest.raises(BadFile, match=r"B/2024-01-02.csv: expected a number as low"):
        provider(tmp_path).minute_bars(["A", "B"], *DAY)


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CRYPTO_ZIP
    write_zip(path, {CRYPTO_MEMBER: "0,1,1,1,1,1\n" * 50})
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(BadFile, match="expected a whole zip"):
        crypto(tmp_path).minute_bars(["BTCUSD"], *DAY)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({CRYPTO_MEMBER: ""}, "expected rows in each member"),
        ({"20240103_btcusd_minute_trade.csv": "0,1,1,1,1,1"}, "expected members named 20240102_btcusd_minute_trade"),
        ({"20240102_btcusd_hour_trade.csv": "0,1,1,1,1,1"}, "expected members named 20240102_btcusd_minute_trade"),
        ({CRYPTO_MEMBER: "0,1,1,1,1"}, "expected 6 columns, line 1 has 5"),
        ({CRYPTO_MEMBER: "0,1,,1,1,1"}, "expected a number in each of"),
        ({CRYPTO_MEMBER: "86400000,1,1,1,1,1"}, "below 86400000, was 86400000"),
        ({f"../{CRYPTO_MEMBER}": "0,1,1,1,1,1"}, "expected members inside the zip"),
        ({f"/{CRYPTO_MEMBER}": "0,1,1,1,1,1"}, "expected members inside the zip"),
        ({CRYPTO_MEMBER: "0" * 3_000_000}, "expanded bytes"),
        ({CRYPTO_MEMBER: "0,1,1,1,1,1", "20240102_btcusd_minute_trade_perp.csv": "0,1,1,1,1,1"}, "there are two"),
    ],
)
def test_an_archive_that_is_not_what_it_says_is_refused(tmp_path: Path, members: dict[str, str], message: str) -> None:
    write_zip(tmp_path / CRYPTO_ZIP, members)

    with pytest.raises(BadFile, match=message) as failure:
        crypto(tmp_path).minute_bars(["BTCUSD"], *DAY)
    assert "20240102_trade.zip" in str(failure.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / CRYPTO_ZIP, [(CRYPTO_MEMBER, "0,1,1,1,1,1")] * 2)

    with pytest.raises(BadFile, match="expected each member once"):
        crypto(tmp_path).minute_bars(["BTCUSD"], *DAY)


def test_an_archive_with_too_many_members_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / CRYPTO_ZIP, {f"{n}.csv": "0" for n in range(4)})
    limited = FilesProvider(format="lean", root=str(tmp_path), security="crypto", market="coinbase", max_members=3)

    with pytest.raises(BadFile, match="expected at most 3 members, it has 4"):
        limited.minute_bars(["BTCUSD"], *DAY)


def test_filler_of_binance_is_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kline = "{},1,2,0.5,1.5,{},0,10,{},0,0,0"
    rows = [kline.format(1704153600000, 3.5, 7), kline.format(1704153660000, 0, 0)]
    write_zip(tmp_path / "ABCUSDT-1m-2024-01-02.zip", {"ABCUSDT-1m-2024-01-02.csv": "\n".join(rows)})

    with caplog.at_level(logging.INFO):
        bars = FilesProvider(format="binance", root=str(tmp_path)).minute_bars(["ABCUSDT"], *DAY)

    assert bars.select("volume", "trade_count").rows() == [(3.5, 7)]
    assert "dropped 1 filler bars of ABCUSDT" in caplog.text
