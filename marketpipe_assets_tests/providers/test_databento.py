"""Databento's files, costs and refusals."""

import base64
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import databento_dbn
import pyarrow as pa
import pytest

from marketpipe_assets.providers import create
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    BarProvider,
    Malformed,
    NotEntitled,
    OutOfRange,
    ProviderError,
)
from marketpipe_assets.providers.databento import DatabentoProvider, OverBudget
from marketpipe_assets_tests.providers import contract
from marketpipe_assets_tests.providers.contract import END, SECRET, START, Bars, ProviderContract, Row, pairs, told
from marketpipe_assets_tests.providers.contract import rows as rows_of_floats
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, Vendor, VendorServer, as_json

COST = "/v0/metadata.get_cost"
RANGE = "/v0/timeseries.get_range"
UNDEFINED = 2**63 - 1
DAY = timedelta(days=1)

Interval = tuple[date, date, str]


def rows(count: int, start: datetime = START) -> list[Row]:
    return [row._replace(close=round(row.close, 2)) for row in rows_of_floats(count, start)]


def nanos(instant: datetime) -> int:
    return int(instant.timestamp()) * 10**9


def record(instrument: int, row: Row, *, undefined: bool = False) -> bytes:
    prices = [round(price * 10**9) for price in row[1:5]]
    close = UNDEFINED if undefined else prices[3]
    return struct.pack("<BBHIQqqqqQ", 14, 33, 1, instrument, nanos(row.ts), *prices[:3], close, int(row.volume))


def dbn(start: datetime, end: datetime, mapped: Mapping[str, list[Interval]], *records: bytes) -> bytes:
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=a, end_date=b, symbol=name) for a, b, name in intervals],
        )
        for symbol, intervals in mapped.items()
    ]
    metadata = databento_dbn.Metadata(
        dataset="EQUS.MINI",
        start=nanos(start),
        end=nanos(end),
        stype_in=databento_dbn.SType.from_str("raw_symbol"),
        stype_out=databento_dbn.SType.from_str("instrument_id"),
        schema=databento_dbn.Schema.from_str("ohlcv-1m"),
        mappings=mappings,
    )
    content: bytes = pa.compress(metadata.encode() + b"".join(records), "zstd", asbytes=True)
    return content


def answer_of(bars: Bars, seen: Seen) -> Reply:
    """One stream of all symbols; the end is exclusive; a symbol without an instrument makes it 206."""
    if seen.path == COST:
        return as_json(0.0375)
    start, end = (datetime.fromisoformat(seen.params[name]) for name in ("start", "end"))
    asked = seen.params["symbols"].split(",")
    known = {symbol: number for number, symbol in enumerate(asked, 1) if symbol in bars}
    days = (start.date(), end.date() + DAY)
    records = [record(number, row) for symbol, number in known.items() for row in bars[symbol] if start <= row.ts < end]
    mapped = {symbol: [(*days, f"{number}")] for symbol, number in known.items()}
    return Reply(dbn(start, end, mapped, *records), 200 if len(known) == len(asked) else 206)


def refused(case: str, status: int = 422, **payload: str) -> Reply:
    detail = {"case": case, "message": f"about {case}", "status_code": status, "docs": "", "payload": payload}
    return as_json({"detail": detail}, status)


