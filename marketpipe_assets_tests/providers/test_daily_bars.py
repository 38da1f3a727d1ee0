"""Daily bars of every provider that has some: one bar of each symbol and date, as the vendor says its day."""

import zipfile
from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from marketpipe_assets.bars.schema import VENDOR_DAY_COLUMNS
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets.providers import PROVIDERS, create, provider_class
from marketpipe_assets.providers.base import (
    BadFile,
    BadRequest,
    BarProvider,
    Malformed,
    NotFound,
    ProviderError,
    Transient,
)
from marketpipe_assets.providers.files import FilesProvider
from marketpipe_assets.providers.synthetic import SyntheticProvider
from marketpipe_assets_tests.providers.contract import ProviderContract
from marketpipe_assets_tests.providers.test_alpaca import TestAlpacaStocks as AlpacaContract
from marketpipe_assets_tests.providers.test_binance import TestBinanceRest as BinanceContract
from marketpipe_assets_tests.providers.test_massive import TestMassive as MassiveContract
from marketpipe_assets_tests.providers.vendor_server import RESET, Reply, Seen, VendorServer, as_json

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 11)
NEW_YORK = ZoneInfo("America/New_York")


def midnight(day: date, zone: Any = NEW_YORK) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


class DailyContract:
    """What a vendor's days must be. A subclass says how its vendor answers."""

    minutes: ProviderContract
    symbols: tuple[str, str] = ("ACME", "BOLT")

    @abstractmethod
    def answer(self, seen: Seen, days: Iterable[date]) -> Reply:
        """The vendor's days of the symbols a request asks for: opened at 10, closed at 11, volume the day's number."""

    def provider(self, server: VendorServer, folder: Path) -> BarProvider:
        return self.minutes.provider(server, folder)

    @pytest.fixture
    def asked(self, server: VendorServer, folder: Path) -> Callable[..., pl.DataFrame]:
        server.vendor = lambda seen: self.answer(seen, (MONDAY, TUESDAY, WEDNESDAY))
        return self.provider(server, folder).daily_bars

    def test_days_come_by_symbol_in_the_order_asked_then_by_date(self, asked: Callable[..., pl.DataFrame]) -> None:
        second, first = self.symbols

        days = asked([first, second], [MONDAY, TUESDAY])

        assert dict(days.schema) == dict(VENDOR_DAY_COLUMNS)
        assert days.select("symbol", "session_date", "open", "close", "volume").rows() == [
            (symbol, day, 10.0, 11.0, float(day.day)) for symbol in (first, second) for day in (MONDAY, TUESDAY)
        ]
        assert days["provider"].unique().to_list() == [self.minutes.kind]
        assert days["feed"].null_count() == 0

    def test_only_the_dates_asked_for_are_given(self, asked: Callable[..., pl.DataFrame]) -> None:
        days = asked([self.symbols[0]], [MONDAY, WEDNESDAY])

        assert days["session_date"].to_list() == [MONDAY, WEDNESDAY]

    def test_a_day_the_vendor_does_not_have_has_no_row(self, server: VendorServer, folder: Path) -> None:
        server.vendor = lambda seen: self.answer(seen, [MONDAY])

        days = self.provider(server, folder).daily_bars([self.symbols[0]], [MONDAY, TUESDAY])

        assert days["session_date"].to_list() == [MONDAY]

    def test_a_day_that_comes_twice_is_malformed(self, server: VendorServer, folder: Path) -> None:
        server.vendor = lambda seen: self.answer(seen, [MONDAY, MONDAY])

        with pytest.raises(Malformed, match=f"expected one bar of {self.symbols[0]} for {MONDAY}, there are two"):
            self.provider(server, folder).daily_bars([self.symbols[0]], [MONDAY, TUESDAY])

    def test_what_passes_is_tried_again(self, server: VendorServer, folder: Path) -> None:
        server.vendor = lambda seen: self.answer(seen, [MONDAY])
        server.faults.extend([RESET, Reply(status=500)])

        assert self.provider(server, folder).daily_bars([self.symbols[0]], [MONDAY]).height == 1
        assert len(server.seen) == 3

    def test_a_vendor_that_stays_away_is_no_vendor_without_days(self, server: VendorServer, folder: Path) -> None:
        server.always = Reply(status=500)

        with pytest.raises(Transient):
            self.provider(server, folder).daily_bars([self.symbols[0]], [MONDAY])

    def test_an_answer_without_bars_of_the_right_kind_is_malformed(self, server: VendorServer, folder: Path) -> None:
        server.vendor = lambda _: as_json({"something": "else"})

        with pytest.raises(ProviderError) as raised:
            self.provider(server, folder).daily_bars([self.symbols[0]], [MONDAY])

        assert not isinstance(raised.value, (Transient, NotFound))


