"""What each format of local files makes of its rows."""

import gzip
import hashlib
import struct
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn
import polars as pl
import pyarrow as pa
import pytest

from marketpipe_assets.providers.base import BadFile, ProviderError
from marketpipe_assets.providers.files import FilesProvider

YEARS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
OHLC = {"open": "o", "high": "h", "low": "l", "close": "c"}
KLINE = "{},1,2,0.5,1.5,3.5,0,10,7,0,0,0"


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def write_zip(path: Path, **members: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return path


def lean(root: Path, security: str, market: str, **settings: Any) -> FilesProvider:
    return FilesProvider(format="lean", root=str(root), security=security, market=market, **settings)


def times(provider: FilesProvider, *symbols: str) -> list[datetime]:
    return provider.minute_bars(symbols, *YEARS)["ts"].to_list()


def test_lean_equity_prices_are_the_nearest_doubles_in_dollars(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "equity/usa/minute/abc/20240102_trade.zip",
        **{"20240102_abc_minute_trade": "34200000,1688900,1689100,1688400,1672600,650"},
    )

    bars = lean(tmp_path, "equity", "usa").minute_bars(["ABC"], *YEARS)

    assert bars.select("ts", "open", "high", "low", "close", "volume").rows() == [
        (at(2024, 1, 2, 14, 30), 168.89, 168.91, 168.84, 167.26, 650.0)
    ]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("20240310", at(2024, 3, 10, 13, 30)),
        ("20241103", at(2024, 11, 3, 14, 30)),
        ("20240702", at(2024, 7, 2, 13, 30)),
    ],
)
def test_lean_times_are_wall_time_on_days_of_23_24_and_25_hours(tmp_path: Path, day: str, expected: datetime) -> None:
    write_zip(tmp_path / f"equity/usa/minute/abc/{day}_trade.zip", **{f"{day}_abc_minute_trade": "34200000,1,1,1,1,1"})

    assert times(lean(tmp_path, "equity", "usa"), "ABC") == [expected]


def test_lean_hour_that_comes_twice_is_the_later_one_from_where_it_begins_again(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "equity/usa/minute/abc/20241103_trade.zip",
        **{"20241103_abc_minute_trade": "5400000,1,1,1,1,1\n7140000,2,2,2,2,2\n3600000,3,3,3,3,3\n9000000,4,4,4,4,4"},
    )

    assert times(lean(tmp_path, "equity", "usa"), "ABC") == [
        at(2024, 11, 3, 5, 30),
        at(2024, 11, 3, 5, 59),
        at(2024, 11, 3, 6),
        at(2024, 11, 3, 7, 30),
    ]


def test_lean_local_time_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "equity/usa/minute/abc/20240310_trade.zip", **{"20240310_abc_minute_trade": "9000000,1,1,1,1,1"}
    )

    with pytest.raises(BadFile, match="a time that exists in America/New_York"):
        times(lean(tmp_path, "equity", "usa"), "ABC")


@pytest.mark.parametrize(
    ("security", "market", "expected"),
    [
        ("equity", "india", at(2024, 7, 1, 18, 30)),
        ("crypto", "bybit", at(2024, 7, 2)),
        ("index", "usa", at(2024, 7, 2, 5)),
    ],
)
def test_lean_midnight_is_that_of_the_source(tmp_path: Path, security: str, market: str, expected: datetime) -> None:
    write_zip(
        tmp_path / f"{security}/{market}/minute/abc/20240702_trade.zip",
        **{"20240702_abc_minute_trade": "0,1,1,1,1,1"},
    )

    assert times(lean(tmp_path, security, market), "ABC") == [expected]


def test_lean_zone_and_scale_can_be_given(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "index/ose/minute/abc/20240702_trade.zip", **{"20240702_abc_minute_trade": "0,100,100,100,100,1"}
    )

    bars = lean(tmp_path, "index", "ose", timezone="Asia/Tokyo", scale=100.0).minute_bars(["ABC"], *YEARS)

    assert bars.select("ts", "open").rows() == [(at(2024, 7, 1, 15), 1.0)]
    with pytest.raises(ValueError, match="index/ose needs `timezone` and `scale`"):
        lean(tmp_path, "index", "ose")


