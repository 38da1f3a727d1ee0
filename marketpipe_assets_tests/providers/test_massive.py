"""Massive's shapes, tickers and reference data, and its flat files from a server that checks their signature."""

import gzip
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from marketpipe_assets.providers import create, provider_class
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfRange,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.massive import (
    DAILY,
    DIVIDENDS,
    SPLITS,
    TICKER_EVENTS,
    TICKERS,
    Keys,
    MassiveFlatProvider,
    MassiveProvider,
    presigned,
)
from marketpipe_assets_tests.providers.contract import (
    END,
    SECRET,
    START,
    Bars,
    ProviderContract,
    Row,
    pairs,
    rows,
    told,
)
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

OTHER_HOST = "https://api.polygon.io"
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER = "ticker,volume,open,close,high,low,window_start,transactions"


def milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(milliseconds=1)


def as_bar(row: Row) -> dict[str, Any]:
    return {
        "v": row.volume,
        "vw": row.vwap,
        "o": row.open,
        "c": row.close,
        "h": row.high,
        "l": row.low,
        "t": milliseconds(row.ts),
        "n": row.trades,
    }


def page_of(ticker: str, bars: list[dict[str, Any]], **more: Any) -> Reply:
    counted = {"queryCount": len(bars), "resultsCount": len(bars)}
    found = {"results": bars, "count": len(bars)} if bars else {}
    return as_json({"ticker": ticker, "adjusted": False, **counted, "status": "OK", **found, **more})


def massive_of(bars: Bars, page_size: int) -> Vendor:
    """Both ends are inclusive; the next page is told by another host's address."""

    def answer(seen: Seen) -> Reply:
        *_, ticker, _range, _one, _minute, first, last = seen.path.split("/")
        inside = [row for row in bars.get(ticker, []) if int(first) <= milliseconds(row.ts) <= int(last)]
        position = int(seen.params.get("cursor", 0))
        following = position + page_size
        link = {"next_url": f"{OTHER_HOST}{seen.path}?cursor={following}"} if following < len(inside) else {}
        return page_of(ticker, [as_bar(row) for row in inside[position:following]], **link)

    return answer


class TestMassive(ProviderContract):
    kind = "massive"
    unauthorized = as_json({"status": "ERROR", "request_id": "r8", "error": "Unknown API Key"}, 401)
    not_entitled = as_json({"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."}, 403)
    limited = as_json({"status": "ERROR", "error": "You've exceeded the maximum requests per minute."}, 429)
    without_key = as_json({"ticker": "ACME", "adjusted": False, "queryCount": 2, "resultsCount": 2, "status": "OK"})
    error_in_200 = (as_json({"status": "NOT_AUTHORIZED", "message": "You are not entitled to this."}), NotEntitled)

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return massive_of(bars, page_size)

    def repeating(self, bars: Bars) -> Vendor:
        return lambda seen: page_of(seen.path.split("/")[4], [], next_url=f"{OTHER_HOST}{seen.path}?cursor=again")


def massive(server: VendorServer, folder: Path, **settings: str) -> MassiveProvider:
    provider = TestMassive().provider(server, folder, **settings)
    assert isinstance(provider, MassiveProvider)
    return provider


def test_polygon_is_its_earlier_name() -> None:
    assert provider_class("polygon") is MassiveProvider


def test_bars_are_asked_for_unadjusted_and_in_order_with_the_key_in_a_header(
    server: VendorServer, folder: Path
) -> None:
    server.vendor = massive_of({}, 10)

    massive(server, folder).minute_bars(["BRK.B"], START, END)

    (seen,) = server.seen
    assert seen.path == "/v2/aggs/ticker/BRK.B/range/1/minute/1773149400000/1773151199999"
    assert seen.params == {"adjusted": "false", "sort": "asc", "limit": "50000"}
    assert seen.headers["authorization"] == f"Bearer {SECRET}-0"


