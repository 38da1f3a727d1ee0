"""Addresses, waits, downloads and secrets of the HTTP layer, through a vendor of no particular kind."""

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import msgspec
import polars as pl
import pytest
from pydantic import PrivateAttr

from marketpipe_assets.providers.alpaca import AlpacaProvider
from marketpipe_assets.providers.base import (
    AuthFailed,
    BadRequest,
    Capabilities,
    Malformed,
    NotEntitled,
    NotFound,
    OutOfTime,
    ProviderError,
    Rate,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.http import (
    Answer,
    HttpProvider,
    Request,
    by_status,
    closed_before,
    link_path,
    told_wait,
)
from marketpipe_assets.providers.redaction import redactor
from marketpipe_assets_tests.providers.contract import SECRET
from marketpipe_assets_tests.providers.vendor_server import (
    RESET,
    Reply,
    Seen,
    VendorServer,
    as_json,
)


class PlainProvider(HttpProvider):
    """A vendor whose quota error has status 200, which two of its hosts answer, and whose key is a bearer token."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        rates=(Rate(1000, 1),), concurrency=3, secrets=(("PLAIN_KEY", "OLD_PLAIN_KEY"),)
    )
    hosts: ClassVar[tuple[str, ...]] = ("api.plain.example", "files.plain.example")
    rest: float = 0.0
    _rates: tuple[Rate, ...] = PrivateAttr(default=(Rate(1000, 1),))

    @property
    def rates(self) -> tuple[Rate, ...]:
        return self._rates

    def headers(self) -> dict[str, str]:
        (key,) = self.secrets()
        return {"Authorization": f"Bearer {key}"}

    def failure(self, answer: Answer) -> ProviderError | None:
        return RateLimited(answer.text) if b"too many" in answer.body else by_status(answer)

    def vendor_wait(self, answer: Answer) -> float | None:  # HttpProvider's signature
        return self.rest or None

    def ping(self) -> None:
        self.body(Request("/"))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        raise NotImplementedError


class Page(msgspec.Struct):
    results: list[int]


def plain(
    server: VendorServer, folder: Path, rates: tuple[Rate, ...] = (Rate(1000, 1),), **settings: Any
) -> PlainProvider:
    quick = {"first_wait": 0.01, "longest_wait": 0.05, "deadline_seconds": 3, "attempts": 4}
    provider = PlainProvider(
        name="plain", base_url=server.url, quota_file=str(folder / "quota.sqlite"), **{**quick, **settings}
    )
    provider.give_secrets({"OLD_PLAIN_KEY": SECRET})
    provider._rates = rates
    return provider


NOW = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)
DATE = format_datetime(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=9), usegmt=True)}, 9),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=9), usegmt=True)}, 0),
        ({"retry-after": "7", "x-ratelimit-reset": f"{NOW.timestamp() + 40:.0f}"}, 7),
        ({"x-ratelimit-reset": f"{NOW.timestamp() + 40:.0f}"}, 41),
        ({"x-ratelimit-reset": f"{NOW.timestamp() - 40:.0f}"}, 1),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
)
def test_the_servers_own_wait_is_read_by_the_servers_clock(headers: dict[str, str], seconds: float | None) -> None:
    assert told_wait({"date": DATE, **headers}, 1.0) == seconds


def test_a_reset_of_the_quota_means_nothing_for_a_server_that_is_down() -> None:
    assert told_wait({"date": DATE, "x-ratelimit-reset": f"{NOW.timestamp() + 40:.0f}"}, None) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Malformed),
        (400, BadRequest),
        (401, AuthFailed),
        (402, NotEntitled),
        (403, NotEntitled),
        (404, NotFound),
        (408, Transient),
        (410, BadRequest),
        (418, RateLimited),
        (422, BadRequest),
        (429, RateLimited),
        (451, NotEntitled),
        (499, Transient),
        (500, Transient),
        (504, Transient),
        (522, Transient),
    ],
)
def test_a_status_has_its_failure(status: int, expected: type[ProviderError]) -> None:
    assert type(by_status(Answer(status, {}, b"no"))) is expected


@pytest.mark.parametrize("status", [200, 204, 206])
def test_a_good_status_is_no_failure(status: int) -> None:
    assert by_status(Answer(status, {}, b"")) is None


@pytest.mark.parametrize(
    "address",
    [
        "http://data.alpaca.markets",
        "https://alpaca.markets.example",
        "https://data.alpaca.markets@evil.example",
        "https://user:word@data.alpaca.markets",
        "http://169.254.169.254",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.evil.example",
        "file:///etc/passwd",
        "127.0.0.1:8080",
        "https://data.alpaca.markets?x=1",
    ],
)
def test_an_address_that_is_neither_the_vendors_nor_this_machine_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"base_url: expected https:// and a host of data\.alpaca\.markets"):
        AlpacaProvider(base_url=address)


@pytest.mark.parametrize(
    "address", ["https://data.alpaca.markets", "http://127.0.0.1:1/", "http://[::1]:1", "http://localhost:1/proxy"]
)
def test_the_vendors_address_and_this_machine_are_taken(address: str) -> None:
    assert AlpacaProvider(base_url=address).base_url == address


@pytest.mark.parametrize("request_", [Request("//evil.example/x"), Request("x"), Request("/x", host="evil.example")])
def test_a_request_cannot_leave_the_vendors_hosts(server: VendorServer, tmp_path: Path, request_: Request) -> None:
    with pytest.raises(BadRequest):
        plain(server, tmp_path).body(request_)

    assert server.seen == []


def test_only_path_and_query_of_a_link_are_followed(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: as_json({"results": [int(seen.params["cursor"])]})

    path = link_path("https://api.elsewhere.example/v2/aggs?cursor=12")

    assert path == "/v2/aggs?cursor=12"
    assert plain(server, tmp_path).fetch(Request(path), Page).results == [12]


def test_a_form_is_posted_and_the_key_goes_with_it(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda seen: as_json({"results": [int(seen.params["limit"])]})

    page = plain(server, tmp_path).fetch(Request("/range", form={"limit": 3}), Page)

    assert page.results == [3]
    assert (server.seen[0].method, server.seen[0].headers["authorization"]) == ("POST", f"Bearer {SECRET}")


def test_a_key_that_is_missing_is_told_with_every_name_it_may_have(server: VendorServer, tmp_path: Path) -> None:
    provider = plain(server, tmp_path)
    provider.give_secrets({})

    with pytest.raises(AuthFailed, match="plain: expected PLAIN_KEY or OLD_PLAIN_KEY in the environment, was not set"):
        provider.body(Request("/"))


def test_a_limit_told_with_status_200_pauses_every_request(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json({"results": []})
    server.faults.append(as_json({"error": ["too many requests"]}))
    provider = plain(server, tmp_path, rest=0.4)

    provider.fetch(Request("/first"), Page)
    provider.in_parallel(lambda number: provider.fetch(Request(f"/{number}"), Page), range(6))

    limited, *later = sorted(seen.at for seen in server.seen)
    assert min(later) >= limited + 0.4
    assert len(later) == 7
    assert provider.traffic.errors == {"RateLimited": 1}


def test_other_threads_and_processes_wait_while_the_quota_rests(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: as_json({"results": []})
    server.faults.append(Reply(status=429, headers={"Retry-After": "1"}))
    one, other = (plain(server, tmp_path, attempts=1 + number) for number in range(2))

    with pytest.raises(RateLimited):
        one.body(Request("/"))
    before = time.time()
    other.body(Request("/"))

    assert time.time() - before > 0.9
    assert len(server.seen) == 2


def test_what_is_asked_again_is_logged_with_its_reason(
    server: VendorServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.faults.append(Reply(status=500))
    server.always = Reply(b"{}")

    plain(server, tmp_path).body(Request("/bars"))

    (record,) = [each for each in caplog.records if each.name == "marketpipe.http"]
    assert re.search(r"asked again in \d+\.\d s: .*status 500", record.getMessage())
    assert capfd.readouterr().out == ""


def test_a_request_that_is_refused_is_not_asked_again(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(b"unknown ticker", 404)

    with pytest.raises(NotFound, match="plain: /v2/ACME: status 404: unknown ticker"):
        plain(server, tmp_path).body(Request("/v2/ACME"))

    assert len(server.seen) == 1


def test_no_attempt_begins_after_the_deadline(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(status=500)
    provider = plain(server, tmp_path, deadline_seconds=0.5, first_wait=0.2, longest_wait=0.2, attempts=1000)

    begun = time.time()
    with pytest.raises(Transient) as raised:
        provider.body(Request("/"))

    assert time.time() - begun < 2
    assert max(seen.at for seen in server.seen) < begun + 1
    assert raised.value.retry_at is not None


def test_a_place_in_the_quota_is_waited_for_past_the_deadline_of_a_request(
    server: VendorServer, tmp_path: Path
) -> None:
    server.vendor = lambda _: Reply(b"{}")
    server.faults.extend([Reply(b"{}"), Reply(status=500)])
    provider = plain(server, tmp_path, deadline_seconds=0.2, rates=(Rate(1, 0.6),))

    for number in range(2):
        provider.body(Request(f"/{number}"))

    first, failed, again = (seen.at for seen in server.seen)
    assert failed - first > 0.5
    assert again - failed > 0.5
    assert provider.traffic.waits == {"async": 2}
    assert provider.traffic.waited > 1


def test_a_run_past_its_deadline_asks_no_more_and_says_when_another_may(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: Reply(b"{}")
    provider = plain(server, tmp_path, run_deadline_seconds=0.3)

    provider.body(Request("/first"))
    time.sleep(0.3)
    with pytest.raises(OutOfTime, match=r"plain: expected all answers within run_deadline_seconds of 0\.3 s") as raised:
        provider.body(Request("/second"))

    assert raised.value.retry_at is not None
    assert abs((raised.value.retry_at - datetime.now(UTC)).total_seconds()) < 1
    assert [seen.path for seen in server.seen] == ["/first"]
    assert provider.traffic.errors == {"OutOfTime": 1}


def test_a_run_that_would_wait_past_its_deadline_says_when_the_quota_has_a_place(
    server: VendorServer, tmp_path: Path
) -> None:
    server.vendor = lambda _: Reply(b"{}")
    provider = plain(server, tmp_path, run_deadline_seconds=5, rates=(Rate(1, 60),))

    provider.body(Request("/first"))
    with pytest.raises(OutOfTime, match="the next is at") as raised:
        provider.body(Request("/second"))

    assert raised.value.retry_at is not None
    assert 55 < (raised.value.retry_at - datetime.now(UTC)).total_seconds() < 61


@pytest.mark.parametrize("fault", [Reply(status=500), Reply(status=429, headers={"Retry-After": "60"})])
def test_a_failure_that_would_pass_after_the_run_is_over_is_told_with_its_reason(
    server: VendorServer, tmp_path: Path, fault: Reply
) -> None:
    server.always = fault
    provider = plain(server, tmp_path, run_deadline_seconds=0.4, first_wait=5, longest_wait=5, attempts=1000)

    with pytest.raises(OutOfTime, match=f"status {fault.status}") as raised:
        provider.body(Request("/"))

    assert raised.value.retry_at is not None
    assert raised.value.retry_at > datetime.now(UTC)


def test_a_long_run_has_no_deadline_unless_it_is_given_one(server: VendorServer, tmp_path: Path) -> None:
    assert plain(server, tmp_path).run_end == inf


def test_the_next_run_of_a_provider_has_its_own_deadline(server: VendorServer, tmp_path: Path) -> None:
    provider = plain(server, tmp_path, run_deadline_seconds=5)
    first = provider.run_end

    provider.teardown_after_execution(None)
    time.sleep(0.01)

    assert provider.run_end > first


def test_requests_that_are_left_are_those_of_every_process(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: Reply(b"{}")
    one, other = (plain(server, tmp_path, rates=(Rate(5, 60), Rate(100, 1))) for _ in range(2))

    one.body(Request("/", weight=2))

    assert other.remaining_requests() == 3
    other.connection.pause(time.time() + 60)
    assert one.remaining_requests() == 0


def test_without_a_rate_or_a_key_no_number_of_requests_is_left(server: VendorServer, tmp_path: Path) -> None:
    keyless = plain(server, tmp_path)
    keyless.give_secrets({})

    assert keyless.remaining_requests() is None
    assert plain(server, tmp_path, rates=()).remaining_requests() is None


def test_traffic_counts_answers_errors_waits_and_bytes(server: VendorServer, tmp_path: Path) -> None:
    def slow(_: Seen) -> Reply:
        time.sleep(0.15)
        return Reply(b"x" * 1000)

    server.vendor = slow
    server.faults.append(Reply(status=429, headers={"Retry-After": "0.1"}))
    provider = plain(server, tmp_path)

    provider.body(Request("/"))

    traffic = provider.traffic
    assert (traffic.requests, traffic.errors, traffic.waits) == (2, {"RateLimited": 1}, {"retry_after": 1})
    assert (traffic.histogram["0.1"], traffic.histogram["5"], traffic.histogram["+Inf"]) == (1, 2, 2)
    assert 0.15 < traffic.latency_sum < 5
    assert traffic.bytes >= 1000


def test_the_first_failure_ends_work_that_has_not_begun(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(status=401)
    provider = plain(server, tmp_path, concurrency=1)

    with pytest.raises(AuthFailed):
        provider.in_parallel(lambda number: provider.body(Request(f"/{number}")), range(50))

    assert len(server.seen) < 10


def test_a_download_is_a_file_of_the_size_told(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: Reply(b"x" * 300_000)

    with plain(server, tmp_path).downloaded(Request("/file.zip", host="files.plain.example")) as file:
        assert file.stat().st_size == 300_000

    assert not file.exists()


@pytest.mark.parametrize("fault", [Reply(b"x" * 300_000, cut=70_000), RESET, Reply(b"down", 503)])
def test_a_download_that_breaks_off_begins_again(server: VendorServer, tmp_path: Path, fault: Reply) -> None:
    server.vendor = lambda _: Reply(b"y" * 300_000)
    server.faults.append(fault)

    with plain(server, tmp_path).downloaded(Request("/file.zip")) as file:
        assert file.read_bytes() == b"y" * 300_000


def test_a_download_that_always_breaks_off_leaves_no_file(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(b"x" * 300_000, cut=70_000)

    with pytest.raises(Transient), plain(server, tmp_path).downloaded(Request("/file.zip")):
        pytest.fail("there is no whole file")


def test_a_file_that_is_not_there_is_not_found(server: VendorServer, tmp_path: Path) -> None:
    server.always = Reply(b"<Error>NoSuchKey</Error>", 404)

    with pytest.raises(NotFound), plain(server, tmp_path).downloaded(Request("/file.zip")):
        pytest.fail("there is no file")


def test_a_provider_that_was_closed_opens_again(server: VendorServer, tmp_path: Path) -> None:
    server.vendor = lambda _: Reply(b"{}")
    provider = plain(server, tmp_path)

    provider.body(Request("/"))
    provider.teardown_after_execution(None)
    provider.teardown_after_execution(None)
    provider.body(Request("/"))

    assert provider.traffic.requests == 2


def test_a_minute_that_is_not_over_is_not_asked_for() -> None:
    now = datetime.now(UTC)

    assert closed_before(NOW) == NOW
    assert now - timedelta(seconds=60) < closed_before(now + timedelta(hours=1)) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://api.plain.example/x?apiKey=5f1c9d7e&limit=3",
        "token=5f1c9d7e",
        "the key 5f1c9d7e is unknown",
        "Authorization: Basic NWYxYzlkN2U6",
        "https://x/?k=a%2Fb%2Bc%3D",
    ],
)
def test_a_secret_is_taken_out_of_text_in_every_form(text: str) -> None:
    redacted = redactor(["5f1c9d7e", "a/b+c="])(text)

    assert "***" in redacted
    assert not any(form in redacted for form in ("5f1c9d7e", "NWYxYzlkN2U6", "a%2Fb%2Bc%3D"))


def test_no_secrets_leave_text_as_it_is() -> None:
    assert redactor([])("expected bars of ACME") == "expected bars of ACME"


def test_a_key_in_an_address_is_not_logged(
    server: VendorServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.vendor = lambda _: Reply(b"{}")

    with caplog.at_level(logging.DEBUG):
        plain(server, tmp_path).body(Request("/x", {"apiKey": SECRET}))

    assert "/x?apiKey=***" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [401, 429, 503])
def test_nothing_a_failing_run_keeps_holds_the_key(
    server: VendorServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    def echoing(seen: Seen) -> Reply:
        return Reply(f"refused {seen.headers['authorization']}".encode(), status)

    server.always = echoing

    @dg.asset(required_resource_keys={"plain"})
    def bars(context: dg.AssetExecutionContext) -> None:
        context.resources.plain.body(Request("/bars", {"symbol": "ACME"}))

    with dg.DagsterInstance.ephemeral() as instance, caplog.at_level(logging.DEBUG):
        provider = plain(server, tmp_path, attempts=2)
        run = dg.materialize([bars], resources={"plain": provider}, instance=instance, raise_on_error=False)
        events = [f"{entry} {vars(entry)}" for entry in instance.all_logs(run.run_id)]
        kept = "\n".join([*events, *map(str, run.all_events), str(run.dagster_run.run_config), caplog.text])

    assert not run.success
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    assert f"plain: /bars: status {status}: refused Bearer ***" in kept
    assert SECRET not in kept