class TestDatabento(ProviderContract):
    kind = "databento"
    settings = {"dataset": "EQUS.MINI", "budget_dollars": "100"}  # noqa: RUF012  # as the contract has it
    unauthorized = as_json({"detail": "Not authenticated"}, 401)
    not_entitled = refused("license_not_found_unauthorized", 403)
    limited = as_json({"detail": "Too many requests"}, 429)
    without_key = as_json({})
    paged = False

    @pytest.fixture(autouse=True)
    def decimal_prices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prices are whole billionths: the rows of the contract are sums of floats, which are none."""
        monkeypatch.setattr(contract, "rows", rows)

    def provider(self, server: VendorServer, folder: Path, **settings: str) -> BarProvider:
        provider = super().provider(server, folder, **settings)
        provider.give_secrets({"DATABENTO_API_KEY": SECRET})
        return provider

    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        return lambda seen: answer_of(bars, seen)

    def test_fractions_of_a_unit_stay(self, server: VendorServer, folder: Path) -> None:
        """Databento counts whole units: none is lost where there are more than a float32 can count."""
        self.serve(server, {"ACME": [Row(START, volume=2**53 - 1)]})

        assert self.provider(server, folder).minute_bars(["ACME"], START, END)["volume"].to_list() == [2**53 - 1]

    @pytest.mark.parametrize("day", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2025, 11, 2, tzinfo=UTC)])
    def test_times_are_instants_on_days_when_clocks_change(
        self, server: VendorServer, folder: Path, day: datetime
    ) -> None:
        """In hours and one minute: a file whose times are whole hours apart is taken for one of hour bars."""
        hours = [Row(day + timedelta(hours=hour), volume=1.0 + hour) for hour in range(24)]
        served = [hours[0], Row(day + timedelta(minutes=1)), *hours[1:]]
        self.serve(server, {"ACME": served})

        answer = self.provider(server, folder).minute_bars(["ACME"], day, day + DAY)

        assert pairs(answer, "ACME") == told(served)


def databento(server: VendorServer, folder: Path, **settings: str) -> DatabentoProvider:
    provider = TestDatabento().provider(server, folder, **settings)
    assert isinstance(provider, DatabentoProvider)
    return provider


def paths(server: VendorServer) -> list[str]:
    return [seen.path for seen in server.seen]


# what is asked


def test_the_cost_is_asked_before_the_bars_of_the_same_request(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: answer_of({"ACME": rows(1)}, seen)

    databento(server, tmp_path).minute_bars(["ACME", "BOLT"], START, END)

    same = {
        "dataset": "EQUS.MINI",
        "symbols": "ACME,BOLT",
        "schema": "ohlcv-1m",
        "stype_in": "raw_symbol",
        "start": "2026-03-10T13:30:00.000000Z",
        "end": "2026-03-10T14:00:00.000000Z",
    }
    cost, bars = server.seen
    assert (cost.method, cost.path, cost.params) == ("POST", COST, {**same, "mode": "historical-streaming"})
    assert (bars.method, bars.path) == ("POST", RANGE)
    assert bars.params == {**same, "stype_out": "instrument_id", "encoding": "dbn", "compression": "zstd"}
    assert bars.headers["authorization"] == f"Basic {base64.b64encode(f'{SECRET}:'.encode()).decode()}"


def test_many_symbols_are_asked_for_in_as_few_requests_as_databento_takes(server: VendorServer, tmp_path: Path) -> None:
    symbols = [f"S{number:04d}" for number in range(2001)]
    server.vendor = lambda seen: answer_of({symbol: [] for symbol in symbols}, seen)

    databento(server, tmp_path).minute_bars(symbols, START, END)

    lists = [len(seen.params["symbols"].split(",")) for seen in server.seen if seen.path == RANGE]
    assert sorted(lists) == [1, 2000]


def test_a_data_set_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="provider databento: expected dataset, was missing"):
        create("databento", "databento", {})


def test_the_data_set_is_the_feed(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: answer_of({"ACME": rows(1)}, seen)

    bars = databento(server, tmp_path).minute_bars(["ACME"], START, END)

    assert bars.select("provider", "feed", "trade_count", "vwap").rows() == [("databento", "EQUS.MINI", None, None)]


# the file


def test_an_instrument_has_the_symbol_of_its_date_and_an_undefined_price_is_null(
    server: VendorServer, tmp_path: Path
) -> None:
    first, second, third = (START.date() + n * DAY for n in range(3))
    mapped = {"ACME": [(first, second, "1"), (second, third, "2")], "BOLT": [(second, third, "1")]}
    content = dbn(
        START,
        START + 2 * DAY,
        mapped,
        record(1, Row(START)),
        record(1, Row(START + DAY)),
        record(2, Row(START + DAY), undefined=True),
    )
    server.vendor = lambda seen: as_json(0.01) if seen.path == COST else Reply(content)

    bars = databento(server, tmp_path).minute_bars(["ACME", "BOLT"], START, START + 2 * DAY)

    assert bars.select("symbol", "ts", "close").rows() == [
        ("ACME", START, 41.18),
        ("ACME", START + DAY, None),
        ("BOLT", START + DAY, 41.18),
    ]


def test_symbols_the_vendor_does_not_know_have_no_rows_beside_others(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: answer_of({"ACME": rows(2)}, seen)

    bars = databento(server, tmp_path).minute_bars(["NONE", "ACME"], START, END)

    assert pairs(bars, "ACME") == told(rows(2))
    assert bars.height == 2


def test_symbols_of_which_the_vendor_knows_none_have_no_rows(server: VendorServer, tmp_path: Path) -> None:
    detail = {"case": "symbology_invalid_request", "message": "None of the symbols could be resolved", "payload": {}}
    server.always = as_json({"detail": detail}, 422)

    assert databento(server, tmp_path).minute_bars(["NONE"], START, END).height == 0


@pytest.mark.parametrize("size", [60, -30])
def test_a_file_that_is_cut_is_never_taken_for_a_whole_one(server: VendorServer, tmp_path: Path, size: int) -> None:
    content = dbn(START, END, {"ACME": [(START.date(), START.date() + DAY, "1")]}, *(record(1, row) for row in rows(9)))
    server.vendor = lambda seen: as_json(0.01) if seen.path == COST else Reply(content[:size])
    provider = databento(server, tmp_path)

    with pytest.raises(Malformed, match="get_range"):
        provider.minute_bars(["ACME"], START, END)

    assert provider.spent_dollars == pytest.approx(0.03)


def test_nothing_is_left_of_a_download(server: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", f"{folder}")
    server.vendor = lambda seen: answer_of({"ACME": rows(2)}, seen)

    databento(server, tmp_path).minute_bars(["ACME"], START, END)

    assert list(folder.iterdir()) == []


# money


def test_a_request_beyond_the_budget_is_not_sent(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json(2.5)

    with pytest.raises(OverBudget, match=r"budget_dollars of 1\.0000.*spent 0\.0000, was 2\.5000 dollars") as raised:
        databento(server, tmp_path, budget_dollars="1").minute_bars(["ACME"], START, END)

    assert (raised.value.cost, raised.value.budget) == (2.5, 1.0)
    assert isinstance(raised.value, NotEntitled)
    assert paths(server) == [COST]


def test_requests_of_one_run_share_the_budget(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: answer_of({"ACME": rows(1)}, seen)
    provider = databento(server, tmp_path, budget_dollars="0.08")

    for _ in range(2):
        provider.minute_bars(["ACME"], START, END)
    with pytest.raises(OverBudget, match=r"spent 0\.0750, was 0\.0375"):
        provider.minute_bars(["ACME"], START, END)

    assert paths(server).count(RANGE) == 2
    assert provider.spent_dollars == pytest.approx(0.075)


def test_what_costs_nothing_needs_no_budget(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: as_json(0.0) if seen.path == COST else answer_of({"ACME": rows(1)}, seen)

    assert databento(server, tmp_path, budget_dollars="0").minute_bars(["ACME"], START, END).height == 1


@pytest.mark.parametrize("body", [b'"free"', b"null", b'{"cost": 1}'])
def test_a_cost_that_is_no_number_buys_nothing(server: VendorServer, tmp_path: Path, body: bytes) -> None:
    server.always = Reply(body)

    with pytest.raises(Malformed):
        databento(server, tmp_path).minute_bars(["ACME"], START, END)

    assert set(paths(server)) == {COST}


# time the data set does not have yet


@pytest.mark.parametrize("refuses", [COST, RANGE])
def test_a_range_that_ends_too_late_is_asked_for_up_to_what_there_is(
    server: VendorServer, tmp_path: Path, refuses: str
) -> None:
    available = START + timedelta(minutes=2, seconds=30)

    def vendor(seen: Seen) -> Reply:
        if seen.path == refuses and datetime.fromisoformat(seen.params["end"]) > available:
            return refused("data_end_after_available_end", available_end="2026-03-10T13:32:30.000000000Z")
        return answer_of({"ACME": rows(5)}, seen)

    server.vendor = vendor
    provider = databento(server, tmp_path)

    bars = provider.minute_bars(["ACME"], START, END)

    assert pairs(bars, "ACME") == told(rows(2))
    assert server.seen[-1].params["end"] == "2026-03-10T13:32:00.000000Z"
    assert provider.spent_dollars == pytest.approx(0.0375)


def test_a_range_that_begins_too_late_has_nothing_yet(server: VendorServer, tmp_path: Path) -> None:
    server.always = refused("data_start_after_available_end", available_end="2026-03-10T00:00:00.000000000Z")

    assert databento(server, tmp_path).minute_bars(["ACME"], START, END).height == 0
    assert paths(server) == [COST]


def test_a_range_is_cut_once_and_no_more(server: VendorServer, tmp_path: Path) -> None:
    server.always = refused("data_end_after_available_end", available_end="2026-03-10T13:40:00.000000000Z")

    with pytest.raises(OutOfRange):
        databento(server, tmp_path).minute_bars(["ACME"], START, END)

    assert len(server.seen) == 2


def test_a_range_that_ends_too_late_without_saying_where_is_out_of_range(server: VendorServer, tmp_path: Path) -> None:
    server.always = refused("data_end_after_available_end")

    with pytest.raises(OutOfRange, match="about data_end_after_available_end"):
        databento(server, tmp_path).minute_bars(["ACME"], START, END)


# refusals


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        (refused("license_not_found_unauthorized", 403), NotEntitled, "about license_not_found_unauthorized"),
        (refused("symbology_invalid_symbol"), BadRequest, "about symbology_invalid_symbol"),
        (as_json({"detail": "Unknown schema"}, 422), BadRequest, "Unknown schema"),
        (Reply(b"<html>no</html>", 400), BadRequest, "<html>no"),
        (as_json({"detail": "No payment method"}, 402), NotEntitled, "No payment method"),
        (as_json({"detail": "Not authenticated"}, 401), AuthFailed, "read from DATABENTO_API_KEY"),
    ],
)
def test_a_refusal_is_an_object_or_a_sentence(
    server: VendorServer, tmp_path: Path, reply: Reply, expected: type[ProviderError], words: str
) -> None:
    server.always = reply
    provider = databento(server, tmp_path)

    with pytest.raises(expected, match=words):
        provider.minute_bars(["ACME"], START, END)

    assert len(server.seen) == 1
    assert provider.spent_dollars == 0


def test_a_connection_test_costs_nothing(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json({"start": "2023-03-28T00:00:00.000000000Z"})

    databento(server, tmp_path).ping()

    (seen,) = server.seen
    assert (seen.path, seen.params) == ("/v0/metadata.get_dataset_range", {"dataset": "EQUS.MINI"})
