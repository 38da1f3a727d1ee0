"""The quota holds over every window, for all processes of the machine, as the vendor counts."""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread
from typing import ClassVar

import polars as pl
import pytest

from marketpipe_assets.providers.base import Capabilities, ProviderError, Rate, RateLimited
from marketpipe_assets.providers.http import HttpProvider, Request
from marketpipe_assets.providers.quota import Bucket
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, vendor_server

RATES = (Rate(8, 0.5), Rate(3, 0.1))


class CountedProvider(HttpProvider):
    """A vendor that allows eight requests in half a second, and three in a tenth."""

    capabilities: ClassVar[Capabilities] = Capabilities(rates=RATES, concurrency=4)
    hosts: ClassVar[tuple[str, ...]] = ("vendor.example",)

    def ping(self) -> None:
        self.body(Request("/"))

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        self.in_parallel(lambda symbol: self.body(Request(f"/{symbol}")), symbols)
        return pl.DataFrame()


ASK = """
import sys
from datetime import datetime
from marketpipe_assets_tests.providers.test_quota import CountedProvider
provider = CountedProvider(name="counted", base_url=sys.argv[1], quota_file=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
provider.minute_bars([str(number) for number in range(12)], datetime.min, datetime.max)
"""


def most_in_a_window(times: Sequence[float], seconds: float) -> int:
    ordered = sorted(times)
    return max(sum(first <= each < first + seconds for each in ordered) for first in ordered)


def test_two_processes_at_once_never_exceed_the_rate_over_any_window(tmp_path: Path) -> None:
    heard: list[float] = []
    lock = Lock()

    def delayed(_: Seen) -> Reply:
        """The vendor hears requests after delays that differ, as they do on the way."""
        time.sleep(random.uniform(0, 0.08))
        with lock:
            heard.append(time.time())
        time.sleep(random.uniform(0, 0.03))
        return Reply(b"{}")

    with vendor_server() as server:
        server.vendor = delayed
        command = [sys.executable, "-c", ASK, server.url, str(tmp_path / "quota.sqlite")]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.communicate("go\n", timeout=30)

    assert [process.returncode for process in processes] == [0, 0]
    assert len(heard) == 24
    for rate in RATES:
        assert most_in_a_window(heard, rate.seconds) <= rate.requests
    assert max(heard) - min(heard) < 8


def test_a_pause_holds_for_every_process(tmp_path: Path) -> None:
    one, other = (Bucket(tmp_path / "quota.sqlite", "vendor", [Rate(100, 1)]) for _ in range(2))
    until = time.time() + 0.3

    one.pause(until)
    with other.request(1, time.time() + 5):
        assert time.time() >= until


def test_a_shorter_pause_does_not_end_a_longer_one(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path / "quota.sqlite", "vendor", [])
    until = time.time() + 0.2

    bucket.pause(until)
    bucket.pause(until - 0.15)
    with bucket.request(1, time.time() + 5):
        assert time.time() >= until


def test_a_place_after_the_deadline_is_refused_with_its_time(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path / "quota.sqlite", "vendor", [Rate(1, 60)])

    with bucket.request(1, time.time() + 5, time.time() + 5):
        pass
    with pytest.raises(RateLimited) as raised, bucket.request(1, time.time() + 5, time.time() + 5):
        pass

    assert raised.value.retry_at is not None
    assert 55 < (raised.value.retry_at - datetime.now(UTC)).total_seconds() < 61


def test_a_request_counts_by_its_weight(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path / "quota.sqlite", "vendor", [Rate(10, 60)])

    with bucket.request(6, time.time() + 1), bucket.request(4, time.time() + 1):
        pass

    assert bucket.remaining() == 0
    with pytest.raises(RateLimited), bucket.request(1, time.time() + 1, time.time() + 1):
        pass


def test_a_request_that_is_open_counts_until_it_is_answered(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path / "quota.sqlite", "vendor", [Rate(1, 0.1)])
    granted = []

    def second() -> None:
        with bucket.request(1, time.time() + 5):
            granted.append(time.time())

    with bucket.request(1, time.time() + 5):
        waiting = Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        answered = time.time()
    waiting.join()

    assert granted[0] >= answered + 0.1


def test_vendors_and_keys_do_not_share_a_quota(tmp_path: Path) -> None:
    one, other = (Bucket(tmp_path / "quota.sqlite", name, [Rate(1, 60)]) for name in ("one", "other"))

    with one.request(1, time.time() + 1), other.request(1, time.time() + 1):
        pass


def test_a_file_that_cannot_be_written_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "quota").write_text("no folder")

    with pytest.raises(ProviderError, match="expected quota_file to be a file that can be written"):
        Bucket(tmp_path / "quota" / "quota.sqlite", "vendor", [])