def test_lean_range_over_several_local_dates_reads_several_files(tmp_path: Path) -> None:
    for day in ("20240505", "20240506"):
        write_zip(
            tmp_path / f"forex/fxcm/minute/eurusd/{day}_quote.zip",
            **{f"{day}_eurusd_minute_quote": "72000000,1,1,1,1,0,2,2,2,2,0\n14400000,1,1,1,1,0,2,2,2,2,0"},
        )

    bars = lean(tmp_path, "forex", "fxcm").minute_bars(["EURUSD.bid"], at(2024, 5, 6), at(2024, 5, 7))

    assert bars["ts"].to_list() == [at(2024, 5, 6, 1), at(2024, 5, 6, 9)]


def test_lean_quotes_are_two_symbols_and_a_missing_side_is_no_bar(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "equity/usa/minute/abc/20240702_quote.zip",
        **{
            "20240702_abc_minute_quote": "34200000,10000,20000,5000,15000,300,10100,20100,5100,15100,200\n"
            "34260000,,,,,0,10200,20200,5200,15200,200"
        },
    )

    bars = lean(tmp_path, "equity", "usa").minute_bars(["ABC.ask", "ABC.bid"], *YEARS)

    assert bars.select("symbol", "open", "close", "volume").rows() == [
        ("ABC.ask", 1.01, 1.51, 0.0),
        ("ABC.ask", 1.02, 1.52, 0.0),
        ("ABC.bid", 1.0, 1.5, 0.0),
    ]


def test_lean_forex_needs_a_side(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"expected EURUSD\.bid or EURUSD\.ask"):
        times(lean(tmp_path, "forex", "fxcm"), "EURUSD")


def test_lean_contracts_of_one_zip_are_symbols(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "future/cme/minute/es/20240702_trade.zip",
        **{
            "20240702_es_minute_trade_202409": "0,9,9,9,9,9",
            "20240702_es_minute_trade_202412_20241220": "0,12,12,12,12,12",
        },
    )

    bars = lean(tmp_path, "future", "cme").minute_bars(["ES.202412", "ES.202409", "ES.202503"], *YEARS)

    assert bars.select("symbol", "open").rows() == [("ES.202412", 12.0), ("ES.202409", 9.0)]
    with pytest.raises(ProviderError, match="named by its contract"):
        times(lean(tmp_path, "future", "cme"), "ES")


def test_lean_symbols_of_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="differ in more than their case"):
        times(lean(tmp_path, "equity", "usa"), "ABC", "abc")


def test_lean_perpetual_has_a_suffix(tmp_path: Path) -> None:
    write_zip(
        tmp_path / "cryptofuture/bybit/minute/abcusdt/20240702_trade.zip",
        **{"20240702_abcusdt_minute_trade_perp": "0,1,1,1,1,0.5"},
    )

    assert times(lean(tmp_path, "cryptofuture", "bybit"), "ABCUSDT") == [at(2024, 7, 2)]


def csv(root: Path, content: str, **settings: Any) -> pl.DataFrame:
    (root / "A.csv").write_text(content)
    given: dict[str, Any] = {"path": "{symbol}.csv", "columns": {"ts": "t", **OHLC}, "label": "start"}
    provider = FilesProvider(format="csv", root=str(root), **{**given, **settings})
    return provider.minute_bars(["A"], *YEARS)


@pytest.mark.parametrize(
    ("time", "settings", "expected"),
    [
        ("2024-07-02T09:00:00Z", {}, at(2024, 7, 2, 9)),
        ("2024-07-02 09:00:00+02:00", {}, at(2024, 7, 2, 7)),
        ("2024-07-02 09:00", {"timezone": "Europe/Berlin"}, at(2024, 7, 2, 7)),
        ("2024-07-02 09:00:00.000", {"timezone": "Europe/Berlin", "label": "end"}, at(2024, 7, 2, 6, 59)),
        ("02.07.2024 09:00", {"timezone": "UTC", "time_format": "%d.%m.%Y %H:%M"}, at(2024, 7, 2, 9)),
        ("1719910800", {"unit": "s"}, at(2024, 7, 2, 9)),
        ("1719910800000", {"unit": "ms"}, at(2024, 7, 2, 9)),
        ("1719910800000000", {"unit": "us"}, at(2024, 7, 2, 9)),
        ("1719910800000000000", {"unit": "ns", "label": "end"}, at(2024, 7, 2, 8, 59)),
    ],
)
def test_csv_times_are_read_as_described(
    tmp_path: Path, time: str, settings: dict[str, Any], expected: datetime
) -> None:
    assert csv(tmp_path, f"t,o,h,l,c\n{time},1,1,1,1\n", **settings)["ts"].to_list() == [expected]


