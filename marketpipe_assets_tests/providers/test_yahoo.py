"""Yahoo's charts as yfinance reads them from a server on this machine, and its tables as bars."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from marketpipe_assets.bars.schema import VENDOR_COLUMNS
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
from marketpipe_assets.providers.yahoo import YahooProvider, bars_of
from marketpipe_assets_tests.providers.contract import Row, told
from marketpipe_assets_tests.providers.vendor_server import RESET, Reply, Seen, VendorServer, as_json, vendor_server

MINUTE = timedelta(minutes=1)
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
END = START + timedelta(hours=1)


def yahoo(folder: Path, **settings: str) -> YahooProvider:
    quick = {"requests_per_minute": "100000", "first_wait": "0.01", "longest_wait": "0.05", "deadline_seconds": "3"}
    options = {"quota_file": str(folder / "quota.sqlite"), "attempts": "3", **quick, **settings}
    provider = create("yahoo", "yahoo", options)
    assert isinstance(provider, YahooProvider)
    return provider


def chart(served: Sequence[Row | datetime]) -> Reply:
    """A chart of these bars; a time alone is a minute without a trade."""
    rows = [(row, None) if isinstance(row, datetime) else (row.ts, row) for row in served]
    names = ("open", "high", "low", "close", "volume")
    quote = {name: [None if row is None else getattr(row, name) for _, row in rows] for name in names}
    meta: dict[str, Any] = {
        "currency": "USD",
        "symbol": "ACME",
        "exchangeTimezoneName": "America/New_York",
        "instrumentType": "EQUITY",
    }
    result: dict[str, Any] = {"meta": meta}
    if rows:
        times = [int(ts.timestamp()) for ts, _ in rows]
        hours = {"timezone": "EST", "start": times[0], "end": times[-1] + 24 * 3600, "gmtoffset": -14400}
        meta["tradingPeriods"] = [[hours]]
        result["timestamp"] = times
    return as_json({"chart": {"result": [{**result, "indicators": {"quote": [quote if rows else {}]}}], "error": None}})


def fault(description: str, status: int = 422) -> Reply:
    return as_json({"chart": {"result": None, "error": {"code": "x", "description": description}}}, status)


class Yahoo:
    """Charts by symbol, whole whatever is asked for; `minutes` are the requests for minutes."""

    def __init__(self, server: VendorServer) -> None:
        self.server = server
        self.charts: dict[str, Reply] = {}
        self.faults: list[Reply] = []
        server.vendor = self.reply

    @property
    def minutes(self) -> list[Seen]:
        return [seen for seen in self.server.seen if seen.params.get("interval") == "1m"]

    def reply(self, seen: Seen) -> Reply:
        if not seen.path.startswith("/v8/finance/chart/"):
            return Reply(b"crumb", 200 if seen.path.endswith("getcrumb") else 404)
        if seen.params["interval"] == "1d":
            return chart([Row(START)])
        return self.faults.pop(0) if self.faults else self.charts.get(seen.path.rsplit("/", 1)[1], chart([]))


@pytest.fixture(scope="module")
def yfinance(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """yfinance, whose own cache is not the user's."""
    library = pytest.importorskip("yfinance")
    library.set_tz_cache_location(str(tmp_path_factory.mktemp("yfinance")))
    return library


@pytest.fixture
def vendor(yfinance: Any) -> Iterator[Yahoo]:
    """Every host yfinance asks is the server of the test: it takes a session, and keeps it for the process."""
    requests = pytest.importorskip("requests")
    with vendor_server() as server:
        adapter = requests.adapters.HTTPAdapter()
        send = adapter.send

        def send_here(request: Any, **settings: Any) -> Any:
            request.url = f"{server.url}{request.path_url}"
            return send(request, **settings)

        adapter.send = send_here
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", adapter)
        yfinance.data.YfData(session=session)
        yield Yahoo(server)
        yfinance.data.SingletonMeta._instances.clear()


# what is asked and answered


def test_bars_of_a_chart_are_those_it_has_minutes_without_a_trade_dropped(vendor: Yahoo, tmp_path: Path) -> None:
    served = [Row(START), Row(START + 2 * MINUTE, close=41.2, volume=7)]
    vendor.charts["ACME"] = chart([served[0], START + MINUTE, served[1]])
    provider = yahoo(tmp_path)

    bars = provider.minute_bars(["ACME"], START, END)

    assert dict(bars.schema) == dict(VENDOR_COLUMNS)
    assert bars.select("ts", "close", "volume").rows() == told(served)
    assert bars.select("symbol", "provider", "feed", "trade_count").unique().rows() == [
        ("ACME", "yahoo", "chart", None)
    ]
    assert provider.traffic.filler_rows == 1


def test_a_dot_is_asked_for_as_a_dash_in_seconds_with_an_end_that_is_exclusive(vendor: Yahoo, tmp_path: Path) -> None:
    vendor.charts["BRK-B"] = chart([Row(START)])

    bars = yahoo(tmp_path).minute_bars(["BRK.B"], START, END)

    (seen,) = vendor.minutes
    assert bars["symbol"].to_list() == ["BRK.B"]
    assert (seen.params["period1"], seen.params["period2"]) == (f"{START.timestamp():.0f}", f"{END.timestamp():.0f}")
    assert seen.params["includePrePost"] == "False"


def test_symbols_stand_in_the_order_asked(vendor: Yahoo, tmp_path: Path) -> None:
    vendor.charts.update(ACME=chart([Row(START)]), BOLT=chart([Row(START)]))

    bars = yahoo(tmp_path).minute_bars(["BOLT", "ACME", "BOLT"], START, END)

    assert bars["symbol"].to_list() == ["BOLT", "ACME"]


