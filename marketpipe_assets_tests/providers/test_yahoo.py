"""Yahoo's charts: their columns, windows, spelling of symbols and refusals, asked for as a browser does."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from marketpipe_assets.providers import create
from marketpipe_assets.providers.base import (
    BadRequest,
    Malformed,
    NotFound,
    OutOfRange,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.yahoo import YahooProvider
from marketpipe_assets_tests.providers.contract import END, START, Bars, ProviderContract, Row, rows, told
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

pytest.importorskip("curl_cffi", reason="the extra yahoo is not installed")

MINUTE = timedelta(minutes=1)
VALUES = ("open", "high", "low", "close", "volume")


def chart(served: Sequence[Row | datetime]) -> Reply:
    """A chart of these bars; a time alone is a minute without a trade, and without any there are no times."""
    bars = [(row, None) if isinstance(row, datetime) else (row.ts, row) for row in served]
    quote = {name: [None if row is None else getattr(row, name) for _, row in bars] for name in VALUES}
    result: dict[str, Any] = {"meta": {"currency": "USD", "gmtoffset": -14400}}
    if bars:
        result["timestamp"] = [int(ts.timestamp()) for ts, _ in bars]
    return as_json({"chart": {"result": [{**result, "indicators": {"quote": [quote if bars else {}]}}], "error": None}})


def fault(description: str, status: int = 422) -> Reply:
    return as_json({"chart": {"result": None, "error": {"code": "x", "description": description}}}, status)


def chart_of(bars: Bars, seen: Seen) -> Reply:
    """Seconds, and an end that is exclusive."""
    symbol = seen.path.rsplit("/", 1)[1]
    if symbol not in bars:
        return fault("No data found, symbol may be delisted", 404)
    first, last = int(seen.params["period1"]), int(seen.params["period2"])
    return chart([row for row in bars[symbol] if first <= row.ts.timestamp() < last])


class TestYahoo(ProviderContract):
    kind = "yahoo"
    limited = Reply(b"Too Many Requests", 429)
    without_key = as_json({"chart": {"result": [{"meta": {}, "timestamp": [1773149400]}], "error": None}})
    error_in_200 = (fault("No data found, symbol may be delisted", 200), NotFound)
    paged = False
    keyless = True

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return lambda seen: chart_of(bars, seen)


def yahoo(server: VendorServer, folder: Path, **settings: str) -> YahooProvider:
    provider = TestYahoo().provider(server, folder, **settings)
    assert isinstance(provider, YahooProvider)
    return provider


def test_a_dot_is_asked_for_as_a_dash_in_seconds_with_an_end_that_is_exclusive(
    server: VendorServer, tmp_path: Path
) -> None:
    server.vendor = lambda seen: chart_of({"BRK-B": rows(1)}, seen)

    bars = yahoo(server, tmp_path).minute_bars(["BRK.B"], START, END)

    (seen,) = server.seen
    assert bars.select("symbol", "feed").rows() == [("BRK.B", "chart")]
    assert seen.path == "/v8/finance/chart/BRK-B"
    assert seen.params == {
        "period1": "1773149400",
        "period2": "1773151200",
        "interval": "1m",
        "includePrePost": "false",
    }


@pytest.mark.parametrize(
    ("symbol", "theirs"),
    [
        ("BF.B", "BF-B"),
        ("SAP.DE", "SAP.DE"),
        ("VOW.BE", "VOW.BE"),
        ("VOD.L", "VOD.L"),
        ("7203.T", "7203.T"),
        ("SPX", "%5EGSPC"),
        ("BTC/USD", "BTC-USD"),
        ("CDE.A", "CDE.A"),
    ],
)
def test_exchanges_keep_their_dot_and_symbols_are_spelled_as_they_are_set(
    server: VendorServer, tmp_path: Path, symbol: str, theirs: str
) -> None:
    server.always = chart(rows(1))
    spelled = {"SPX": "^GSPC", "BTC/USD": "BTC-USD", "CDE.A": "CDE.A"}

    settings = {"base_url": server.url, "quota_file": str(tmp_path / "quota.sqlite"), "symbols": spelled}

    bars = create("yahoo", "yahoo", settings).minute_bars([symbol], START, END)

    assert server.seen[0].path.rsplit("/", 1)[1] == theirs
    assert bars["symbol"].to_list() == [symbol]


def test_it_is_a_browser_that_asks(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: chart_of({"ACME": rows(1)}, seen)

    yahoo(server, tmp_path).minute_bars(["ACME"], START, END)

    headers = server.seen[0].headers
    assert headers["user-agent"].startswith("Mozilla/5.0")
    assert {"sec-ch-ua", "accept-language", "sec-fetch-mode"} <= headers.keys()


def test_hours_around_the_session_are_asked_for_where_wanted(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: chart_of({"ACME": rows(1)}, seen)

    yahoo(server, tmp_path, extended_hours="true").minute_bars(["ACME"], START, END)

    assert server.seen[0].params["includePrePost"] == "true"


def test_a_long_window_is_asked_for_eight_days_at_a_time_and_no_bar_twice(server: VendorServer, tmp_path: Path) -> None:
    days = timedelta(days=8)
    served = [Row(START), Row(START + days - MINUTE), Row(START + days), Row(START + 2 * days)]
    server.vendor = lambda seen: chart_of({"ACME": served}, seen)

    bars = yahoo(server, tmp_path).minute_bars(["ACME"], START, START + 2 * days + MINUTE)

    spans = [int(seen.params["period2"]) - int(seen.params["period1"]) for seen in server.seen]
    assert spans == [8 * 24 * 3600, 8 * 24 * 3600, 60]
    assert bars["ts"].to_list() == [row.ts for row in served]


def test_minutes_without_a_trade_are_dropped_and_counted(server: VendorServer, tmp_path: Path) -> None:
    served = [Row(START), Row(START + 2 * MINUTE, close=41.2, volume=7)]
    server.vendor = lambda _: chart([served[0], START + MINUTE, served[1]])
    provider = yahoo(server, tmp_path)

    bars = provider.minute_bars(["ACME"], START, END)

    assert bars.select("ts", "close", "volume").rows() == told(served)
    assert provider.traffic.filler_rows == 1


def test_the_latest_price_off_the_minute_or_after_the_end_is_no_bar(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: chart([Row(START), Row(START + timedelta(seconds=67)), Row(END + MINUTE)])

    assert yahoo(server, tmp_path).minute_bars(["ACME"], START, END)["ts"].to_list() == [START]


def test_a_bar_before_the_window_is_malformed(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: chart([Row(START - MINUTE), Row(START)])

    with pytest.raises(Malformed, match="expected bars from 2026-03-10 13:30"):
        yahoo(server, tmp_path).minute_bars(["ACME"], START, END)


@pytest.mark.parametrize("quote", [{}, {name: [1.0] for name in VALUES}, {name: [1.0, "x"] for name in VALUES}])
def test_columns_that_do_not_fit_the_times_are_malformed(
    server: VendorServer, tmp_path: Path, quote: dict[str, Any]
) -> None:
    result = {"timestamp": [1773149400, 1773149460], "indicators": {"quote": [quote]}}
    server.always = as_json({"chart": {"result": [result], "error": None}})

    with pytest.raises(Malformed):
        yahoo(server, tmp_path).minute_bars(["ACME"], START, END)


@pytest.mark.parametrize("reply", [chart([]), fault("Data doesn't exist for startDate = 1, endDate = 2", 400)])
def test_a_window_that_holds_nothing_is_an_empty_frame(server: VendorServer, tmp_path: Path, reply: Reply) -> None:
    server.always = reply

    assert yahoo(server, tmp_path).minute_bars(["ACME"], START, END).height == 0


def test_neither_a_chart_nor_an_error_is_malformed(server: VendorServer, tmp_path: Path) -> None:
    server.always = as_json({"chart": {"result": None, "error": None}})

    with pytest.raises(Malformed, match="was neither"):
        yahoo(server, tmp_path).minute_bars(["ACME"], START, END)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(b"<html>down</html>", 502), Transient),
        (Reply(b"Too Many Requests", 429), RateLimited),
        (fault("1m data not available. The requested range must be within the last 30 days."), OutOfRange),
        (fault("Only 8 days worth of 1m granularity data are allowed to be fetched per request."), OutOfRange),
        (fault("No data found, symbol may be delisted", 404), NotFound),
        (fault("Invalid input - interval=1m is not supported"), BadRequest),
        (fault("Internal Server Error", 500), Transient),
    ],
)
def test_a_refusal_is_known_by_its_words(
    server: VendorServer, tmp_path: Path, reply: Reply, expected: type[ProviderError]
) -> None:
    server.always = reply

    with pytest.raises(expected, match="yahoo: /v8/finance/chart/ACME: ") as raised:
        yahoo(server, tmp_path).minute_bars(["ACME"], START, END)

    assert type(raised.value) is expected
    assert (raised.value.retry_at is not None) is (expected in (Transient, RateLimited))


def test_a_connection_test_asks_for_one_stock(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: chart([Row(datetime.now(UTC))])

    yahoo(server, tmp_path).ping()

    assert [seen.path for seen in server.seen] == ["/v8/finance/chart/SPY"]


def test_the_extra_that_is_missing_is_named(
    server: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "curl_cffi.requests", None)

    with pytest.raises(ProviderError, match=r"pip install 'marketpipe_assets\[yahoo\]'"):
        yahoo(server, tmp_path).minute_bars(["ACME"], START, END)
