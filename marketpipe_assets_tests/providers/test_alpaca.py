"""Alpaca's shapes, feeds, symbols and corporate actions."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marketpipe_assets.providers import create
from marketpipe_assets.providers.alpaca import ACTIONS, AlpacaProvider
from marketpipe_assets.providers.base import AuthFailed, BadRequest, Malformed, NotEntitled, OutOfRange, Transient
from marketpipe_assets_tests.providers.contract import END, START, Bars, ProviderContract, Row, rows
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json


def as_bar(row: Row) -> dict[str, Any]:
    return {
        "t": row.ts.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "o": row.open,
        "h": row.high,
        "l": row.low,
        "c": row.close,
        "v": row.volume,
        "n": row.trades,
        "vw": row.vwap,
    }


def page_of(bars: Bars, seen: Seen, page_size: int) -> Reply:
    """Points count over all symbols, symbols stand one after another, and both ends are inclusive."""
    start, end = (datetime.fromisoformat(seen.params[name]) for name in ("start", "end"))
    asked = sorted(seen.params["symbols"].split(","))
    points = [(symbol, row) for symbol in asked for row in bars.get(symbol, []) if start <= row.ts <= end]
    first = int(seen.params.get("page_token", "0"))
    page: dict[str, list[dict[str, Any]]] = {}
    for symbol, row in points[first : first + page_size]:
        page.setdefault(symbol, []).append(as_bar(row))
    following = first + page_size
    return as_json({"bars": page, "next_page_token": f"{following}" if following < len(points) else None})


class TestAlpacaStocks(ProviderContract):
    kind = "alpaca"
    unauthorized = as_json({"message": "forbidden."}, 403)
    not_entitled = as_json({"message": "subscription does not permit querying recent SIP data"}, 403)
    limited = as_json({"message": "too many requests."}, 429)
    without_key = as_json({"next_page_token": None})
    error_in_200 = (as_json({"message": "internal server error"}), Malformed)

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return lambda seen: page_of(bars, seen, min(page_size, int(seen.params["limit"])))

    def repeating(self, bars: Bars) -> Vendor:
        page = {symbol: [as_bar(row) for row in served] for symbol, served in bars.items()}
        return lambda _: as_json({"bars": page, "next_page_token": "again"})


class TestAlpacaCrypto(TestAlpacaStocks):
    symbols = ("BTC/USD", "ETH/USD")
    keyless = True


def alpaca(server: VendorServer, folder: Path, **settings: str) -> AlpacaProvider:
    provider = TestAlpacaStocks().provider(server, folder, **settings)
    assert isinstance(provider, AlpacaProvider)
    return provider


def test_stocks_are_asked_for_raw_by_feed_and_by_the_name_of_the_day(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda seen: page_of({}, seen, 10)

    alpaca(server, folder, feed="sip").minute_bars(["ACME"], START, END)

    (seen,) = server.seen
    assert seen.path == "/v2/stocks/bars"
    assert seen.params == {
        "symbols": "ACME",
        "timeframe": "1Min",
        "start": "2026-03-10T13:30:00.000000Z",
        "end": "2026-03-10T13:59:59.999999Z",
        "limit": "10000",
        "sort": "asc",
        "adjustment": "raw",
        "asof": "-",
        "feed": "sip",
    }
    assert seen.headers["apca-api-key-id"].endswith("-0")
    assert seen.headers["apca-api-secret-key"].endswith("-2")


def test_stocks_and_coins_of_one_call_come_from_their_own_paths(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda seen: page_of({"ACME": rows(2), "BTC/USD": rows(2)}, seen, 10)

    bars = alpaca(server, folder).minute_bars(["BTC/USD", "ACME"], START, END)

    assert {seen.path for seen in server.seen} == {"/v2/stocks/bars", "/v1beta3/crypto/us/bars"}
    assert bars.select("symbol", "feed").unique(maintain_order=True).rows() == [("BTC/USD", "us"), ("ACME", "iex")]


def test_trades_and_vwap_are_kept_and_null_where_there_are_none(server: VendorServer, folder: Path) -> None:
    bar = as_bar(Row(START))
    server.vendor = lambda _: as_json(
        {"bars": {"ACME": [bar, {**bar, "n": None, "vw": None}]}, "next_page_token": None}
    )

    bars = alpaca(server, folder).minute_bars(["ACME"], START, END)

    assert bars.select("trade_count", "vwap").rows() == [(88, 41.14), (None, None)]


def test_times_with_a_fraction_or_an_offset_are_instants(server: VendorServer, folder: Path) -> None:
    bar = as_bar(Row(START))
    texts = ["2026-03-10T13:30:00.000000000Z", "2026-03-10T09:31:00-04:00"]
    server.vendor = lambda _: as_json(
        {"bars": {"ACME": [{**bar, "t": text} for text in texts]}, "next_page_token": None}
    )

    bars = alpaca(server, folder).minute_bars(["ACME"], START, END)

    assert bars["ts"].to_list() == [START, START + timedelta(minutes=1)]


@pytest.mark.parametrize(
    "change",
    [{"t": "yesterday"}, {"o": "41.1"}, {"c": None}, {"t": "2026-03-10T14:00:00Z"}, {"t": "2026-03-10T13:29:00Z"}],
)
def test_a_bar_that_is_none_or_lies_outside_the_window_is_malformed(
    server: VendorServer, folder: Path, change: dict[str, Any]
) -> None:
    server.vendor = lambda _: as_json({"bars": {"ACME": [{**as_bar(Row(START)), **change}]}, "next_page_token": None})

    with pytest.raises(Malformed):
        alpaca(server, folder).minute_bars(["ACME"], START, END)


def test_bars_of_a_symbol_that_was_not_asked_for_are_malformed(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: as_json({"bars": {"BOLT": [as_bar(Row(START))]}, "next_page_token": None})

    with pytest.raises(Malformed, match="expected bars of ACME, was also BOLT"):
        alpaca(server, folder).minute_bars(["ACME"], START, END)


def test_minutes_of_coins_without_a_trade_are_dropped_and_counted(server: VendorServer, folder: Path) -> None:
    traded, filler = Row(START), Row(START + timedelta(minutes=1), volume=0, trades=0)
    server.vendor = lambda seen: page_of({"BTC/USD": [traded, filler]}, seen, 10)
    provider = alpaca(server, folder)

    bars = provider.minute_bars(["BTC/USD"], START, END)

    assert bars["ts"].to_list() == [START]
    assert provider.traffic.filler_rows == 1


def test_coins_need_no_key(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda seen: page_of({"BTC/USD": rows(2)}, seen, 10)
    provider = alpaca(server, folder)
    provider.give_secrets({})

    bars = provider.minute_bars(["BTC/USD"], START, END)

    assert bars.height == 2
    assert "apca-api-key-id" not in server.seen[0].headers


@pytest.mark.parametrize("length", [4, 60])
def test_symbols_are_asked_for_in_as_few_requests_as_fit(server: VendorServer, folder: Path, length: int) -> None:
    symbols = [f"S{number:0{length - 1}}" for number in range(250)]
    bars = {symbol: rows(1) for symbol in symbols}
    server.vendor = lambda seen: page_of(bars, seen, 10_000)

    answer = alpaca(server, folder).minute_bars(symbols, START, END)

    lists = [seen.params["symbols"] for seen in server.seen]
    assert answer["symbol"].to_list() == symbols
    assert len(lists) == {4: 3, 60: 9}[length]
    assert max(map(len, lists)) <= 1800


def test_no_symbols_and_an_empty_window_ask_nothing(server: VendorServer, folder: Path) -> None:
    provider = alpaca(server, folder)

    assert provider.minute_bars([], START, END).height == 0
    assert provider.minute_bars(["ACME"], START, START).height == 0
    assert server.seen == []


def test_the_tape_is_refused_while_it_is_too_young_for_the_plan(server: VendorServer, folder: Path) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)

    with pytest.raises(OutOfRange, match="at least 16 minutes ago") as raised:
        alpaca(server, folder, feed="sip", delay_minutes="16").minute_bars(["ACME"], START, now)

    assert raised.value.retry_at == now + timedelta(minutes=16)
    assert server.seen == []


def test_a_plan_without_the_tape_says_what_it_has(server: VendorServer, folder: Path) -> None:
    server.always = TestAlpacaStocks.not_entitled

    with pytest.raises(NotEntitled, match="feed iex is in every plan"):
        alpaca(server, folder, feed="sip").minute_bars(["ACME"], START, END)


def test_a_request_alpaca_refuses_is_told_in_its_words(server: VendorServer, folder: Path) -> None:
    server.always = as_json({"message": "invalid symbol: AC ME"}, 400)

    with pytest.raises(BadRequest, match="invalid symbol: AC ME"):
        alpaca(server, folder).minute_bars(["AC ME"], START, END)

    assert len(server.seen) == 1


def test_a_feed_alpaca_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="provider alpaca: feed: expected 'iex', 'sip' or 'otc', was 'real-time'"):
        create("alpaca", "alpaca", {"feed": "real-time"})


def test_corporate_actions_of_all_kinds_and_pages_are_one_table(server: VendorServer, folder: Path) -> None:
    split = {"symbol": "ACME", "new_rate": 3, "old_rate": 1, "ex_date": "2026-03-09", "process_date": "2026-03-09"}
    dividend = {"symbol": "CRUX", "rate": 0.31, "special": False, "foreign": False, "process_date": "2026-03-20"}
    renamed = {"old_symbol": "ACM", "new_symbol": "ACME", "process_date": "2026-03-02"}
    pages: dict[str | None, Any] = {
        None: ({"forward_splits": [{"id": "1", **split}]}, "next"),
        "next": (
            {"cash_dividends": [{"id": "2", **dividend}], "name_changes": [{"id": "3", **renamed}]},
            None,
        ),
    }

    def vendor(seen: Seen) -> Reply:
        actions, token = pages[seen.params.get("page_token")]
        return as_json({"corporate_actions": actions, "next_page_token": token})

    server.vendor = vendor

    actions = alpaca(server, folder).corporate_actions(["ACME", "CRUX", "ACM"], date(2026, 3, 1), date(2026, 4, 1))

    assert dict(actions.schema) == dict(ACTIONS)
    assert actions.select("action", "symbol", "new_symbol", "old_rate", "new_rate", "rate").rows() == [
        ("name_changes", "ACM", "ACME", None, None, None),
        ("forward_splits", "ACME", None, 1, 3, None),
        ("cash_dividends", "CRUX", None, None, None, 0.31),
    ]
    assert actions["ex_date"].to_list() == [None, date(2026, 3, 9), None]
    assert (server.seen[0].params["start"], server.seen[0].params["end"]) == ("2026-03-01", "2026-03-31")


def test_corporate_actions_without_their_key_are_malformed(server: VendorServer, folder: Path) -> None:
    server.always = as_json({"next_page_token": None})

    with pytest.raises(Malformed):
        alpaca(server, folder).corporate_actions(["ACME"], date(2026, 3, 1), date(2026, 4, 1))


def test_a_connection_test_asks_once_and_raises_what_is_wrong(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: as_json({"bars": {}})

    alpaca(server, folder).ping()

    assert [seen.path for seen in server.seen] == ["/v2/stocks/bars/latest"]
    for reply, expected in ((TestAlpacaStocks.unauthorized, AuthFailed), (Reply(status=503), Transient)):
        server.always = reply
        with pytest.raises(expected):
            alpaca(server, folder).ping()


def test_a_page_of_no_bars_beside_pages_of_some_loses_nothing(server: VendorServer, folder: Path) -> None:
    pages = iter(
        [
            as_json({"bars": {"ACME": [as_bar(Row(START))]}, "next_page_token": "a"}),
            as_json({"bars": {}, "next_page_token": "b"}),
            as_json({"bars": {"BOLT": [as_bar(Row(START))]}, "next_page_token": None}),
        ]
    )
    server.vendor = lambda _: next(pages)

    bars = alpaca(server, folder).minute_bars(["ACME", "BOLT"], START, END)

    assert bars.select(pl.col("symbol")).rows() == [("ACME",), ("BOLT",)]