@pytest.mark.parametrize(
    ("time", "settings", "message"),
    [
        ("2024-07-02 09:00", {}, "expected the setting `timezone`"),
        ("1719910800000", {"unit": "s"}, "expected times in s since 1970, was 1719910800000"),
        ("1719910800", {"unit": "ns"}, "expected times in ns since 1970"),
        ("2024-03-10 02:30", {"timezone": "America/New_York"}, "expected a time"),
    ],
)
def test_csv_times_are_not_guessed(tmp_path: Path, time: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadFile, match=message):
        csv(tmp_path, f"t,o,h,l,c\n{time},1,1,1,1\n", **settings)


def test_csv_without_volume_has_none_and_prices_are_divided_by_the_scale(tmp_path: Path) -> None:
    bars = csv(tmp_path, "t,o,h,l,c\n2024-07-02T09:00Z,16889,,16884,16726\n", scale=100.0)

    assert bars.select("open", "high", "close", "volume").rows() == [(168.89, None, 167.26, 0.0)]


def test_csv_without_a_usable_header_counts_its_columns(tmp_path: Path) -> None:
    columns = {"date": "0", "time": "1", "open": "2", "high": "3", "low": "4", "close": "5", "volume": "6"}

    bars = csv(
        tmp_path,
        "Date,Open,High,Low,Close,Volume\r\n2024-07-02,09:01:00,1,2,0.5,1.5,7\r\n",
        columns=columns,
        header=False,
        skip_rows=1,
        timezone="UTC",
        label="end",
    )

    assert bars.select("ts", "close", "volume").rows() == [(at(2024, 7, 2, 9), 1.5, 7.0)]


def test_csv_tells_a_missing_column_and_the_header(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="expected one column each named 'c', its header is 't', 'o', 'h', 'l', ' c'"):
        csv(tmp_path, "t,o,h,l, c\n2024-07-02T09:00Z,1,1,1,1\n")


@pytest.mark.parametrize(
    ("above", "settings", "line"),
    [
        ("", {"header": False, "columns": {"ts": "0", "open": "1", "high": "2", "low": "3", "close": "4"}}, 3),
        ("t,o,h,l,c\n", {}, 4),
        ("t,o,h,l,c\n\n\n", {}, 6),
        ("by\nmail\nt,o,h,l,c\n", {"skip_rows": 2}, 6),
    ],
)
def test_csv_tells_the_line_of_the_file(tmp_path: Path, above: str, settings: dict[str, Any], line: int) -> None:
    good = "2024-07-02T09:00Z,1,1,1,1\n"

    with pytest.raises(BadFile, match=f"expected a number as close, line {line} has 'x'"):
        csv(tmp_path, f"{above}{good}{good}2024-07-02T09:02Z,1,1,1,x\n", **settings)


def test_csv_whose_lines_end_without_a_line_feed_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_bytes(b"t,o,h,l,c\r2024-07-02T09:00Z,1,1,1,1\r")
    columns = {"ts": "t", **OHLC}
    provider = FilesProvider(format="csv", root=str(tmp_path), path="{symbol}.csv", columns=columns, label="start")

    with pytest.raises(
        BadFile, match=r"A.csv: expected rows that end with a line feed, was a first one with: new-line"
    ):
        provider.minute_bars(["A"], *YEARS)


