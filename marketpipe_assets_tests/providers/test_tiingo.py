"""Tiingo's shapes, days, spelling of symbols and refusals."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    BarProvider,
    Malformed,
    NotEntitled,
    NotFound,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.tiingo import TiingoProvider
from marketpipe_assets_tests.providers.contract import END, SECRET, START, Bars, ProviderContract, Row, rows
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

HOURLY = "Error: You have run over your hourly request allocation."
MONTHLY = "You have run over your 500 symbol look up for this month."


def as_bar(row: Row) -> dict[str, Any]:
    time = row.ts.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    prices = {"open": row.open, "high": row.high, "low": row.low, "close": row.close}
    return {"date": time, **prices, "volume": row.volume}


def day_of(bars: Bars, seen: Seen) -> Reply:
    """Whole days, both of them inclusive; volume only where it is asked for."""
    symbol = seen.path.split("/")[2]
    if symbol not in bars:
        return as_json({"detail": "Not found."}, 404)
    first, last = seen.params["startDate"], seen.params["endDate"]
    told = [as_bar(row) for row in bars[symbol] if first <= f"{row.ts:%Y-%m-%d}" <= last]
    columns = {"date", *seen.params.get("columns", "open,high,low,close").split(",")}
    return as_json([{name: bar[name] for name in bar if name in columns} for bar in told])


class TestTiingo(ProviderContract):
    kind = "tiingo"
    unauthorized = as_json({"detail": "Invalid token."}, 401)
    not_entitled = as_json({"detail": "You do not have permission to access the IEX API"}, 403)
    limited = as_json({"detail": HOURLY}, 429)
    without_key = as_json([{"date": "2026-03-10T13:30:00.000Z", "open": 1, "high": 1, "low": 1, "close": 1}])
    error_in_200 = (Reply(MONTHLY.encode()), NotEntitled)
    paged = False

    def provider(self, server: VendorServer, folder: Path, **settings: str) -> BarProvider:
        provider = super().provider(server, folder, **settings)
        provider.give_secrets({"TIINGO_API_KEY": SECRET})
        return provider

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return lambda seen: day_of(bars, seen)


def tiingo(server: VendorServer, folder: Path, **settings: str) -> TiingoProvider:
    provider = TestTiingo().provider(server, folder, **settings)
    assert isinstance(provider, TiingoProvider)
    return provider


def test_a_symbol_is_asked_for_a_day_at_a_time_with_its_volume(server: VendorServer, tmp_path: Path) -> None:
    days = [START, START + timedelta(days=1)]
    server.vendor = lambda seen: day_of({"BRK-B": [Row(day) for day in days]}, seen)

    bars = tiingo(server, tmp_path).minute_bars(["BRK.B"], START, END + timedelta(days=1))

    assert [seen.path for seen in server.seen] == ["/iex/BRK-B/prices"] * 2
    assert [seen.params["startDate"] for seen in server.seen] == ["2026-03-10", "2026-03-11"]
    assert server.seen[0].params == {
        "startDate": "2026-03-10",
        "endDate": "2026-03-10",
        "resampleFreq": "1min",
        "columns": "open,high,low,close,volume",
        "afterHours": "false",
        "forceFill": "false",
        "format": "json",
    }
    assert server.seen[0].headers["authorization"].startswith("Token ")
    assert bars.select("symbol", "ts", "feed").rows() == [("BRK.B", day, "iex") for day in days]


def test_a_window_that_ends_at_midnight_asks_for_no_further_day(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: day_of({"ACME": rows(1)}, seen)

    tiingo(server, tmp_path).minute_bars(["ACME"], START, datetime(2026, 3, 11, tzinfo=UTC))

    assert [seen.params["startDate"] for seen in server.seen] == ["2026-03-10"]


def test_hours_around_the_session_are_asked_for_where_wanted(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: day_of({"ACME": rows(1)}, seen)

    tiingo(server, tmp_path, after_hours="true").minute_bars(["ACME"], START, END)

    assert server.seen[0].params["afterHours"] == "true"


@pytest.mark.parametrize("days", [-1, 1])
def test_bars_of_another_day_than_the_one_asked_for_are_malformed(
    server: VendorServer, tmp_path: Path, days: int
) -> None:
    server.always = as_json([as_bar(Row(START + timedelta(days=days)))])

    with pytest.raises(Malformed, match="expected bars from 2026-03-10"):
        tiingo(server, tmp_path).minute_bars(["ACME"], START, END)


def test_a_time_that_is_none_is_malformed(server: VendorServer, tmp_path: Path) -> None:
    server.always = as_json([{**as_bar(Row(START)), "date": "yesterday"}])

    with pytest.raises(Malformed, match="expected times such as"):
        tiingo(server, tmp_path).minute_bars(["ACME"], START, END)


def test_minutes_without_a_trade_are_dropped_and_counted(server: VendorServer, tmp_path: Path) -> None:
    quoted = Row(START + timedelta(minutes=1), volume=0)
    server.vendor = lambda seen: day_of({"ACME": [Row(START), quoted]}, seen)
    provider = tiingo(server, tmp_path)

    bars = provider.minute_bars(["ACME"], START, END)

    assert bars["ts"].to_list() == [START]
    assert provider.traffic.filler_rows == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(HOURLY.encode()), RateLimited),
        (Reply(HOURLY.encode(), 429), RateLimited),
        (as_json({"detail": MONTHLY}), NotEntitled),
        (Reply(b"Error: Ticker 'ACME' not found"), NotFound),
        (as_json({"detail": "Please supply a token"}, 403), AuthFailed),
        (Reply(b"Error: resampleFreq must be in 'Min' or 'Hour' only"), BadRequest),
        (Reply(b"Error: database down", 500), Transient),
    ],
)
def test_a_refusal_is_known_by_its_words(
    server: VendorServer, tmp_path: Path, reply: Reply, expected: type[ProviderError]
) -> None:
    server.always = reply

    with pytest.raises(expected) as raised:
        tiingo(server, tmp_path).minute_bars(["ACME"], START, END)

    assert type(raised.value) is expected


def test_a_quota_of_the_hour_is_told_with_the_next_full_hour(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(HOURLY.encode())

    with pytest.raises(RateLimited) as raised:
        tiingo(server, tmp_path, deadline_seconds="0.001").minute_bars(["ACME"], START, END)

    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    assert raised.value.retry_at is not None
    assert any(abs(raised.value.retry_at - hour - timedelta(hours=n)) < timedelta(seconds=1) for n in (0, 1))


def test_a_connection_test_asks_for_nothing_but_the_key(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json({"message": "You successfully sent a request"})

    tiingo(server, tmp_path).ping()

    assert [seen.path for seen in server.seen] == ["/api/test"]
    server.always = TestTiingo.unauthorized
    with pytest.raises(AuthFailed):
        tiingo(server, tmp_path).ping()
