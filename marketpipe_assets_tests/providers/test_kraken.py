"""Kraken's shapes, its reach of 720 minutes, its names, and its errors with status 200."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marketpipe_assets.providers.base import (
    BadRequest,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfRange,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.kraken import KrakenProvider
from marketpipe_assets_tests.providers.contract import END, START, Bars, ProviderContract, Row, rows
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

MINUTE = timedelta(minutes=1)
NAMES = {"XBTUSD": ("XXBTZUSD", "BTC/USD"), "ETHUSD": ("XETHZUSD", "ETH/USD"), "XDGUSD": ("XDGUSD", "DOGE-USD")}
"""Kraken's name to ask by → its name in the answer, and ours."""


def as_candle(row: Row) -> list[Any]:
    prices = [f"{price}" for price in (row.open, row.high, row.low, row.close, row.vwap)]
    return [int(row.ts.timestamp()), *prices, f"{row.volume:.8f}", row.trades]


def answer_of(served: Sequence[Row], key: str = "XXBTZUSD", **parts: Any) -> Reply:
    """All of `served` is over; the minute after it is running."""
    newest = max((row.ts for row in served), default=START - MINUTE)
    told = [*served, Row(newest + MINUTE, trades=1)]
    result = {key: [as_candle(row) for row in told], "last": int(newest.timestamp()), **parts}
    return as_json({"error": [], "result": {name: value for name, value in result.items() if value is not None}})


def failed(*errors: str) -> Reply:
    return as_json({"error": list(errors)})


class TestKraken(ProviderContract):
    kind = "kraken"
    symbols = ("BTC/USD", "ETH/USD")
    limited = failed("EGeneral:Too many requests")
    without_key = as_json({"error": [], "result": {"last": 1773100860}})
    error_in_200 = (failed("EGeneral:Invalid arguments"), BadRequest)
    paged = False
    keyless = True

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        def answered(seen: Seen) -> Reply:
            key, ours = NAMES[seen.params["pair"]]
            return answer_of(bars[ours], key) if ours in bars else failed("EQuery:Unknown asset pair")

        return answered


def kraken(server: VendorServer, folder: Path, **settings: str) -> KrakenProvider:
    provider = TestKraken().provider(server, folder, **settings)
    assert isinstance(provider, KrakenProvider)
    return provider