@pytest.mark.parametrize("variable", ["MASSIVE_API_KEY", "POLYGON_API_KEY", "MP_POLYGON_API_KEY"])
def test_any_one_of_its_variables_is_enough(server: VendorServer, folder: Path, variable: str) -> None:
    server.vendor = massive_of({}, 10)
    provider = massive(server, folder)
    provider.give_secrets({variable: "only-this-one"})

    provider.minute_bars(["ACME"], START, END)

    assert server.seen[0].headers["authorization"] == "Bearer only-this-one"


def test_later_pages_are_asked_of_the_same_host_with_the_key(server: VendorServer, folder: Path) -> None:
    server.vendor = massive_of({"ACME": rows(5)}, 2)

    massive(server, folder).minute_bars(["ACME"], START, END)

    assert [seen.params.get("cursor") for seen in server.seen] == [None, "2", "4"]
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {SECRET}-0"}


def test_each_month_of_a_long_window_is_asked_for_once(server: VendorServer, folder: Path) -> None:
    days = [Row(START + timedelta(days=day), volume=1.0 + day) for day in range(70)]
    server.vendor = massive_of({"ACME": days}, 100)

    bars = massive(server, folder).minute_bars(["ACME"], START, START + timedelta(days=70))

    assert pairs(bars, "ACME") == told(days)
    spans = [tuple(map(int, seen.path.split("/")[-2:])) for seen in server.seen]
    assert len(spans) == 3
    assert [first for first, _ in spans[1:]] == [last + 1 for _, last in spans[:-1]]


@pytest.mark.parametrize(
    ("symbol", "ticker", "feed"),
    [
        ("BTC/USD", "X:BTCUSD", "crypto"),
        ("X:BTCUSD", "X:BTCUSD", "crypto"),
        ("C:EURUSD", "C:EURUSD", "forex"),
        ("BRK.B", "BRK.B", "sip"),
        ("NA", "NA", "sip"),
    ],
)
def test_symbols_are_asked_for_in_its_spelling_and_come_back_in_ours(
    server: VendorServer, folder: Path, symbol: str, ticker: str, feed: str
) -> None:
    server.vendor = massive_of({ticker: rows(1)}, 10)

    bars = massive(server, folder).minute_bars([symbol], START, END)

    assert bars.select("symbol", "feed").rows() == [(symbol, feed)]


@pytest.mark.parametrize("symbol", ["O:ACME260320C00041000", "I:SPX"])
def test_options_and_indices_are_refused_before_they_are_asked_for(
    server: VendorServer, folder: Path, symbol: str
) -> None:
    with pytest.raises(BadRequest, match="expected a symbol such as"):
        massive(server, folder).minute_bars(["ACME", symbol], START, END)

    assert server.seen == []


def test_trades_and_vwap_are_kept_and_null_where_there_are_none(server: VendorServer, folder: Path) -> None:
    bar = as_bar(Row(START))
    bare = {name: value for name, value in bar.items() if name not in ("n", "vw")}
    server.vendor = lambda _: page_of("ACME", [bar, bare])

    bars = massive(server, folder).minute_bars(["ACME"], START, END)

    assert bars.select("trade_count", "vwap").rows() == [(88, 41.14), (None, None)]


def test_minutes_without_a_trade_are_dropped_and_counted(server: VendorServer, folder: Path) -> None:
    server.vendor = massive_of({"ACME": [Row(START), Row(START + timedelta(minutes=1), volume=0, trades=0)]}, 10)
    provider = massive(server, folder)

    assert provider.minute_bars(["ACME"], START, END)["ts"].to_list() == [START]
    assert provider.traffic.filler_rows == 1


def test_a_window_that_begins_within_a_minute_begins_with_the_next(server: VendorServer, folder: Path) -> None:
    served = rows(3)
    server.vendor = massive_of({"ACME": served}, 10)

    bars = massive(server, folder).minute_bars(["ACME"], START + timedelta(seconds=30), END)

    assert pairs(bars, "ACME") == told(served[1:])