def test_a_long_window_is_asked_for_eight_days_at_a_time(vendor: Yahoo, tmp_path: Path) -> None:
    start = START - timedelta(days=18)

    yahoo(tmp_path).minute_bars(["ACME"], start, END)

    spans = [int(seen.params["period2"]) - int(seen.params["period1"]) for seen in vendor.minutes]
    assert len(spans) == 3
    assert max(spans) == 8 * 24 * 3600
    assert sum(spans) == (END - start).total_seconds()


def test_the_latest_price_between_two_minutes_and_after_the_end_is_no_bar(vendor: Yahoo, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    over = Row(now - 2 * MINUTE)
    vendor.charts["ACME"] = chart([over, Row(now), Row(now + timedelta(seconds=7))])

    bars = yahoo(tmp_path).minute_bars(["ACME"], now - timedelta(hours=1), now + timedelta(hours=1))

    assert bars["ts"].to_list() == [over.ts]


@pytest.mark.usefixtures("vendor")
def test_a_chart_without_bars_is_an_empty_frame(tmp_path: Path) -> None:
    bars = yahoo(tmp_path).minute_bars(["ACME"], START, END)

    assert bars.height == 0
    assert dict(bars.schema) == dict(VENDOR_COLUMNS)


def test_a_bar_before_the_window_is_malformed(vendor: Yahoo, tmp_path: Path) -> None:
    vendor.charts["ACME"] = chart([Row(START - MINUTE), Row(START)])

    with pytest.raises(Malformed, match="expected bars from"):
        yahoo(tmp_path).minute_bars(["ACME"], START, END)


def test_more_than_thirty_days_ago_is_out_of_range_and_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutOfRange, match="expected a start in the last 30 days"):
        yahoo(tmp_path).minute_bars(["ACME"], START - timedelta(days=30), END)


def test_a_connection_test_asks_for_one_stock(vendor: Yahoo, tmp_path: Path) -> None:
    yahoo(tmp_path).ping()

    assert [seen.path for seen in vendor.minutes] == ["/v8/finance/chart/SPY"]


# faults


@pytest.mark.parametrize("reply", [RESET, Reply(b"<html>down</html>", 502)])
def test_a_fault_that_passes_is_asked_over(vendor: Yahoo, tmp_path: Path, reply: Reply) -> None:
    vendor.charts["ACME"] = chart([Row(START)])
    vendor.faults = [reply, reply]
    provider = yahoo(tmp_path)

    assert provider.minute_bars(["ACME"], START, END).height == 1
    assert provider.traffic.errors["Transient"] > 0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (RESET, Transient),
        (Reply(b"<html>down</html>", 502), Transient),
        (Reply(b"Too Many Requests", 429), RateLimited),
        (fault("1m data not available. The requested range must be within the last 30 days."), OutOfRange),
        (fault("No data found, symbol may be delisted", 404), NotFound),
        (fault("Invalid input - interval=1m is not supported"), BadRequest),
        (as_json({"chart": {"result": [{"indicators": {"quote": [{"open": [1]}]}}], "error": None}}), Malformed),
    ],
)
def test_a_fault_that_stays_is_told_with_the_symbol(
    vendor: Yahoo, tmp_path: Path, reply: Reply, expected: type[ProviderError]
) -> None:
    vendor.charts["ACME"] = reply

    with pytest.raises(expected, match="yahoo: ACME: ") as raised:
        yahoo(tmp_path).minute_bars(["ACME"], START, END)

    assert type(raised.value) is expected
    assert (raised.value.retry_at is not None) is (expected in (Transient, RateLimited))


def test_a_window_yahoo_has_no_data_for_is_an_empty_frame(vendor: Yahoo, tmp_path: Path) -> None:
    vendor.charts["ACME"] = fault("Data doesn't exist for startDate = 1, endDate = 2", 400)

    assert yahoo(tmp_path).minute_bars(["ACME"], START, END).height == 0


# without a server


def test_the_extra_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)

    with pytest.raises(ProviderError, match=r"pip install 'marketpipe_assets\[yahoo\]'"):
        yahoo(tmp_path).minute_bars(["ACME"], START, END)


def test_an_address_is_refused_because_yfinance_has_its_own() -> None:
    with pytest.raises(ValueError, match="provider yahoo: base_url: expected none"):
        create("yahoo", "yahoo", {"base_url": "http://127.0.0.1:1"})


def table(times: Sequence[str], **columns: Sequence[float | None]) -> pd.DataFrame:
    """As yfinance documents it: an index of local times, a column for each value, one more than is read."""
    index = pd.DatetimeIndex(times, tz="America/New_York", name="Datetime")
    same = {name: [41.1] * len(times) for name in ("Open", "High", "Low", "Close", "Adj Close", "Volume")}
    return pd.DataFrame({**same, **columns}, index=index)


def test_times_of_the_exchange_are_instants_on_a_day_when_clocks_change() -> None:
    bars = bars_of(table(["2026-03-06 09:30", "2026-03-09 09:30"]))

    assert bars["ts"].to_list() == [datetime(2026, 3, 6, 14, 30, tzinfo=UTC), datetime(2026, 3, 9, 13, 30, tzinfo=UTC)]


def test_a_missing_price_is_null_and_a_time_off_the_minute_is_no_bar() -> None:
    history = table(["2026-03-09 09:30", "2026-03-09 09:31", "2026-03-09 09:31:07"], Open=[41.1, None, 41.2])

    assert bars_of(history)["open"].to_list() == [41.1, None]


def test_a_table_without_a_column_is_malformed() -> None:
    with pytest.raises(Malformed, match="expected columns Volume of yfinance, had Open, High, Low, Close, Adj Close"):
        bars_of(table(["2026-03-09 09:30"]).drop(columns="Volume"))
