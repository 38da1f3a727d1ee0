"""Finnhub's columns, windows, classes of assets and refusals."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from marketpipe_assets.providers.base import AuthFailed, BarProvider, Malformed, NotEntitled, RateLimited
from marketpipe_assets.providers.finnhub import FinnhubProvider
from marketpipe_assets_tests.providers.contract import END, SECRET, START, Bars, ProviderContract, Row, rows
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

LIMITED = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}


def as_columns(served: list[Row]) -> dict[str, Any]:
    return {
        "s": "ok",
        "t": [int(row.ts.timestamp()) for row in served],
        "o": [row.open for row in served],
        "h": [row.high for row in served],
        "l": [row.low for row in served],
        "c": [row.close for row in served],
        "v": [row.volume for row in served],
    }


def candles_of(bars: Bars, seen: Seen) -> Reply:
    """Seconds, and both ends inclusive."""
    first, last = int(seen.params["from"]), int(seen.params["to"])
    served = [row for row in bars.get(seen.params["symbol"], []) if first <= row.ts.timestamp() <= last]
    return as_json(as_columns(served) if served else {"s": "no_data"})


class TestFinnhub(ProviderContract):
    kind = "finnhub"
    settings = {"concurrency": "1"}  # noqa: RUF012  # as the contract has it
    unauthorized = as_json({"error": "Invalid API key"}, 401)
    not_entitled = as_json({"error": "You don't have access to this resource."}, 403)
    limited = as_json(LIMITED, 429)
    without_key = as_json({"s": "ok"})
    error_in_200 = (Reply(b"API limit reached. Please sign up for a free account"), AuthFailed)
    paged = False

    def provider(self, server: VendorServer, folder: Path, **settings: str) -> BarProvider:
        provider = super().provider(server, folder, **settings)
        provider.give_secrets({"FINNHUB_API_KEY": SECRET})
        return provider

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return lambda seen: candles_of(bars, seen)


class TestFinnhubCrypto(TestFinnhub):
    settings = {"concurrency": "1", "asset_class": "crypto"}  # noqa: RUF012  # as the contract has it
    symbols = ("BINANCE:BTCUSDT", "BINANCE:ETHUSDT")


def finnhub(server: VendorServer, folder: Path, **settings: str) -> FinnhubProvider:
    provider = TestFinnhub().provider(server, folder, **settings)
    assert isinstance(provider, FinnhubProvider)
    return provider


@pytest.mark.parametrize(("asset_class", "part"), [("equity", "stock"), ("crypto", "crypto"), ("fx", "forex")])
def test_the_class_of_assets_is_part_of_the_path_and_the_feed(
    server: VendorServer, tmp_path: Path, asset_class: str, part: str
) -> None:
    server.vendor = lambda seen: candles_of({"OANDA:EUR_USD": rows(1)}, seen)

    bars = finnhub(server, tmp_path, asset_class=asset_class).minute_bars(["OANDA:EUR_USD"], START, END)

    (seen,) = server.seen
    assert seen.path == f"/api/v1/{part}/candle"
    assert seen.params == {"symbol": "OANDA:EUR_USD", "resolution": "1", "from": "1773149400", "to": "1773151199"}
    assert seen.headers["x-finnhub-token"].endswith(SECRET)
    assert bars["feed"].to_list() == [part]


def test_a_long_window_is_asked_for_by_months_that_share_no_bar(server: VendorServer, tmp_path: Path) -> None:
    month = timedelta(days=30)
    served = [Row(START), Row(START + month - timedelta(minutes=1)), Row(START + month), Row(START + 2 * month)]
    server.vendor = lambda seen: candles_of({"ACME": served}, seen)

    bars = finnhub(server, tmp_path).minute_bars(["ACME"], START, START + 2 * month + timedelta(minutes=1))

    assert bars["ts"].to_list() == [row.ts for row in served]
    assert len(server.seen) == 3
    assert all(int(seen.params["to"]) - int(seen.params["from"]) < month.total_seconds() for seen in server.seen)


@pytest.mark.parametrize(
    "change", [{"v": [1.0]}, {"t": [1773149400]}, {"c": None}, {"t": ["now", "then"]}, {"s": "maybe"}]
)
def test_columns_that_do_not_fit_are_malformed(server: VendorServer, tmp_path: Path, change: dict[str, Any]) -> None:
    server.always = as_json({**as_columns(rows(2)), **change})

    with pytest.raises(Malformed):
        finnhub(server, tmp_path).minute_bars(["ACME"], START, END)


def test_a_bar_outside_the_window_is_malformed(server: VendorServer, tmp_path: Path) -> None:
    server.always = as_json(as_columns([Row(END)]))

    with pytest.raises(Malformed, match="until before 2026-03-10 14:00"):
        finnhub(server, tmp_path).minute_bars(["ACME"], START, END)


@pytest.mark.parametrize("status", [200, 429])
def test_a_limit_that_asks_to_sign_up_is_a_key_that_is_not_taken(
    server: VendorServer, tmp_path: Path, status: int
) -> None:
    server.always = Reply(b"API limit reached. Please sign up for a free account", status)

    with pytest.raises(AuthFailed, match="read from FINNHUB_API_KEY"):
        finnhub(server, tmp_path).minute_bars(["ACME"], START, END)

    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [200, 429])
def test_a_limit_is_waited_out_whatever_its_status(server: VendorServer, tmp_path: Path, status: int) -> None:
    server.always = as_json(LIMITED, status)

    with pytest.raises(RateLimited):
        finnhub(server, tmp_path, attempts="2").minute_bars(["ACME"], START, END)

    assert len(server.seen) == 2


def test_a_plan_without_candles_says_so(server: VendorServer, tmp_path: Path) -> None:
    server.always = TestFinnhub.not_entitled

    with pytest.raises(NotEntitled, match="candles need a paid plan"):
        finnhub(server, tmp_path).minute_bars(["ACME"], START, END)


def test_a_connection_test_asks_for_what_every_plan_has(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json({"c": 41.18, "t": 1773149400})

    finnhub(server, tmp_path).ping()

    assert [seen.path for seen in server.seen] == ["/api/v1/quote"]