def berlin(*local: str) -> str:
    """Rows of 2024-10-27, on which the hour from 02:00 to 03:00 comes twice, and of the days around."""
    return "t,o,h,l,c\n" + "".join(f"2024-10-{time},1,1,1,1\n" for time in local)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (("27 01:59", "27 02:00", "27 02:59", "27 02:00", "27 02:59", "27 03:00"), (-1, 0, 59, 60, 119, 120)),
        (("26 12:00", "27 02:10", "27 02:50", "27 02:20", "27 05:00"), (-840, 10, 50, 80, 240)),
        (("27 02:58", "27 02:59", "27 03:00"), (118, 119, 120)),
        (("27 02:10", "27 02:59", "27 03:00", "27 03:02"), (70, 119, 120, 122)),
        (("27 01:59", "27 02:00", "27 02:10"), (-1, 0, 10)),
        (("27 01:59", "27 02:00", "27 02:10", "27 04:00"), (-1, 0, 10, 180)),
    ],
)
def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_rows_and_by_those_around(
    tmp_path: Path, local: Sequence[str], expected: Sequence[int]
) -> None:
    bars = csv(tmp_path, berlin(*local), timezone="Europe/Berlin")

    since = (bars["ts"] - at(2024, 10, 27)).dt.total_minutes()
    assert since.to_list() == list(expected)


def test_the_hour_that_comes_twice_is_told_apart_for_each_symbol(tmp_path: Path) -> None:
    local = [f"27 {time}" for time in ("01:59", "02:00", "02:59", "02:00", "02:59", "03:00")]
    rows = [f"2024-10-{time},1,1,1,1,{symbol}\n" for time in local for symbol in "BA"]
    (tmp_path / "all.csv").write_text("t,o,h,l,c,s\n" + "".join(rows))
    columns = {"ts": "t", "symbol": "s", **OHLC}
    provider = FilesProvider(
        format="csv", root=str(tmp_path), path="all.csv", columns=columns, label="start", timezone="Europe/Berlin"
    )

    bars = provider.minute_bars(["A", "B"], *YEARS)

    since = (bars["ts"] - at(2024, 10, 27)).dt.total_minutes().to_list()
    assert since == [-1, 0, 59, 60, 119, 120] * 2


@pytest.mark.parametrize(
    "local",
    [
        ("27 02:00",),
        ("27 01:59", "27 02:00", "27 02:59", "27 03:00"),
        ("27 01:30", "27 02:00", "27 02:30", "27 03:30"),
        ("27 02:30", "27 02:20", "27 02:10", "27 02:00"),
    ],
)
def test_an_hour_that_comes_twice_and_is_not_told_apart_is_refused(tmp_path: Path, local: Sequence[str]) -> None:
    with pytest.raises(
        BadFile,
        match=r"A.csv: expected UTC, times with an offset, or .*, was 2024-10-27 02:.., which comes twice in Eur",
    ):
        csv(tmp_path, berlin(*local), timezone="Europe/Berlin")


def test_csv_symbols_that_look_like_nulls_and_booleans_survive(tmp_path: Path) -> None:
    symbols = ("NA", "TRUE", "NAN", "null", "0700")
    rows = "\n".join(f"2024-07-02T09:00Z,1,1,1,1,{symbol}" for symbol in symbols)
    with gzip.open(tmp_path / "all.csv.gz", "wt") as file:
        file.write(f"t,o,h,l,c,s\n{rows}\n")
    provider = FilesProvider(
        format="csv",
        root=str(tmp_path),
        path="all.csv.gz",
        columns={"ts": "t", "symbol": "s", **OHLC},
        label="start",
    )

    assert provider.minute_bars(symbols[::-1], *YEARS)["symbol"].to_list() == list(symbols[::-1])


def test_csv_end_labels_at_midnight_belong_to_the_day_before(tmp_path: Path) -> None:
    (tmp_path / "A-2024-07-03.csv").write_text("t,o,h,l,c\n2024-07-03 00:00,1,1,1,1\n2024-07-03 00:01,2,2,2,2\n")
    provider = FilesProvider(
        format="csv",
        root=str(tmp_path),
        path="{symbol}-{date:%Y-%m-%d}.csv",
        columns={"ts": "t", **OHLC},
        timezone="UTC",
        label="end",
    )

    assert provider.minute_bars(["A"], at(2024, 7, 2), at(2024, 7, 3))["ts"].to_list() == [at(2024, 7, 2, 23, 59)]


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(("t,o,h,l,c\n" + "2024-07-02T09:00Z,1,1,1,1\n" * 99).encode())
    (tmp_path / "A.csv.gz").write_bytes(content[:-20])

    with pytest.raises(BadFile, match=r"A.csv.gz: expected a whole .gz file"):
        csv(tmp_path, "", path="{symbol}.csv.gz")