def test_a_pair_is_asked_for_by_krakens_name_and_told_by_ours(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda seen: answer_of(rows(2), NAMES[seen.params["pair"]][0])

    bars = kraken(server, folder).minute_bars(["DOGE-USD", "BTC/USD", "XBTUSD"], START, END)

    assert [seen.path for seen in server.seen] == ["/0/public/OHLC"] * 3
    assert [seen.params for seen in server.seen] == [
        {"pair": pair, "interval": "1"} for pair in ("XDGUSD", "XBTUSD", "XBTUSD")
    ]
    assert bars["symbol"].unique(maintain_order=True).to_list() == ["DOGE-USD", "BTC/USD", "XBTUSD"]
    assert bars["feed"].unique().to_list() == ["spot"]


def test_prices_vwap_and_trades_are_those_kraken_tells(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: answer_of([Row(START)])

    bars = kraken(server, folder).minute_bars(["BTC/USD"], START, END)

    assert bars.drop("symbol", "provider", "feed").rows() == [(START, 41.1, 41.22, 41.05, 41.18, 5210.0, 88, 41.14)]


def test_the_last_row_which_is_not_over_is_left_out(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: answer_of(rows(3))

    bars = kraken(server, folder).minute_bars(["BTC/USD"], START, END)

    assert bars["ts"].to_list() == [START, START + MINUTE, START + 2 * MINUTE]


def test_minutes_without_a_trade_are_dropped_and_those_of_the_window_counted(
    server: VendorServer, folder: Path
) -> None:
    filler = [Row(START + n * MINUTE, volume=0, trades=0, vwap=0) for n in (-1, 1, 2)]
    server.vendor = lambda _: answer_of([filler[0], Row(START), *filler[1:]])
    provider = kraken(server, folder)

    bars = provider.minute_bars(["BTC/USD"], START, END)

    assert bars["ts"].to_list() == [START]
    assert provider.traffic.filler_rows == 2


def test_a_start_before_the_newest_720_minutes_is_out_of_range(server: VendorServer, folder: Path) -> None:
    first = END - 719 * MINUTE
    server.vendor = lambda _: answer_of([Row(first + n * MINUTE) for n in range(719)])

    bars = kraken(server, folder).minute_bars(["BTC/USD"], first, END)

    assert bars.height == 719
    with pytest.raises(OutOfRange, match=r"02:01:00.* or later .*newest 720 minutes only.*another provider"):
        kraken(server, folder).minute_bars(["BTC/USD"], first - MINUTE, END)


def test_a_pair_younger_than_the_reach_has_the_bars_it_has(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: answer_of(rows(5))

    assert kraken(server, folder).minute_bars(["BTC/USD"], START - timedelta(hours=11), END).height == 5
    with pytest.raises(OutOfRange):
        kraken(server, folder).minute_bars(["BTC/USD"], START - timedelta(hours=13), END)


def test_with_parts_the_failure_has_what_is_left_of_the_window(server: VendorServer, folder: Path) -> None:
    first = END - 719 * MINUTE
    server.vendor = lambda _: answer_of([Row(first + n * MINUTE) for n in range(719)])
    provider = kraken(server, folder, parts="true")

    with pytest.raises(OutOfRange, match="newest 720 minutes only") as raised:
        provider.minute_bars(["BTC/USD", "XBTUSD"], first - timedelta(hours=12), END)

    assert raised.value.part is not None
    assert raised.value.part.group_by("symbol", maintain_order=True).agg(pl.col("ts").min(), pl.len()).rows() == [
        ("BTC/USD", first, 719),
        ("XBTUSD", first, 719),
    ]


def test_with_parts_a_window_that_is_gone_whole_has_none(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: answer_of(rows(5))

    with pytest.raises(OutOfRange) as raised:
        kraken(server, folder, parts="true").minute_bars(
            ["BTC/USD", "XBTUSD"], START - timedelta(hours=36), START - timedelta(hours=12)
        )

    assert raised.value.part is None
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (["EGeneral:Too many requests"], RateLimited),
        (["EAPI:Rate limit exceeded"], RateLimited),
        (["EGeneral:Temporary lockout"], RateLimited),
        (["EService:Unavailable"], Transient),
        (["EGeneral:Internal error"], Transient),
        (["EQuery:Unknown asset pair"], NotFound),
        (["EGeneral:Permission denied"], NotEntitled),
        (["WGeneral:Danger", "EGeneral:Invalid arguments:interval"], BadRequest),
        (["EOther:Something new"], BadRequest),
    ],
)
def test_an_error_with_status_200_is_the_error_it_names(
    server: VendorServer, folder: Path, errors: list[str], expected: type[ProviderError]
) -> None:
    server.always = failed(*errors)

    with pytest.raises(expected, match=errors[-1]) as raised:
        kraken(server, folder, deadline_seconds="0.5", attempts="2").minute_bars(["BTC/USD"], START, END)

    assert type(raised.value) is expected


@pytest.mark.parametrize(("error", "seconds"), [("EAPI:Rate limit exceeded", 5), ("EGeneral:Temporary lockout", 900)])
def test_a_limit_says_when_to_ask_again(server: VendorServer, folder: Path, error: str, seconds: int) -> None:
    server.always = failed(error)

    with pytest.raises(RateLimited) as raised:
        kraken(server, folder).minute_bars(["BTC/USD"], START, END)

    assert raised.value.retry_at is not None
    assert seconds - 2 < (raised.value.retry_at - datetime.now(UTC)).total_seconds() < seconds + 2


def test_a_warning_is_no_error(server: VendorServer, folder: Path) -> None:
    body = answer_of(rows(2)).body.replace(b'"error": []', b'"error": ["WGeneral:Danger"]')
    server.always = Reply(body)

    assert kraken(server, folder).minute_bars(["BTC/USD"], START, END).height == 2


@pytest.mark.parametrize(
    "parts",
    [
        {"XXBTZUSD": []},
        {"last": None},
        {"last": int(START.timestamp())},
        {"XETHZUSD": [as_candle(Row(START))]},
        {"XXBTZUSD": [as_candle(Row(START))[:-1]]},
        {"XXBTZUSD": [[as_candle(Row(START))[0], *["NaN"] * 5, "1", 1], as_candle(Row(START))]},
        {"XXBTZUSD": [[as_candle(Row(START))[0], *["much"] * 5, "1", 1], as_candle(Row(START))]},
    ],
)
def test_an_answer_that_is_not_one_pairs_bars_is_malformed(
    server: VendorServer, folder: Path, parts: dict[str, Any]
) -> None:
    server.always = answer_of(rows(3), **parts)

    with pytest.raises(Malformed):
        kraken(server, folder).minute_bars(["BTC/USD"], START, END)


def test_no_symbols_and_an_empty_window_ask_nothing(server: VendorServer, folder: Path) -> None:
    provider = kraken(server, folder)

    assert provider.minute_bars([], START, END).height == 0
    assert provider.minute_bars(["BTC/USD"], START, START).height == 0
    assert server.seen == []


def test_a_connection_test_asks_once_and_raises_what_is_wrong(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: as_json({"error": [], "result": {"unixtime": 1773100860}})

    kraken(server, folder).ping()

    assert [seen.path for seen in server.seen] == ["/0/public/Time"]
    server.always = failed("EService:Unavailable")
    with pytest.raises(Transient):
        kraken(server, folder).ping()


def test_bars_of_several_pairs_stay_apart(server: VendorServer, folder: Path) -> None:
    served = {"BTC/USD": rows(3), "ETH/USD": rows(2)}
    server.vendor = TestKraken().vendor(served, 10)

    bars = kraken(server, folder).minute_bars(["ETH/USD", "BTC/USD"], START, END)

    assert bars.group_by("symbol", maintain_order=True).agg(pl.len()).rows() == [("ETH/USD", 2), ("BTC/USD", 3)]
