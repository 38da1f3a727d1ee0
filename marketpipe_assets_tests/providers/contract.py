"""What every vendor's provider must do, against a server that answers in the vendor's shape and fails in every way.

A vendor's test module has a subclass named Test…, which says how its vendor answers and what its errors look like.
"""

import logging
import time
import traceback
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import polars as pl
import pytest

from marketpipe_assets.bars.schema import VENDOR_COLUMNS
from marketpipe_assets.providers import create, provider_class
from marketpipe_assets.providers.base import (
    AuthFailed,
    BarProvider,
    Malformed,
    NotEntitled,
    NotFound,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.http import HttpProvider
from marketpipe_assets_tests.providers.vendor_server import RESET, Reply, Seen, Vendor, VendorServer, vendor_server

START = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)
END = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
SECRET = "canary-5f1c9d7e"


class Row(NamedTuple):
    """A bar as the vendor has it. Vendors without trades or vwap leave them out."""

    ts: datetime
    open: float = 41.1
    high: float = 41.22
    low: float = 41.05
    close: float = 41.18
    volume: float = 5210.0
    trades: int = 88
    vwap: float = 41.14


Bars = Mapping[str, Sequence[Row]]


def rows(count: int, start: datetime = START) -> list[Row]:
    """Minutes one after another, no two alike."""
    return [Row(start + timedelta(minutes=n), close=41.06 + n / 100, volume=100.0 + n) for n in range(count)]


def pairs(bars: pl.DataFrame, symbol: str) -> list[tuple[datetime, float, float]]:
    """Time, close and volume of a symbol's bars, in their order."""
    return bars.filter(pl.col("symbol") == symbol).select("ts", "close", "volume").rows()


def told(served: Sequence[Row]) -> list[tuple[datetime, float, float]]:
    return [(row.ts, row.close, row.volume) for row in served]


def _has_secrets(contract: "type[ProviderContract]") -> bool:
    return bool(provider_class(contract.kind).capabilities.secrets)


OF_SOME_VENDORS: Mapping[str, Callable[["type[ProviderContract]"], bool]] = {
    "test_an_answer_without_its_bars_is_malformed": lambda each: each.without_key is not None,
    "test_an_error_with_status_200_is_an_error": lambda each: each.error_in_200 is not None,
    "test_a_page_that_is_named_twice_is_malformed": lambda each: each.paged,
    "test_a_later_page_that_fails_fails_the_call": lambda each: each.paged,
    "test_a_wrong_key_is_told_with_its_variables_and_not_tried_again": lambda each: each.unauthorized is not None,
    "test_a_missing_key_is_told_with_its_variables_when_it_is_needed": lambda each: not each.keyless,
    "test_a_plan_that_does_not_cover_it_is_told_and_not_tried_again": lambda each: each.not_entitled is not None,
    "test_no_secret_is_in_any_text_of_a_failing_call": _has_secrets,
}
"""Tests of the contract that only some vendors can be held to → which."""