def test_a_gzip_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.csv.gz").write_bytes(gzip.compress(b"0" * 3_000_000))

    with pytest.raises(BadFile, match="expanded bytes"):
        csv(tmp_path, "", path="{symbol}.csv.gz")


def parquet(root: Path, frame: pl.DataFrame, **settings: Any) -> pl.DataFrame:
    frame.write_parquet(root / "A.parquet")
    given: dict[str, Any] = {"path": "{symbol}.parquet", "columns": {"ts": "t", **OHLC}, "label": "start"}
    return FilesProvider(format="parquet", root=str(root), **{**given, **settings}).minute_bars(["A"], *YEARS)


PRICES = {name: [1] for name in "ohlc"}
NAIVE = at(2024, 7, 2, 9).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("time", "settings", "expected"),
    [
        (NAIVE, {"timezone": "Europe/Berlin"}, at(2024, 7, 2, 7)),
        (at(2024, 7, 2, 9), {"label": "end"}, at(2024, 7, 2, 8, 59)),
        (1719910800000, {"unit": "ms"}, at(2024, 7, 2, 9)),
        ("2024-07-02T09:00Z", {}, at(2024, 7, 2, 9)),
    ],
)
def test_parquet_times_are_read_as_described(
    tmp_path: Path, time: object, settings: dict[str, Any], expected: datetime
) -> None:
    assert parquet(tmp_path, pl.DataFrame({"t": [time], **PRICES}), **settings)["ts"].to_list() == [expected]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"t": [1719910800000], **PRICES}), "expected the setting `unit`"),
        (pl.DataFrame({"t": [NAIVE], **PRICES}), "expected the setting `timezone`"),
        (pl.DataFrame({"t": [date(2024, 7, 2)], **PRICES}), "was Date"),
        (pl.DataFrame({"t": ["2024-07-02T09:00Z"], **PRICES, "o": ["1"]}), "expected numbers, was o as String"),
        (pl.DataFrame({"t": ["2024-07-02T09:00Z"], "o": [1]}), "expected columns h, l, c"),
        (pl.DataFrame({"t": [at(2024, 7, 2)], **PRICES}).clear(), "expected rows"),
    ],
)
def test_parquet_that_is_not_as_described_is_refused(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        parquet(tmp_path, frame)


def test_a_truncated_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.parquet").write_bytes(b"PAR1 and no more")
    provider = FilesProvider(
        format="parquet", root=str(tmp_path), path="{symbol}.parquet", columns={"ts": "t", **OHLC}, label="start"
    )

    with pytest.raises(BadFile, match=r"A.parquet: expected a whole Parquet file"):
        provider.minute_bars(["A"], *YEARS)


def binance(root: Path) -> FilesProvider:
    return FilesProvider(format="binance", root=str(root))


def klines(root: Path, stamp: str, *opened: int, header: str = "") -> Path:
    rows = header + "\n".join(KLINE.format(time) for time in opened)
    return write_zip(root / f"ABCUSDT-1m-{stamp}.zip", **{f"ABCUSDT-1m-{stamp}": rows})


def test_binance_times_are_milliseconds_or_microseconds_and_the_count_is_kept(tmp_path: Path) -> None:
    klines(tmp_path / "daily", "2024-12-31", 1735603200000, header="open_time,open\n")
    klines(tmp_path / "daily", "2025-01-01", 1735689600000000)

    bars = binance(tmp_path).minute_bars(["ABCUSDT"], *YEARS)

    assert bars.select("ts", "volume", "trade_count", "vwap").rows() == [
        (at(2024, 12, 31), 3.5, 7, None),
        (at(2025, 1, 1), 3.5, 7, None),
    ]


def test_binance_month_is_read_in_place_of_its_days(tmp_path: Path) -> None:
    klines(tmp_path / "monthly", "2024-12", 1735603200000)
    klines(tmp_path / "daily", "2024-12-31", 1735603200000)

    assert times(binance(tmp_path), "ABCUSDT") == [at(2024, 12, 31)]


def test_binance_checksum_is_verified_where_it_is_there(tmp_path: Path) -> None:
    path = klines(tmp_path, "2024-12-31", 1735603200000)
    beside = path.with_name(path.name + ".CHECKSUM")
    beside.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")

    assert times(binance(tmp_path), "ABCUSDT") == [at(2024, 12, 31)]
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(BadFile, match="expected sha256 0000"):
        times(binance(tmp_path), "ABCUSDT")


def test_binance_bars_of_another_date_are_refused(tmp_path: Path) -> None:
    klines(tmp_path, "2024-12-30", 1735603200000)

    with pytest.raises(BadFile, match=r"expected bars of 2024-12-30 .UTC., it has some of 2024-12-31"):
        times(binance(tmp_path), "ABCUSDT")


def test_binance_archive_in_two_folders_is_refused(tmp_path: Path) -> None:
    klines(tmp_path / "a", "2024-12-31", 1735603200000)
    klines(tmp_path / "b", "2024-12-31", 1735603200000)

    with pytest.raises(BadFile, match=r"expected one ABCUSDT-1m-2024-12-31.zip below root"):
        times(binance(tmp_path), "ABCUSDT")


MASSIVE_HEADER = "ticker,volume,open,close,high,low,window_start,transactions"


def massive(root: Path, *rows: str, header: str = MASSIVE_HEADER) -> FilesProvider:
    path = root / "us_stocks_sip/minute_aggs_v1/2024/07/2024-07-02.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write("\n".join([header, *rows]) + "\n")
    return FilesProvider(format="massive", root=str(root))


def test_massive_columns_are_taken_by_name_for_the_symbols_asked(tmp_path: Path) -> None:
    provider = massive(
        tmp_path, *(f"{ticker},10.25,1,2,3,0.5,1719910800000000000,4" for ticker in ("AAA", "NA", "TRUE"))
    )

    bars = provider.minute_bars(["TRUE", "NA"], *YEARS)

    assert bars.select("symbol", "ts", "open", "high", "low", "close", "volume", "trade_count").rows() == [
        ("TRUE", at(2024, 7, 2, 9), 1.0, 3.0, 0.5, 2.0, 10.25, 4),
        ("NA", at(2024, 7, 2, 9), 1.0, 3.0, 0.5, 2.0, 10.25, 4),
    ]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], MASSIVE_HEADER, "expected rows below the header"),
        (["A,1,1,1,1,1,1719910800000000000,1"], MASSIVE_HEADER.replace("close", "last"), "missing: close"),
        (["A,1,x,1,1,1,1719910800000000000,1"], MASSIVE_HEADER, "expected numbers in each column but ticker"),
        (["A,1,1,1,1,1,1719910800000,1"], MASSIVE_HEADER, "expected times in ns"),
        (["A,1,1,1,1,1,1720000800000000000,1"], MASSIVE_HEADER, "expected bars of 2024-07-02 .America/New_York."),
    ],
)
def test_a_massive_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, rows: Sequence[str], header: str, message: str
) -> None:
    with pytest.raises(BadFile, match=message):
        times(massive(tmp_path, *rows, header=header), "A")


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
def test_a_dbn_header_larger_than_its_file_can_be_is_refused(tmp_path: Path, name: str) -> None:
    content = b"DBN\x03" + struct.pack("<I", 2**32 - 1)
    (tmp_path / name).write_bytes(pa.compress(content, "zstd", asbytes=True) if name.endswith("zst") else content)

    with pytest.raises(BadFile, match=rf"{name}: expected a DBN header of at most \d+ bytes, it says {2**32 + 7}$"):
        from_dbn(tmp_path, "ABC")