@pytest.mark.parametrize(
    "reply",
    [
        page_of("BOLT", [as_bar(Row(START))]),
        page_of("ACME", [as_bar(Row(START))], adjusted=True),
        page_of("ACME", [as_bar(Row(START))], resultsCount=2),
        page_of("ACME", [as_bar(Row(START))], status="MAYBE", results=[as_bar(Row(START))] * 50),
        page_of("ACME", [{**as_bar(Row(START)), "t": 1773149400}]),
        page_of("ACME", [{**as_bar(Row(START)), "t": 1773149400000000000}]),
        page_of("ACME", [{**as_bar(Row(START)), "t": "2026-03-10"}]),
        page_of("ACME", [{**as_bar(Row(START)), "c": None}]),
        page_of("ACME", [as_bar(Row(END))]),
    ],
    ids=["ticker", "adjusted", "fewer", "status", "seconds", "nanoseconds", "text", "price", "outside"],
)
def test_bars_that_were_not_asked_for_or_are_none_are_malformed(
    server: VendorServer, folder: Path, reply: Reply
) -> None:
    server.vendor = lambda _: reply

    with pytest.raises(Malformed):
        massive(server, folder).minute_bars(["ACME"], START, END)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("Unknown API Key", AuthFailed),
        ("You've exceeded the maximum requests per minute.", RateLimited),
        ("The parameter 'to' cannot be a time that occurs before 'from'", BadRequest),
    ],
)
def test_a_refusal_with_status_200_is_what_its_words_say(
    server: VendorServer, folder: Path, error: str, expected: type[ProviderError]
) -> None:
    server.always = as_json({"status": "ERROR", "request_id": "r1", "error": error})

    with pytest.raises(expected):
        massive(server, folder).minute_bars(["ACME"], START, END)


def test_a_limit_without_a_body_is_waited_for_a_minute(server: VendorServer, folder: Path) -> None:
    server.always = Reply(status=429)

    with pytest.raises(RateLimited) as raised:
        massive(server, folder).minute_bars(["ACME"], START, END)

    assert raised.value.retry_at is not None
    assert 58 < (raised.value.retry_at - datetime.now(UTC)).total_seconds() < 62