class ProviderContract:
    """Attributes and the first methods are the vendor's; what is None, the vendor does not have."""

    kind: ClassVar[str]
    """The provider's name in the registry."""
    settings: ClassVar[Mapping[str, str]] = {}
    symbols: ClassVar[tuple[str, str]] = ("ACME", "BOLT")
    unauthorized: ClassVar[Reply | None] = None
    not_entitled: ClassVar[Reply | None] = None
    limited: ClassVar[Reply] = Reply(status=429)
    """A 429, or what stands for one, without headers that say how long to wait."""
    without_key: ClassVar[Reply | None] = None
    """An answer that lacks what holds the bars."""
    error_in_200: ClassVar[tuple[Reply, type[ProviderError]] | None] = None
    paged: ClassVar[bool] = True
    keyless: ClassVar[bool] = False
    """Whether these bars are answered without a key."""

    def __init_subclass__(cls) -> None:
        """Leave out the tests of what the vendor does not have: they are not skipped, there is nothing to test."""
        for test, has in OF_SOME_VENDORS.items():
            if not has(cls):
                setattr(cls, test, None)

    @abstractmethod
    def vendor(self, bars: Bars, page_size: int) -> Vendor:
        """The vendor, which has these bars and no others, in pages of so many bars."""

    def repeating(self, bars: Bars) -> Vendor:
        """The vendor, whose second page names the second page as the next one."""
        raise NotImplementedError

    def provider(self, server: VendorServer, folder: Path, **settings: str) -> BarProvider:
        secrets = provider_class(self.kind).capabilities.variables
        quick = {
            "base_url": server.url,
            "quota_file": str(folder / "quota.sqlite"),
            "requests_per_minute": "100000",
            "first_wait": "0.01",
            "longest_wait": "0.05",
            "deadline_seconds": "3",
            "attempts": "4",
        }
        options = {**quick, **self.settings, **settings}
        return create(
            self.kind, self.kind, options, {name: f"{SECRET}-{number}" for number, name in enumerate(secrets)}
        )

    def serve(self, server: VendorServer, bars: Bars, page_size: int = 3) -> None:
        server.vendor = self.vendor(bars, page_size)

    @pytest.fixture
    def bars(self, server: VendorServer) -> Bars:
        """Bars the server has: two symbols, several pages."""
        one, other = self.symbols
        served = {one: rows(7), other: rows(4)}
        self.serve(server, served)
        return served

    def ask(self, provider: BarProvider) -> pl.DataFrame:
        return provider.minute_bars(list(self.symbols), START, END)

    def assert_whole(self, answer: pl.DataFrame, bars: Bars) -> None:
        assert {symbol: pairs(answer, symbol) for symbol in bars} == {
            symbol: told(served) for symbol, served in bars.items()
        }
        assert answer.height == sum(map(len, bars.values()))

    def assert_whole_or_limited(self, provider: BarProvider, bars: Bars) -> None:
        """A vendor whose own wait is longer than the deadline says when to ask again."""
        retry_at = None
        try:
            self.assert_whole(self.ask(provider), bars)
        except RateLimited as error:
            retry_at = error.retry_at or START
        assert retry_at is None or retry_at > datetime.now(UTC)

    # the answer

    def test_every_bar_arrives_once_from_every_page(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        answer = self.ask(self.provider(server, folder))

        self.assert_whole(answer, bars)
        assert dict(answer.schema) == dict(VENDOR_COLUMNS)
        assert answer["provider"].unique().to_list() == [self.kind]
        assert answer["feed"].null_count() == 0

    def test_symbols_stand_in_the_order_asked(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        one, other = self.symbols

        answer = self.provider(server, folder).minute_bars([other, one], START, END)

        assert answer["symbol"].unique(maintain_order=True).to_list() == [other, one]
        assert answer.height == sum(map(len, bars.values()))

    def test_a_window_has_its_first_instant_and_not_its_last(self, server: VendorServer, folder: Path) -> None:
        served = {self.symbols[0]: rows(7)}
        self.serve(server, served)
        provider = self.provider(server, folder)
        cut = START + timedelta(minutes=3)

        first, second = (provider.minute_bars([self.symbols[0]], *part) for part in ((START, cut), (cut, END)))

        assert pairs(first, self.symbols[0]) == told(served[self.symbols[0]][:3])
        assert pairs(second, self.symbols[0]) == told(served[self.symbols[0]][3:])

    def test_nothing_to_tell_is_an_empty_frame(self, server: VendorServer, folder: Path) -> None:
        self.serve(server, {self.symbols[0]: []})

        answer = self.provider(server, folder).minute_bars([self.symbols[0]], START, END)

        assert answer.height == 0
        assert dict(answer.schema) == dict(VENDOR_COLUMNS)

    def test_an_unknown_symbol_has_no_rows_or_is_not_found(self, server: VendorServer, folder: Path) -> None:
        served = {self.symbols[0]: rows(2)}
        self.serve(server, served)

        with suppress(NotFound):
            self.assert_whole(self.ask(self.provider(server, folder)), served)

    def test_rows_keep_the_order_of_arrival_and_duplicates(self, server: VendorServer, folder: Path) -> None:
        first, second, third = rows(3)
        served = {self.symbols[0]: [first, third, second, second]}
        self.serve(server, served, page_size=10)

        answer = self.provider(server, folder).minute_bars([self.symbols[0]], START, END)

        self.assert_whole(answer, served)

    def test_fractions_of_a_unit_stay(self, server: VendorServer, folder: Path) -> None:
        self.serve(server, {self.symbols[0]: [Row(START, volume=0.0132)]})

        assert self.provider(server, folder).minute_bars([self.symbols[0]], START, END)["volume"].to_list() == [0.0132]

    @pytest.mark.parametrize("day", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2025, 11, 2, tzinfo=UTC)])
    def test_times_are_instants_on_days_when_clocks_change(
        self, server: VendorServer, folder: Path, day: datetime
    ) -> None:
        hours = [Row(day + timedelta(hours=hour), volume=1.0 + hour) for hour in range(24)]
        self.serve(server, {self.symbols[0]: hours}, page_size=100)

        answer = self.provider(server, folder).minute_bars([self.symbols[0]], day, day + timedelta(days=1))

        assert pairs(answer, self.symbols[0]) == told(hours)

    def test_the_minute_that_is_running_is_left_out(self, server: VendorServer, folder: Path) -> None:
        running = datetime.now(UTC).replace(second=0, microsecond=0)
        served = rows(3, running - timedelta(minutes=2))
        self.serve(server, {self.symbols[0]: served})

        answer = self.provider(server, folder).minute_bars(
            [self.symbols[0]], running - timedelta(minutes=5), running + timedelta(minutes=5)
        )

        over = [row for row in served if row.ts < running]
        assert pairs(answer, self.symbols[0])[: len(over)] == told(over)
        assert answer["ts"].max() < datetime.now(UTC) - timedelta(seconds=59)  # type: ignore[operator]  # a time

    # faults that pass

    @pytest.mark.parametrize("status", [500, 502, 503, 408])
    def test_a_server_that_fails_once_is_asked_again(
        self, server: VendorServer, folder: Path, bars: Bars, status: int
    ) -> None:
        server.faults.append(Reply(b"<html>down</html>", status))

        self.assert_whole(self.ask(self.provider(server, folder)), bars)

    def test_a_connection_that_is_reset_is_made_again(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        server.faults.append(RESET)

        self.assert_whole(self.ask(self.provider(server, folder)), bars)

    @pytest.mark.parametrize("declared", [True, False])
    def test_an_answer_that_breaks_off_is_asked_for_again(
        self, server: VendorServer, folder: Path, bars: Bars, *, declared: bool
    ) -> None:
        def broken(seen: Seen) -> Reply:
            whole = server.vendor(seen)
            half = len(whole.body) // 2
            return whole._replace(cut=half) if declared else whole._replace(body=whole.body[:half])

        server.faults.append(broken)

        self.assert_whole(self.ask(self.provider(server, folder)), bars)

    def test_retry_after_is_waited_for(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        server.faults.append(self.limited._replace(headers={"Retry-After": "1"}))

        self.assert_whole(self.ask(self.provider(server, folder)), bars)
        assert self.pause(server) >= 1

    def test_the_reset_of_the_quota_is_waited_for(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        reset = int(time.time()) + 1
        server.faults.append(self.limited._replace(headers={"X-RateLimit-Reset": f"{reset}"}))

        self.assert_whole(self.ask(self.provider(server, folder)), bars)
        assert sorted(seen.at for seen in server.seen)[1] >= reset

    def test_a_limit_that_says_no_time_is_waited_out_or_told(
        self, server: VendorServer, folder: Path, bars: Bars
    ) -> None:
        server.faults.append(self.limited)

        self.assert_whole_or_limited(self.provider(server, folder, concurrency="1"), bars)

    def pause(self, server: VendorServer) -> float:
        """Longest time between two requests that came one after another."""
        at = sorted(seen.at for seen in server.seen)
        return max(later - earlier for earlier, later in pairwise(at))

    # faults that stay

    @pytest.mark.usefixtures("bars")
    def test_a_server_that_stays_down_ends_as_transient(self, server: VendorServer, folder: Path) -> None:
        server.always = Reply(b"down", 503)

        with pytest.raises(Transient) as raised:
            self.ask(self.provider(server, folder, concurrency="1"))

        assert raised.value.retry_at is not None
        assert len(server.seen) == 4

    @pytest.mark.usefixtures("bars")
    def test_a_limit_past_the_deadline_says_when_to_try_again(self, server: VendorServer, folder: Path) -> None:
        server.always = self.limited._replace(headers={"Retry-After": "3600"})

        with pytest.raises(RateLimited) as raised:
            self.ask(self.provider(server, folder, concurrency="1"))

        assert raised.value.retry_at is not None
        assert 3590 < (raised.value.retry_at - datetime.now(UTC)).total_seconds() < 3610
        assert len(server.seen) == 1

    @pytest.mark.usefixtures("bars")
    def test_an_answer_that_drips_is_given_up(self, server: VendorServer, folder: Path) -> None:
        server.always = lambda seen: server.vendor(seen)._replace(drip=0.05)

        with pytest.raises(Transient):
            self.ask(self.provider(server, folder, answer_seconds="0.2", attempts="2"))

    @pytest.mark.usefixtures("bars")
    def test_a_server_that_does_not_answer_is_given_up(self, server: VendorServer, folder: Path) -> None:
        def silent(seen: Seen) -> Reply:
            time.sleep(0.5)
            return server.vendor(seen)

        server.always = silent

        with pytest.raises(Transient):
            self.ask(self.provider(server, folder, read_timeout="0.1", attempts="2"))

    @pytest.mark.usefixtures("bars")
    @pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"\x00\x01\x02", b"12", b"null"])
    def test_an_answer_of_another_kind_is_malformed(self, server: VendorServer, folder: Path, body: bytes) -> None:
        server.always = Reply(body)

        with pytest.raises(Malformed):
            self.ask(self.provider(server, folder))

    @pytest.mark.usefixtures("bars")
    def test_an_answer_that_always_breaks_off_is_malformed(self, server: VendorServer, folder: Path) -> None:
        server.always = lambda seen: Reply(server.vendor(seen).body[:-10])

        with pytest.raises(Malformed):
            self.ask(self.provider(server, folder))

    @pytest.mark.usefixtures("bars")
    def test_an_answer_without_its_bars_is_malformed(self, server: VendorServer, folder: Path) -> None:
        server.always = self.without_key

        with pytest.raises(Malformed):
            self.ask(self.provider(server, folder))

    @pytest.mark.usefixtures("bars")
    def test_an_error_with_status_200_is_an_error(self, server: VendorServer, folder: Path) -> None:
        assert self.error_in_200 is not None
        server.always, expected = self.error_in_200

        with pytest.raises(expected):
            self.ask(self.provider(server, folder))

    def test_a_page_that_is_named_twice_is_malformed(self, server: VendorServer, folder: Path, bars: Bars) -> None:
        server.vendor = self.repeating(bars)

        with pytest.raises(Malformed, match="seen before"):
            self.ask(self.provider(server, folder))

        assert len(server.seen) < 10

    @pytest.mark.usefixtures("bars")
    def test_a_later_page_that_fails_fails_the_call(self, server: VendorServer, folder: Path) -> None:
        first: list[Seen] = []

        def second_fails(seen: Seen) -> Reply:
            first.append(seen)
            return server.vendor(seen) if len(first) == 1 else Reply(b"down", 500)

        server.always = second_fails

        with pytest.raises(Transient):
            self.ask(self.provider(server, folder, concurrency="1"))

    @pytest.mark.usefixtures("bars")
    def test_a_wrong_key_is_told_with_its_variables_and_not_tried_again(
        self, server: VendorServer, folder: Path
    ) -> None:
        server.always = self.unauthorized

        with pytest.raises(AuthFailed, match=provider_class(self.kind).capabilities.secrets[0][0]):
            self.ask(self.provider(server, folder, concurrency="1"))

        assert len(server.seen) == 1

    @pytest.mark.usefixtures("bars")
    def test_a_missing_key_is_told_with_its_variables_when_it_is_needed(
        self, server: VendorServer, folder: Path
    ) -> None:
        provider = self.provider(server, folder)
        provider.give_secrets({})

        with pytest.raises(AuthFailed, match=provider_class(self.kind).capabilities.secrets[0][0]):
            self.ask(provider)

        assert server.seen == []

    @pytest.mark.usefixtures("bars")
    def test_a_plan_that_does_not_cover_it_is_told_and_not_tried_again(
        self, server: VendorServer, folder: Path
    ) -> None:
        server.always = self.not_entitled

        with pytest.raises(NotEntitled):
            self.ask(self.provider(server, folder, concurrency="1"))

        assert len(server.seen) == 1

    @pytest.mark.usefixtures("bars")
    def test_a_redirect_to_another_host_is_not_followed(self, server: VendorServer, folder: Path) -> None:
        with vendor_server() as other:
            server.always = Reply(status=302, headers={"Location": f"{other.url}/elsewhere"})

            with pytest.raises(Malformed):
                self.ask(self.provider(server, folder))

            assert other.seen == []

    @pytest.mark.usefixtures("bars")
    @pytest.mark.parametrize("fault", ["refused", "limited", "down", "reset", "broken", "echo"])
    def test_no_secret_is_in_any_text_of_a_failing_call(
        self, server: VendorServer, folder: Path, fault: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        echo = f'{{"message": "unknown key {SECRET}-0", "secret": "{SECRET}-1"}}'.encode()
        faults = {
            "refused": self.unauthorized or Reply(status=403),
            "limited": self.limited,
            "down": Reply(b"down", 503),
            "reset": RESET,
            "broken": Reply(b'{"'),
            "echo": Reply(echo, 400),
        }
        server.always = faults[fault]
        provider = self.provider(server, folder, attempts="2")

        with caplog.at_level(logging.DEBUG), pytest.raises(ProviderError) as raised:
            self.ask(provider)

        assert SECRET not in spoken(provider, raised.value, caplog)

    @pytest.mark.usefixtures("bars")
    def test_no_secret_is_in_any_text_of_a_good_call(
        self, server: VendorServer, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider = self.provider(server, folder)

        with caplog.at_level(logging.DEBUG):
            self.ask(provider)

        assert SECRET not in spoken(provider, ProviderError("none"), caplog)

    @pytest.mark.usefixtures("bars")
    def test_one_connection_serves_many_requests(self, server: VendorServer, folder: Path) -> None:
        provider = self.provider(server, folder)

        self.ask(provider)

        assert isinstance(provider, HttpProvider)
        assert provider.traffic.requests == len(server.seen)
        assert provider.traffic.histogram["+Inf"] == len(server.seen)
        assert provider.connection is provider.connection
        provider.teardown_after_execution(None)


def spoken(provider: BarProvider, error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """Everything a person could read: of the provider, of the error and those behind it, and of the log."""
    texts: list[Any] = [provider, repr(provider), provider.model_dump(), vars(error)]
    texts += traceback.TracebackException.from_exception(error, capture_locals=False).format()
    texts += [error, repr(error), error.__context__, error.__cause__, repr(error.__context__)]
    texts += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    return "\n".join(map(str, texts))