UNDEFINED = 2**63 - 1


def dbn(path: Path, *records: bytes, schema: str = "ohlcv-1m") -> None:
    intervals = {
        "ABC": [(date(2024, 7, 2), date(2024, 7, 3), "1"), (date(2024, 7, 3), date(2024, 7, 4), "2")],
        "XYZ": [(date(2024, 7, 3), date(2024, 7, 4), "1")],
    }
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=a, end_date=b, symbol=name) for a, b, name in dated],
        )
        for symbol, dated in intervals.items()
    ]
    metadata = databento_dbn.Metadata(
        dataset="TEST.DATA",
        start=int(at(2024, 7, 2).timestamp()) * 10**9,
        end=int(at(2024, 7, 4).timestamp()) * 10**9,
        stype_in=databento_dbn.SType.from_str("raw_symbol"),
        stype_out=databento_dbn.SType.from_str("instrument_id"),
        schema=databento_dbn.Schema.from_str(schema),
        mappings=mappings,
    )
    content = metadata.encode() + b"".join(records)
    path.write_bytes(pa.compress(content, "zstd", asbytes=True) if path.suffix == ".zst" else content)


def record(instrument: int, time: datetime, close: int = 1_500_000_000, rtype: int = 33) -> bytes:
    nanos = int(time.timestamp()) * 10**9
    prices = (1_000_000_000, 2_000_000_000, 500_000_000, close)
    return struct.pack("<BBHIQqqqqQ", 14, rtype, 1, instrument, nanos, *prices, 7)