def stock_bar(day: date) -> dict[str, Any]:
    return {"o": 10.0, "h": 12.0, "l": 9.0, "c": 11.0, "v": float(day.day), "n": 5, "vw": 10.5}


class TestAlpacaDays(DailyContract):
    minutes = AlpacaContract()

    def answer(self, seen: Seen, days: Iterable[date]) -> Reply:
        first, last = (datetime.fromisoformat(seen.params[name]) for name in ("start", "end"))
        bars = [
            {"t": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **stock_bar(day)}
            for day in days
            if first <= (at := midnight(day)) <= last
        ]
        return as_json({"bars": dict.fromkeys(seen.params["symbols"].split(","), bars), "next_page_token": None})

    def test_days_are_asked_for_raw_and_by_feed(self, server: VendorServer, asked: Callable[..., pl.DataFrame]) -> None:
        days = asked(["ACME"], [MONDAY, TUESDAY])

        (seen,) = server.seen
        assert seen.path == "/v2/stocks/bars"
        assert {name: seen.params[name] for name in ("timeframe", "adjustment", "feed")} == {
            "timeframe": "1Day",
            "adjustment": "raw",
            "feed": "iex",
        }
        assert days.select("trade_count", "vwap", "feed").row(0) == (5, 10.5, "iex")

    def test_days_of_coins_are_refused(self, server: VendorServer, asked: Callable[..., pl.DataFrame]) -> None:
        with pytest.raises(BadRequest, match="expected stocks to give days of, was BTC/USD"):
            asked(["ACME", "BTC/USD"], [MONDAY])
        assert server.seen == []


class TestMassiveDays(DailyContract):
    minutes = MassiveContract()

    def answer(self, seen: Seen, days: Iterable[date]) -> Reply:
        *_, ticker, _, _, _, first, last = seen.path.split("/")
        zone = UTC if ticker.startswith("X:") else NEW_YORK
        bars = [
            {"t": round(midnight(day, zone).timestamp() * 1000), **stock_bar(day)}
            for day in days
            if first <= f"{day}" <= last
        ]
        said = {"ticker": ticker, "adjusted": False, "resultsCount": len(bars), "results": bars, "status": "OK"}
        return as_json(said)

    def test_days_are_asked_for_unadjusted(self, server: VendorServer, asked: Callable[..., pl.DataFrame]) -> None:
        asked(["ACME"], [MONDAY, WEDNESDAY])

        (seen,) = server.seen
        assert seen.path == "/v2/aggs/ticker/ACME/range/1/day/2026-03-09/2026-03-11"
        assert seen.params["adjusted"] == "false"

    def test_days_of_coins_are_utcs(self, asked: Callable[..., pl.DataFrame]) -> None:
        days = asked(["BTC/USD"], [MONDAY])

        assert days.select("session_date", "feed").rows() == [(MONDAY, "crypto")]

    def test_more_symbols_than_dates_are_asked_for_by_date(self, server: VendorServer, folder: Path) -> None:
        bars = [{"T": name, "t": 0, **stock_bar(TUESDAY)} for name in ("OTHER", "BOLT", "ACME")]
        server.vendor = lambda _: as_json({"adjusted": False, "resultsCount": 3, "results": bars, "status": "OK"})

        days = self.provider(server, folder).daily_bars(["ACME", "BOLT"], [TUESDAY])

        assert [seen.path for seen in server.seen] == ["/v2/aggs/grouped/locale/us/market/stocks/2026-03-10"]
        assert days.select("symbol", "session_date", "feed").rows() == [
            ("ACME", TUESDAY, "sip"),
            ("BOLT", TUESDAY, "sip"),
        ]

    def test_adjusted_days_are_malformed(self, server: VendorServer, folder: Path) -> None:
        server.vendor = lambda _: as_json({"ticker": "ACME", "adjusted": True, "resultsCount": 0, "status": "OK"})

        with pytest.raises(Malformed, match="expected unadjusted prices"):
            self.provider(server, folder).daily_bars(["ACME"], [MONDAY])


