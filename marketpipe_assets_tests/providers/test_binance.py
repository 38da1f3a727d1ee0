"""Binance's REST and archives, which of the two is asked, its names, weights and refusals."""

import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from marketpipe_assets.providers.base import BadRequest, Malformed, NotEntitled, NotFound, RateLimited, Transient
from marketpipe_assets.providers.binance import BinanceProvider
from marketpipe_assets_tests.providers.contract import END, START, Bars, ProviderContract, Row, rows
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
GONE = Reply(b"<Error><Code>NoSuchKey</Code></Error>", 404)


def as_kline(row: Row, unit: int = 1000) -> list[Any]:
    """Times in so many parts of a second."""
    opened = round(row.ts.timestamp()) * unit
    texts = [f"{number}" for number in (row.open, row.high, row.low, row.close, f"{row.volume:.8f}")]
    return [opened, *texts, opened + 60 * unit - 1, "1", row.trades, "0", "0", "0"]


def zipped(name: str, served: Sequence[Row], unit: int = 1_000_000) -> bytes:
    """The archive of a month or a day, with rows for minutes without a trade."""
    day = f"{served[0].ts:%Y-%m-%d}"
    minutes = (datetime.fromisoformat(f"{day}T00:00+00:00") + n * MINUTE for n in range(1440))
    filler = [Row(ts, volume=0, trades=0) for ts in minutes if ts not in {row.ts for row in served}]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(as_kline(row, unit) for row in [*served, *filler])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name.replace(".zip", ".csv")), text.getvalue(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def archive_of(bars: Bars, seen: Seen) -> Reply:
    """An archive, or its checksum; where there are no bars there is no archive."""
    name = seen.path.split("/")[-1].removesuffix(".CHECKSUM")
    symbol, _, stamp = name.removesuffix(".zip").partition("-1m-")
    served = [row for row in bars.get(symbol, []) if f"{row.ts:%Y-%m-%d}".startswith(stamp)]
    if not served:
        return GONE
    content = zipped(name, served)
    stated = f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
    return Reply(stated if seen.path.endswith(".CHECKSUM") else content)


def page_of(bars: Bars, seen: Seen, page_size: int = 1000) -> Reply:
    """Both ends are inclusive; `limit` rows at most."""
    symbol = seen.params["symbol"]
    if symbol not in bars:
        return as_json({"code": -1121, "msg": "Invalid symbol."}, 400)
    first, last = (datetime.fromtimestamp(int(seen.params[name]) / 1000, UTC) for name in ("startTime", "endTime"))
    told = [row for row in bars[symbol] if first <= row.ts <= last]
    return as_json([as_kline(row) for row in told[: min(page_size, int(seen.params["limit"]))]])


def binance_of(bars: Bars, page_size: int = 1000, *, archives: bool = True) -> Vendor:
    """Binance, with these bars under its names, and with archives or without."""
    named = {symbol.replace("/", ""): served for symbol, served in bars.items()}

    def answered(seen: Seen) -> Reply:
        if seen.path.startswith("/data/"):
            return archive_of(named, seen) if archives else GONE
        if seen.path == "/api/v3/time":
            return as_json({"serverTime": round(datetime.now(UTC).timestamp() * 1000)})
        return page_of(named, seen, page_size)

    return answered


class TestBinanceRest(ProviderContract):
    kind = "binance"
    settings: ClassVar[Mapping[str, str]] = {"concurrency": "1"}
    symbols = ("BTC/USDT", "ETH/USDT")
    limited = as_json({"code": -1003, "msg": "Too much request weight used; current limit is 6000."}, 429)
    not_entitled = as_json({"code": 0, "msg": "Service unavailable from a restricted location."}, 451)
    error_in_200 = (as_json({"code": -1121, "msg": "Invalid symbol."}), NotFound)
    keyless = True
    archives: ClassVar[bool] = False

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return binance_of(bars, page_size, archives=self.archives)

    def repeating(self, bars: Bars) -> Vendor:
        return lambda _: as_json([as_kline(row) for row in bars["BTC/USDT"]])


class TestBinanceArchives(TestBinanceRest):
    settings: ClassVar[Mapping[str, str]] = {"concurrency": "1", "archive_minutes": "1"}
    archives = True
    paged = False


def binance(server: VendorServer, folder: Path, **settings: str) -> BinanceProvider:
    provider = TestBinanceRest().provider(server, folder, concurrency="4", **settings)
    assert isinstance(provider, BinanceProvider)
    return provider


def asked(server: VendorServer) -> list[str]:
    """Archives by the end of their path, pages of REST by their first and last instant; in order."""
    return [
        seen.path.split("/")[-1]
        if seen.path.startswith("/data/")
        else " ".join(
            f"{datetime.fromtimestamp(int(seen.params[name]) / 1000, UTC):%m-%dT%H:%M}"
            for name in ("startTime", "endTime")
            if name in seen.params
        )
        for seen in server.seen
    ]


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC-USDT", "BTCUSDT"])
def test_a_pair_is_asked_for_without_its_sign_and_told_as_asked(
    server: VendorServer, folder: Path, symbol: str
) -> None:
    server.vendor = binance_of({"BTCUSDT": rows(2)})

    bars = binance(server, folder).minute_bars([symbol], START, END)

    assert bars.select("symbol", "feed").unique().rows() == [(symbol, "spot")]
    (seen,) = server.seen[:1]
    assert seen.path == "/api/v3/klines"
    assert seen.params == {
        "symbol": "BTCUSDT",
        "interval": "1m",
        "startTime": "1773149400000",
        "endTime": "1773151199999",
        "limit": "1000",
    }


@pytest.mark.parametrize("least", ["1", "1000"])
def test_archives_and_rest_tell_the_same(server: VendorServer, folder: Path, least: str) -> None:
    server.vendor = binance_of({"BTCUSDT": [Row(START)]})

    bars = binance(server, folder, archive_minutes=least).minute_bars(["BTC/USDT"], START, END)

    assert bars.drop("symbol", "provider", "feed").rows() == [(START, 41.1, 41.22, 41.05, 41.18, 5210.0, 88, None)]


def test_a_day_that_is_published_comes_from_its_archive_and_a_part_of_one_by_rest(
    server: VendorServer, folder: Path
) -> None:
    day = MARCH + 9 * DAY
    served = [*rows(2, day), *rows(2, day + DAY)]
    server.vendor = binance_of({"BTCUSDT": served})

    bars = binance(server, folder).minute_bars(["BTC/USDT"], day, day + DAY + timedelta(hours=1))

    assert bars["ts"].to_list() == [row.ts for row in served]
    assert asked(server) == [
        "BTCUSDT-1m-2026-03-10.zip.CHECKSUM",
        "BTCUSDT-1m-2026-03-10.zip",
        "03-11T00:00 03-11T00:59",
        "03-11T00:02 03-11T00:59",
    ]
    assert server.seen[1].path == "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-03-10.zip"


def test_most_of_a_month_that_is_published_comes_from_the_months_archive(server: VendorServer, folder: Path) -> None:
    served = [Row(MARCH), Row(MARCH + 20 * DAY), Row(MARCH + 31 * DAY)]
    server.vendor = binance_of({"BTCUSDT": served})

    bars = binance(server, folder).minute_bars(["BTC/USDT"], MARCH + 2 * DAY, MARCH + 32 * DAY)

    assert bars["ts"].to_list() == [row.ts for row in served[1:]]
    paths = [seen.path for seen in server.seen if not seen.path.endswith(".CHECKSUM")]
    assert paths == [
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2026-03.zip",
        "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-04-01.zip",
    ]


def test_days_not_published_yet_are_asked_for_by_rest_at_once(server: VendorServer, folder: Path) -> None:
    served = [Row(TODAY - 3 * DAY), Row(TODAY - DAY), Row(TODAY - MINUTE)]
    server.vendor = binance_of({"BTCUSDT": served})

    bars = binance(server, folder).minute_bars(["BTC/USDT"], TODAY - 3 * DAY, TODAY)

    assert bars["ts"].to_list() == [row.ts for row in served]
    days = [f"{TODAY - n * DAY:%Y-%m-%d}" for n in (3, 2)]
    first = f"{TODAY - DAY:%m-%dT%H:%M}"
    archives = [f"BTCUSDT-1m-{day}.zip.CHECKSUM" for day in days]
    assert set(archives) <= set(asked(server))
    assert sum(page.startswith(first) for page in asked(server)) == 1
    assert f"{TODAY - DAY:%Y-%m-%d}" not in " ".join(asked(server))


def test_an_archive_that_is_not_there_is_made_up_for_by_rest(server: VendorServer, folder: Path) -> None:
    served = rows(3, MARCH)
    server.vendor = binance_of({"BTCUSDT": served}, archives=False)

    bars = binance(server, folder).minute_bars(["BTC/USDT"], MARCH, MARCH + DAY)

    assert bars["ts"].to_list() == [row.ts for row in served]
    assert asked(server)[:2] == ["BTCUSDT-1m-2026-03-01.zip.CHECKSUM", "03-01T00:00 03-01T23:59"]


def test_times_of_archives_are_milliseconds_or_microseconds(server: VendorServer, folder: Path) -> None:
    day = datetime(2024, 12, 31, tzinfo=UTC)
    content = zipped("BTCUSDT-1m-2024-12-31.zip", [Row(day)], unit=1000)
    stated = Reply(f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-1m-2024-12-31.zip\n".encode())
    server.faults.extend([stated, Reply(content)])

    assert binance(server, folder).minute_bars(["BTC/USDT"], day, day + DAY)["ts"].to_list() == [day]


@pytest.mark.parametrize(
    ("stated", "content", "message"),
    [
        ("0" * 64, zipped("A", [Row(MARCH)]), "expected sha256 0000"),
        (None, b"PK and no more", "expected a whole zip"),
        (None, zipped("BTCUSDT-1m-2026-03-01.zip", [Row(MARCH + DAY)]), "expected bars of 2026-03-01"),
        (None, zipped("ETHUSDT-1m-2026-03-01.zip", [Row(MARCH)]), "expected the member BTCUSDT-1m-2026-03-01.csv"),
    ],
)
def test_an_archive_that_cannot_be_trusted_is_malformed_and_not_made_up_for(
    server: VendorServer, folder: Path, stated: str | None, content: bytes, message: str
) -> None:
    checksum = f"{stated or hashlib.sha256(content).hexdigest()}  BTCUSDT-1m-2026-03-01.zip".encode()
    server.vendor = lambda seen: Reply(checksum if seen.path.endswith(".CHECKSUM") else content)

    with pytest.raises(Malformed, match=message) as raised:
        binance(server, folder).minute_bars(["BTC/USDT"], MARCH, MARCH + DAY)

    assert "/tmp" not in str(raised.value)
    assert not any(seen.path == "/api/v3/klines" for seen in server.seen)


@pytest.mark.parametrize("least", ["1", "1000"])
def test_minutes_without_a_trade_are_dropped_and_counted(server: VendorServer, folder: Path, least: str) -> None:
    served = [Row(MARCH + n * MINUTE, volume=n % 2, trades=n % 2) for n in range(1440)]
    server.vendor = binance_of({"BTCUSDT": served, "ETHUSDT": served}, page_size=500)
    provider = binance(server, folder, archive_minutes=least)

    bars = provider.minute_bars(["BTC/USDT", "ETH/USDT"], MARCH, MARCH + DAY)

    assert bars.height == 1440
    assert provider.traffic.filler_rows == 1440


def test_pages_of_a_long_tail_are_joined_without_a_seam(server: VendorServer, folder: Path) -> None:
    start = TODAY - 400 * MINUTE
    served = rows(400, start)
    server.vendor = binance_of({"BTCUSDT": served}, page_size=150)

    bars = binance(server, folder).minute_bars(["BTC/USDT"], start, TODAY)

    assert bars["ts"].to_list() == [row.ts for row in served]
    assert sum(seen.path == "/api/v3/klines" for seen in server.seen) == 3


def test_a_window_within_a_millisecond_has_no_bar_before_its_start(server: VendorServer, folder: Path) -> None:
    server.vendor = binance_of({"BTCUSDT": rows(3)})
    little = timedelta(microseconds=1)

    bars = binance(server, folder).minute_bars(["BTC/USDT"], START + little, START + MINUTE + little)

    assert bars["ts"].to_list() == [START + MINUTE]


def test_several_pairs_and_spans_stand_in_order(server: VendorServer, folder: Path) -> None:
    served = [*rows(2, MARCH), *rows(2, MARCH + DAY)]
    server.vendor = binance_of({"BTCUSDT": served, "ETHUSDT": served, "SOLUSDT": []})

    bars = binance(server, folder).minute_bars(["SOL/USDT", "ETH/USDT", "BTC/USDT"], MARCH, MARCH + 2 * DAY)

    times = [row.ts for row in served]
    assert bars.select("symbol", "ts").rows() == [(symbol, ts) for symbol in ("ETH/USDT", "BTC/USDT") for ts in times]


def test_the_vendors_clock_says_which_minute_is_running(server: VendorServer, folder: Path) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    theirs = now - 2 * MINUTE + timedelta(seconds=30)
    served = rows(6, now - 5 * MINUTE)
    answered = binance_of({"BTCUSDT": served})
    clock = as_json({"serverTime": round(theirs.timestamp() * 1000)})
    server.vendor = lambda seen: clock if seen.path == "/api/v3/time" else answered(seen)

    bars = binance(server, folder).minute_bars(["BTC/USDT"], now - 5 * MINUTE, now)

    assert bars["ts"].to_list() == [row.ts for row in served if row.ts < now - 2 * MINUTE]


def test_a_weight_near_the_limit_of_the_address_pauses_what_follows(server: VendorServer, folder: Path) -> None:
    page = binance_of({"BTCUSDT": rows(2)})
    headers = {"X-MBX-USED-WEIGHT-1M": "5100"}
    server.vendor = lambda seen: page(seen)._replace(headers=headers)

    with pytest.raises(RateLimited) as raised:
        binance(server, folder, deadline_seconds="0.01").minute_bars(["BTC/USDT"], START, END)

    assert len(server.seen) == 1
    assert raised.value.retry_at is not None
    assert raised.value.retry_at.second == 0
    assert raised.value.retry_at - datetime.now(UTC) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "body", "seconds"),
    [
        (418, {"code": -1003, "msg": "Way too much request weight used; IP banned until {ms}."}, 1000),
        (418, {"code": -1003, "msg": "Way too much request weight used."}, 120),
        (403, "<html>Request blocked.</html>", 300),
    ],
)
def test_a_ban_says_when_it_ends(server: VendorServer, folder: Path, status: int, body: Any, seconds: int) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    reply = as_json(body, status)
    server.always = reply._replace(body=reply.body.replace(b"{ms}", b"%d" % (until.timestamp() * 1000)))

    with pytest.raises(RateLimited) as raised:
        binance(server, folder).minute_bars(["BTC/USDT"], START, END)

    assert raised.value.retry_at is not None
    assert abs((raised.value.retry_at - until).total_seconds()) < 2
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (as_json({"code": -1121, "msg": "Invalid symbol."}, 400), NotFound),
        (as_json({"code": -1100, "msg": "Illegal characters found in parameter 'symbol'."}, 400), BadRequest),
        (as_json({"code": -1100, "msg": "Illegal characters found in parameter 'symbol'."}), BadRequest),
        (as_json({"code": -1008, "msg": "Server is currently overloaded."}, 400), Transient),
        (Reply(b"configured to block access from your country", 403), NotEntitled),
        (as_json([[1773149400000, "1", "1"]]), Malformed),
        (as_json([[1773149400000, *["much"] * 5, 1, "1", 1]]), Malformed),
        (as_json([[1773149400000, *["nan"] * 5, 1, "1", 1]]), Malformed),
        (as_json([as_kline(Row(START - MINUTE))]), Malformed),
        (as_json([as_kline(Row(END))]), Malformed),
        (as_json([as_kline(Row(START), 1_000_000)]), Malformed),
    ],
)
def test_a_refusal_and_an_answer_that_is_none_are_what_they_are(
    server: VendorServer, folder: Path, reply: Reply, expected: type[Exception]
) -> None:
    server.always = reply

    with pytest.raises(expected) as raised:
        binance(server, folder, attempts="2").minute_bars(["BTC/USDT"], START, END)

    assert type(raised.value) is expected


def test_no_symbols_and_an_empty_window_ask_nothing(server: VendorServer, folder: Path) -> None:
    provider = binance(server, folder)

    assert provider.minute_bars([], START, END).height == 0
    assert provider.minute_bars(["BTC/USDT"], START, START).height == 0
    assert server.seen == []


def test_a_connection_test_asks_once_and_raises_what_is_wrong(server: VendorServer, folder: Path) -> None:
    server.vendor = lambda _: as_json({})

    binance(server, folder).ping()

    assert [seen.path for seen in server.seen] == ["/api/v3/ping"]
    server.always = TestBinanceRest.not_entitled
    with pytest.raises(NotEntitled):
        binance(server, folder).ping()