def from_dbn(root: Path, *symbols: str) -> pl.DataFrame:
    return FilesProvider(format="dbn", root=str(root)).minute_bars(symbols, *YEARS)


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
def test_dbn_symbols_are_those_of_the_date_and_undefined_prices_are_null(tmp_path: Path, name: str) -> None:
    dbn(
        tmp_path / name,
        record(1, at(2024, 7, 2, 9)),
        record(2, at(2024, 7, 3, 9), close=UNDEFINED),
        record(1, at(2024, 7, 3, 9)),
    )

    bars = from_dbn(tmp_path, "ABC", "XYZ")

    assert bars.select("symbol", "ts", "open", "close", "volume").rows() == [
        ("ABC", at(2024, 7, 2, 9), 1.0, 1.5, 7.0),
        ("ABC", at(2024, 7, 3, 9), 1.0, None, 7.0),
        ("XYZ", at(2024, 7, 3, 9), 1.0, 1.5, 7.0),
    ]


def test_dbn_files_outside_the_range_are_not_read(tmp_path: Path) -> None:
    dbn(tmp_path / "a.dbn", b"not a record")

    bars = FilesProvider(format="dbn", root=str(tmp_path)).minute_bars(["ABC"], at(2025, 1, 1), at(2025, 2, 1))

    assert bars.is_empty()


@pytest.mark.parametrize(
    ("records", "schema", "message"),
    [
        ([record(1, at(2024, 7, 2, 9))], "ohlcv-1h", "expected the schema ohlcv-1m, was ohlcv-1h"),
        ([record(1, at(2024, 7, 2, 9))[:-1]], "ohlcv-1m", "expected records of 56 bytes, was 55"),
        ([], "ohlcv-1m", "expected records of 56 bytes, was 0"),
        ([record(1, at(2024, 7, 2, 9), rtype=34)], "ohlcv-1m", "expected records of type 33 .ohlcv-1m., was 34"),
        ([record(9, at(2024, 7, 2, 9))], "ohlcv-1m", "expected a symbol in the header for each record, 1 have none"),
    ],
)
def test_a_dbn_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, records: Sequence[bytes], schema: str, message: str
) -> None:
    dbn(tmp_path / "a.dbn", *records, schema=schema)

    with pytest.raises(BadFile, match=message):
        from_dbn(tmp_path, "ABC")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"DBN\x03\xff\x00\x00\x00short"])
def test_a_file_that_is_no_dbn_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dbn").write_bytes(content)

    with pytest.raises(BadFile, match=r"a.dbn: expected a"):
        from_dbn(tmp_path, "ABC")


def test_a_truncated_zstd_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dbn.zst"
    dbn(path, *(record(1, at(2024, 7, 2, 9, n % 60), close=n * 7919) for n in range(999)))
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(BadFile):
        from_dbn(tmp_path, "ABC")