class TestBinanceDays(DailyContract):
    minutes = BinanceContract()
    symbols = ("BTC/USDT", "ETH/USDT")

    def answer(self, seen: Seen, days: Iterable[date]) -> Reply:
        first, last = (int(seen.params[name]) for name in ("startTime", "endTime"))
        return as_json(
            [
                [opened, "10", "12", "9", "11", f"{day.day}.00000000", opened + 86_399_999, "1", 5, "0", "0", "0"]
                for day in days
                if first <= (opened := round(midnight(day, UTC).timestamp() * 1000)) <= last
            ]
        )

    def test_days_are_asked_for_by_rest(self, server: VendorServer, asked: Callable[..., pl.DataFrame]) -> None:
        asked(["BTC/USDT"], [MONDAY])

        (seen,) = server.seen
        assert (seen.path, seen.params["symbol"], seen.params["interval"]) == ("/api/v3/klines", "BTCUSDT", "1d")


def lean(root: Path, security: str = "equity", market: str = "usa") -> FilesProvider:
    return FilesProvider(format="lean", root=str(root), security=security, market=market)


def zipped(path: Path, *members: tuple[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


LEAN_DAYS = "20260309 00:00,100000,120000,90050,110000,9\n20260310 00:00,100001,120000,90000,110000,10"


def test_lean_days_are_scaled_as_its_minutes(tmp_path: Path) -> None:
    for symbol in ("acme", "bolt"):
        zipped(tmp_path / f"equity/usa/daily/{symbol}.zip", (f"{symbol}.csv", LEAN_DAYS))

    days = lean(tmp_path).daily_bars(["BOLT", "ACME", "GONE"], [TUESDAY, MONDAY])

    assert dict(days.schema) == dict(VENDOR_DAY_COLUMNS)
    assert days.select("symbol", "session_date").rows() == [
        (symbol, day) for symbol in ("BOLT", "ACME") for day in (MONDAY, TUESDAY)
    ]
    assert days.row(1, named=True) == {
        "symbol": "BOLT",
        "session_date": TUESDAY,
        "open": 10.0001,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 10.0,
        "trade_count": None,
        "vwap": None,
        "provider": "files",
        "feed": "lean",
    }


def test_lean_days_of_coins_lie_by_kind(tmp_path: Path) -> None:
    zipped(tmp_path / "crypto/coinbase/daily/btcusd_trade.zip", ("btcusd.csv", "20260309 00:00,10,12,9,11,9.5"))

    days = lean(tmp_path, "crypto", "coinbase").daily_bars(["BTCUSD"], [MONDAY])

    assert days.select("open", "volume").rows() == [(10.0, 9.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("20260309 00:00,100000,120000,90000,110000,9\n2026-03-10,1,1,1,1,1", "expected a date such as 20240102"),
        ("20260309 00:00,100000,,90000,110000,9", "expected a number in each of"),
        ("20260309 00:00,100000,120000", "expected 6 columns"),
        ("", "expected rows in each member"),
    ],
)
def test_lean_days_that_are_no_days_are_refused(tmp_path: Path, content: str, message: str) -> None:
    zipped(tmp_path / "equity/usa/daily/acme.zip", ("acme.csv", content))

    with pytest.raises(BadFile, match=message):
        lean(tmp_path).daily_bars(["ACME"], [MONDAY])


def test_lean_days_in_several_members_are_refused(tmp_path: Path) -> None:
    zipped(tmp_path / "equity/usa/daily/acme.zip", ("acme.csv", LEAN_DAYS), ("bolt.csv", LEAN_DAYS))

    with pytest.raises(BadFile, match="expected one member, it has 2"):
        lean(tmp_path).daily_bars(["ACME"], [MONDAY])


def test_lean_days_of_quotes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="days of forex are not read"):
        lean(tmp_path, "forex", "fxcm").daily_bars(["EURUSD.bid"], [MONDAY])


def csv(root: Path, **settings: Any) -> FilesProvider:
    prices = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    given: dict[str, Any] = {
        "format": "csv",
        "path": "{symbol}/{date:%Y-%m-%d}.csv",
        "columns": {"ts": "t", **prices},
        "timezone": "UTC",
        "label": "start",
        "daily_path": "daily/{symbol}.csv",
        "daily_columns": {"date": "day", **prices},
    }
    return FilesProvider(root=str(root), **{**given, **settings})


def test_csv_days_are_read_as_described(tmp_path: Path) -> None:
    (tmp_path / "daily").mkdir()
    (tmp_path / "daily" / "acme.csv").write_text(
        "day,o,h,l,c,v,open,open\n2026-03-09,10,12,9,11,9,x,z\n2026-03-10,,12,9,11,9,y,z"
    )

    days = csv(tmp_path, symbols={"ACME": "acme"}).daily_bars(["ACME", "GONE"], [MONDAY, TUESDAY])

    assert days.select("symbol", "session_date", "open", "volume", "vwap", "feed").rows() == [
        ("ACME", MONDAY, 10.0, 9.0, None, "csv"),
        ("ACME", TUESDAY, None, 9.0, None, "csv"),
    ]


def test_csv_days_with_another_date_or_an_endless_price_are_refused(tmp_path: Path) -> None:
    (tmp_path / "daily").mkdir()
    file = tmp_path / "daily" / "ACME.csv"
    for row, message in (("9.3.26,10,12,9,11,9", "a date such as 2024-01-02"), ("2026-03-09,inf,1,1,1,1", "finite")):
        file.write_text(f"day,o,h,l,c,v\n{row}\n")

        with pytest.raises(BadFile, match=message):
            csv(tmp_path).daily_bars(["ACME"], [MONDAY])


def test_csv_without_a_path_of_days_has_none(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="hold no daily bars"):
        csv(tmp_path, daily_path=None, daily_columns=None).daily_bars(["ACME"], [MONDAY])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"daily_path": "days.csv"}, "daily_path: expected a file for each symbol"),
        ({"daily_columns": {"date": "day", "open": "o"}}, r"missing: \['close', 'high', 'low'\]"),
        ({"daily_columns": None}, "missing: .*'date'"),
    ],
)
def test_csv_days_must_be_described_whole(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        csv(tmp_path, **settings)


def test_synthetic_days_are_what_its_minutes_without_faults_add_up_to() -> None:
    faulty = SyntheticProvider(faults={"bad_tick": 1.0, "missing_minutes": 2.0}, extended_hours=["04:00", "20:00"])
    minutes = SyntheticProvider().minute_bars(["ACME"], midnight(TUESDAY, UTC), midnight(WEDNESDAY, UTC))

    days = faulty.daily_bars(["BOLT", "ACME"], [MONDAY, TUESDAY, date(2026, 3, 8)])

    assert days.select("symbol", "session_date").rows() == [
        (symbol, day) for symbol in ("BOLT", "ACME") for day in (MONDAY, TUESDAY)
    ]
    acme = days.filter(symbol="ACME", session_date=TUESDAY).row(0, named=True)
    assert acme["open"] == minutes["open"][0]
    assert acme["high"] == minutes["high"].max()
    assert acme["close"] == minutes["close"][-1]
    assert acme["volume"] == pytest.approx(minutes["volume"].sum())
    assert sessions("XNYS", MONDAY, WEDNESDAY).dates == (MONDAY, TUESDAY)


@pytest.mark.parametrize("kind", sorted(set(PROVIDERS) - {"massive_flat"}))
def test_a_provider_either_gives_days_or_says_that_it_has_none(kind: str) -> None:
    found = provider_class(kind)

    assert found.capabilities.daily_bars == (found.daily_bars is not BarProvider.daily_bars)


def test_a_provider_without_days_says_so() -> None:
    with pytest.raises(BadRequest, match="TiingoProvider gives no daily bars of its own"):
        create("tiingo", "tiingo", {}).daily_bars(["ACME"], [MONDAY])