def test_delayed_bars_are_an_answer(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: page_of("ACME", [as_bar(Row(START))], status="DELAYED")

    assert massive(server, folder).minute_bars(["ACME"], START, END).height == 1


def test_delayed_bars_are_none_for_minutes_that_are_not_yet_in_them(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: page_of("ACME", [], status="DELAYED")
    now = datetime.now(UTC)

    with pytest.raises(OutOfRange, match="plan is delayed") as raised:
        massive(server, folder).minute_bars(["ACME"], now - timedelta(hours=1), now)

    assert raised.value.retry_at is not None
    assert raised.value.retry_at > now + timedelta(minutes=13)


def test_days_of_the_whole_market_are_one_table(server: VendorServer, folder: Path) -> None:
    bolt, acme = ({"T": name, **as_bar(Row(END))} for name in ("BOLT", "ACME"))
    del bolt["n"], bolt["vw"]
    server.vendor = lambda _: as_json(
        {"adjusted": False, "queryCount": 2, "resultsCount": 2, "results": [bolt, acme], "status": "OK"}
    )

    days = massive(server, folder).grouped_bars(date(2026, 3, 10))

    assert server.seen[0].path == "/v2/aggs/grouped/locale/us/market/stocks/2026-03-10"
    assert server.seen[0].params == {"adjusted": "false"}
    assert dict(days.schema) == dict(DAILY)
    assert days.rows() == [
        (date(2026, 3, 10), "ACME", 41.1, 41.22, 41.05, 41.18, 5210.0, 88, 41.14),
        (date(2026, 3, 10), "BOLT", 41.1, 41.22, 41.05, 41.18, 5210.0, None, None),
    ]


def test_a_closed_day_has_no_rows(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: as_json({"adjusted": False, "queryCount": 0, "resultsCount": 0, "status": "OK"})

    days = massive(server, folder).grouped_bars(date(2026, 3, 8))

    assert days.height == 0
    assert dict(days.schema) == dict(DAILY)


def test_a_day_that_is_not_over_is_out_of_range_until_its_last_trade(server: VendorServer, folder: Path) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()

    with pytest.raises(OutOfRange) as raised:
        massive(server, folder).grouped_bars(tomorrow)

    assert raised.value.retry_at == datetime(tomorrow.year, tomorrow.month, tomorrow.day, 20, tzinfo=NEW_YORK)
    assert server.seen == []


def paged(*pages: list[dict[str, Any]]) -> Vendor:
    """Pages of reference data, each of which names the next one by its number."""

    def answer(seen: Seen) -> Reply:
        number = int(seen.params.get("cursor", 0))
        more = {"next_url": f"{OTHER_HOST}{seen.path}?cursor={number + 1}"} if number + 1 < len(pages) else {}
        return as_json({"results": pages[number], "status": "OK", "request_id": "r", **more})

    return answer


def test_tickers_of_a_date_are_one_table_of_all_pages(server: VendorServer, folder: Path) -> None:
    acme = {"ticker": "ACME", "name": "Acme Tools Inc.", "market": "stocks", "locale": "us", "active": True}
    listed = {"primary_exchange": "XNYS", "type": "CS", "currency_name": "usd", "composite_figi": "BBG0000ACME1"}
    server.vendor = paged([{**acme, **listed}], [{"ticker": "TRUE", "active": True}])

    tickers = massive(server, folder).tickers(date(2020, 1, 2))

    assert server.seen[0].path == "/v3/reference/tickers"
    assert server.seen[0].params["date"] == "2020-01-02"
    assert server.seen[0].params["limit"] == "1000"
    assert dict(tickers.schema) == dict(TICKERS)
    assert tickers.rows() == [
        ("ACME", "Acme Tools Inc.", "CS", "XNYS", True, "usd", None, "BBG0000ACME1", None),
        ("TRUE", None, None, None, True, None, None, None, None),
    ]


def test_events_of_a_ticker_stand_by_date(server: VendorServer, folder: Path) -> None:
    changes = [("2025-06-02", "ACME"), ("2011-01-04", "ACM")]
    events = [{"type": "ticker_change", "date": day, "ticker_change": {"ticker": name}} for day, name in changes]
    server.vendor = lambda _: as_json({"results": {"name": "Acme Tools Inc.", "events": events}, "status": "OK"})

    found = massive(server, folder).ticker_events("ACME")

    assert server.seen[0].path == "/vX/reference/tickers/ACME/events"
    assert dict(found.schema) == dict(TICKER_EVENTS)
    assert found.rows() == [
        ("ACME", "ticker_change", date(2011, 1, 4), "ACM"),
        ("ACME", "ticker_change", date(2025, 6, 2), "ACME"),
    ]


def test_events_of_an_unknown_ticker_are_not_found(server: VendorServer, folder: Path) -> None:
    server.always = as_json({"status": "NOT_FOUND", "request_id": "r10", "message": "Ticker not found."}, 404)

    with pytest.raises(NotFound):
        massive(server, folder).ticker_events("NONE")


def test_splits_of_a_window_are_one_table_by_date(server: VendorServer, folder: Path) -> None:
    split = {"ticker": "ACME", "execution_date": "2026-03-09", "split_from": 1, "split_to": 3}
    reverse = {"ticker": "BOLT", "execution_date": "2026-03-02", "split_from": 2.5, "split_to": 1, "id": "s2"}
    server.vendor = paged([split], [reverse])

    splits = massive(server, folder).splits(date(2026, 3, 1), date(2026, 4, 1))

    first = server.seen[0]
    assert first.path == "/v3/reference/splits"
    assert (first.params["execution_date.gte"], first.params["execution_date.lt"]) == ("2026-03-01", "2026-04-01")
    assert "ticker" not in first.params
    assert dict(splits.schema) == dict(SPLITS)
    assert splits.rows() == [
        ("BOLT", date(2026, 3, 2), 2.5, 1.0, "s2"),
        ("ACME", date(2026, 3, 9), 1.0, 3.0, None),
    ]


def test_dividends_of_one_symbol_are_asked_for_by_ex_date(server: VendorServer, folder: Path) -> None:
    dates = {"declaration_date": "2026-02-10", "ex_dividend_date": "2026-03-05", "pay_date": "2026-03-20"}
    server.vendor = paged(
        [{"ticker": "CRUX", "cash_amount": 0.31, "dividend_type": "CD", "frequency": 4, "currency": "USD", **dates}]
    )

    dividends = massive(server, folder).dividends(date(2026, 3, 1), date(2026, 4, 1), "CRUX")

    assert server.seen[0].params["ticker"] == "CRUX"
    assert server.seen[0].params["ex_dividend_date.lt"] == "2026-04-01"
    assert dict(dividends.schema) == dict(DIVIDENDS)
    assert dividends.select("symbol", "ex_dividend_date", "cash_amount", "record_date").rows() == [
        ("CRUX", date(2026, 3, 5), 0.31, None)
    ]


def test_actions_outside_the_window_are_malformed(server: VendorServer, folder: Path) -> None:
    server.vendor = paged([{"ticker": "ACME", "execution_date": "2026-04-01", "split_from": 1, "split_to": 3}])

    with pytest.raises(Malformed, match="until before 2026-04-01, was 2026-04-01"):
        massive(server, folder).splits(date(2026, 3, 1), date(2026, 4, 1))


def test_reference_data_without_results_or_a_count_is_malformed(server: VendorServer, folder: Path) -> None:
    server.always = as_json({"status": "OK", "request_id": "r"})

    with pytest.raises(Malformed, match="expected results, or a count of 0"):
        massive(server, folder).tickers(date(2026, 3, 10))


def test_reference_data_whose_later_page_fails_fails(server: VendorServer, folder: Path) -> None:
    first = paged([{"ticker": "ACME", "active": True}], [])
    server.always = lambda seen: Reply(status=500) if "cursor" in seen.params else first(seen)

    with pytest.raises(Transient):
        massive(server, folder).tickers(date(2026, 3, 10))


def test_a_connection_test_asks_once_and_raises_what_is_wrong(server: VendorServer, folder: Path) -> None:
    server.vendor = paged([])

    massive(server, folder).ping()

    assert [seen.path for seen in server.seen] == ["/v3/reference/tickers"]
    server.always = TestMassive.unauthorized
    with pytest.raises(AuthFailed, match="MASSIVE_API_KEY, POLYGON_API_KEY"):
        massive(server, folder).ping()


# flat files


def day_file(bars: Bars, day: date) -> bytes:
    """The market of a New York date: these bars, and those of a ticker nobody asks for."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=NEW_YORK)
    lines = [
        f"{symbol},{row.volume},{row.open},{row.close},{row.high},{row.low},{milliseconds(row.ts)}000000,{row.trades}"
        for symbol, served in {**bars, "ZZZ": [Row(noon)]}.items()
        for row in served
        if row.ts.astimezone(NEW_YORK).date() == day
    ]
    return gzip.compress("\n".join([HEADER, *lines, ""]).encode())


def s3_error(code: str, status: int) -> Reply:
    return Reply(f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode(), status)


def expected_signature(seen: Seen, secret: str) -> str:
    """As the server that holds the secret computes it from the request it got."""
    given = {name: value for name, value in seen.params.items() if name != "X-Amz-Signature"}
    query = "&".join(f"{quote(name, '-_.~')}={quote(given[name], '-_.~')}" for name in sorted(given))
    canonical = f"GET\n{seen.path}\n{query}\nhost:{seen.headers['host']}\n\nhost\nUNSIGNED-PAYLOAD"
    _, day, region, service, last = given["X-Amz-Credential"].split("/")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{day}/{region}/{service}/{last}\n{digest}"
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, last):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def signed(vendor: Vendor) -> Vendor:
    """The vendor, who answers only whom S3 would: by key, signature and time."""

    def answer(seen: Seen) -> Reply:
        if seen.params.get("X-Amz-Credential", "").split("/")[0] != f"{SECRET}-0":
            return s3_error("InvalidAccessKeyId", 403)
        if seen.params["X-Amz-Signature"] != expected_signature(seen, f"{SECRET}-1"):
            return s3_error("SignatureDoesNotMatch", 403)
        at = datetime.strptime(seen.params["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        left = at + timedelta(seconds=int(seen.params["X-Amz-Expires"])) - datetime.now(UTC)
        return vendor(seen) if timedelta() < left < timedelta(minutes=10) else s3_error("AccessDenied", 403)

    return answer


def files_of(bars: Bars, closed: Mapping[date, Reply]) -> Vendor:
    """Every date has its file but those that are closed."""

    def answer(seen: Seen) -> Reply:
        _, bucket, *_, name = seen.path.split("/")
        day = date.fromisoformat(name.removesuffix(".csv.gz"))
        if seen.path != f"/{bucket}/us_stocks_sip/minute_aggs_v1/{day:%Y}/{day:%m}/{day}.csv.gz":
            return s3_error("NoSuchKey", 404)
        return closed.get(day) or Reply(day_file(bars, day))

    return signed(answer)


class TestMassiveFlat(ProviderContract):
    kind = "massive_flat"
    settings: ClassVar[Mapping[str, str]] = {"download_seconds": "1"}
    unauthorized = s3_error("InvalidAccessKeyId", 403)
    not_entitled = s3_error("AccessDenied", 403)
    without_key = Reply(gzip.compress(b"ticker,volume,open,high,low,window_start,transactions\nACME,1,1,1,1,1,1\n"))
    error_in_200 = (s3_error("InternalError", 200), Malformed)
    paged = False

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return files_of(bars, {})

    @pytest.mark.parametrize("day", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2025, 11, 2, tzinfo=UTC)])
    def test_times_are_instants_on_days_when_clocks_change(
        self, server: VendorServer, folder: Path, day: datetime
    ) -> None:
        # Bars an hour apart would be refused as bars of an hour.
        minutes = [Row(day + timedelta(hours=hour, minutes=hour % 2), volume=1.0 + hour) for hour in range(24)]
        self.serve(server, {self.symbols[0]: minutes})

        answer = self.provider(server, folder).minute_bars([self.symbols[0]], day, day + timedelta(days=1))

        assert pairs(answer, self.symbols[0]) == told(minutes)


def flat(server: VendorServer, folder: Path, **settings: str) -> MassiveFlatProvider:
    provider = TestMassiveFlat().provider(server, folder, **settings)
    assert isinstance(provider, MassiveFlatProvider)
    return provider


def test_the_signature_is_that_of_the_example_in_the_specification() -> None:
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

    link = presigned("/test.txt", {}, "examplebucket.s3.amazonaws.com", keys, datetime(2013, 5, 24, tzinfo=UTC), 86400)

    assert link == (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_a_file_is_asked_for_once_for_all_symbols_of_its_day(server: VendorServer, folder: Path) -> None:
    days = [Row(START + timedelta(days=day, minutes=minute)) for day in range(3) for minute in range(2)]
    server.vendor = files_of({"BRK.B": days, "NA": days, "TRUE": days}, {})

    bars = flat(server, folder).minute_bars(["TRUE", "BRK.B", "NA"], START, START + timedelta(days=3))

    assert bars["symbol"].to_list() == ["TRUE"] * 6 + ["BRK.B"] * 6 + ["NA"] * 6
    assert pairs(bars, "NA") == told(days)
    assert bars["vwap"].null_count() == bars.height
    assert bars["feed"].unique().to_list() == ["sip"]
    assert sorted(seen.path for seen in server.seen) == [
        f"/flatfiles/us_stocks_sip/minute_aggs_v1/2026/03/2026-03-{day}.csv.gz" for day in (10, 11, 12, 13)
    ]


def test_a_wrong_secret_is_a_wrong_signature(server: VendorServer, folder: Path) -> None:
    server.vendor = files_of({}, {})
    provider = flat(server, folder)
    provider.give_secrets(
        {"MASSIVE_S3_ACCESS_KEY_ID": f"{SECRET}-0", "MASSIVE_S3_SECRET_ACCESS_KEY": "of-another-account"}
    )

    with pytest.raises(AuthFailed, match="SignatureDoesNotMatch"):
        provider.minute_bars(["ACME"], START, END)

    assert len(server.seen) == 1


@pytest.mark.parametrize("refusal", [s3_error("NoSuchKey", 404), s3_error("AccessDenied", 403)])
def test_a_closed_day_has_no_file_and_no_bars(server: VendorServer, folder: Path, refusal: Reply) -> None:
    saturday, sunday, monday = date(2026, 3, 7), date(2026, 3, 8), datetime(2026, 3, 9, 13, 30, tzinfo=UTC)
    server.vendor = files_of({"ACME": [Row(monday)]}, {saturday: refusal, sunday: refusal})

    bars = flat(server, folder).minute_bars(["ACME"], monday - timedelta(days=2), monday + timedelta(minutes=5))

    assert pairs(bars, "ACME") == told([Row(monday)])
    assert len(server.seen) == 3


def test_a_session_without_its_file_is_out_of_range(server: VendorServer, folder: Path) -> None:
    server.vendor = files_of({}, {START.date(): s3_error("NoSuchKey", 404)})

    with pytest.raises(OutOfRange, match=r"expected us_stocks_sip/.*/2026-03-10\.csv\.gz, there is none") as raised:
        flat(server, folder).minute_bars(["ACME"], START, END)

    assert raised.value.retry_at is None
    assert len(server.seen) == 1


@pytest.mark.parametrize("symbol", ["BTC/USD", "X:BTCUSD"])
def test_only_stocks_are_in_the_files(server: VendorServer, folder: Path, symbol: str) -> None:
    with pytest.raises(BadRequest, match="expected US stocks, was also"):
        flat(server, folder).minute_bars(["ACME", symbol], START, END)

    assert server.seen == []


def test_a_file_of_another_day_is_malformed_and_named_by_its_key(server: VendorServer, folder: Path) -> None:
    wrong = Reply(day_file({"ACME": [Row(START)]}, START.date()))
    server.vendor = files_of({}, {date(2026, 3, 11): wrong})

    with pytest.raises(Malformed, match=r"massive_flat: us_stocks_sip/\S+/2026-03-11\.csv\.gz: expected bars of"):
        flat(server, folder).minute_bars(["ACME"], START + timedelta(days=1), END + timedelta(days=1))

    assert len(server.seen) == 1


def test_volume_of_no_trade_in_a_file_is_dropped_and_counted(server: VendorServer, folder: Path) -> None:
    server.vendor = files_of({"ACME": [Row(START), Row(START + timedelta(minutes=1), volume=0, trades=0)]}, {})
    provider = flat(server, folder)

    assert provider.minute_bars(["ACME"], START, END)["ts"].to_list() == [START]
    assert provider.traffic.filler_rows == 1


def test_a_connection_test_of_the_files_lists_one(server: VendorServer, folder: Path) -> None:
    server.vendor = signed(lambda _: Reply(b"<ListBucketResult/>"))

    flat(server, folder).ping()

    (seen,) = server.seen
    assert seen.path == "/flatfiles"
    assert (seen.params["list-type"], seen.params["max-keys"]) == ("2", "1")


def test_no_file_stays_behind(server: VendorServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    server.vendor = files_of({"ACME": rows(2)}, {})

    flat(server, folder).minute_bars(["ACME"], START, END)

    assert list(scratch.iterdir()) == []


def test_another_host_is_refused() -> None:
    with pytest.raises(ValueError, match=r"base_url: expected https:// and a host of files\.massive\.com"):
        create("files", "massive_flat", {"base_url": "https://flatfiles.example"})


def test_a_signature_that_could_be_used_again_is_in_no_log(
    server: VendorServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.vendor = files_of({}, {})

    with caplog.at_level("DEBUG"):
        flat(server, folder).minute_bars(["ACME"], START, END)

    assert "X-Amz-Signature=***" in caplog.text
    assert server.seen[0].params["X-Amz-Signature"] not in caplog.text
