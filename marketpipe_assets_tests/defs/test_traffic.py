"""What a run asks its provider is in the catalogue afterwards, however the run ended."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import requests
from marketpipe_assets_tests.defs.location import MARKET, Location, failures_of
from marketpipe_assets_tests.providers.contract import Row
from marketpipe_assets_tests.providers.test_finnhub import candles_of
from marketpipe_assets_tests.providers.vendor_server import Reply, VendorServer

OPEN = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


@pytest.fixture
def location(server: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("FINNHUB_API_KEY", "canary")
    served = {symbol: [Row(OPEN + timedelta(minutes=n)) for n in range(3)] for symbol in ("ACME", "BOLT")}
    server.vendor = lambda seen: candles_of(served, seen)
    settings = f"base_url: '{server.url}', quota_file: {tmp_path}/quota.sqlite, first_wait: 0.01, longest_wait: 0.02"
    return Location(tmp_path, provider=f"{{type: finnhub, {settings}, attempts: 2}}")


def told(location: Location) -> pl.DataFrame:
    return Catalog(location.config.catalog_url).frame(sa.select(requests))


def test_a_run_tells_what_it_asked_and_was_answered(location: Location, server: VendorServer) -> None:
    server.faults.append(Reply(b"down", 503))

    result = location.run("2024-01-02|ACME...2024-01-02|BOLT")

    assert result.success
    (row,) = told(location).to_dicts()
    assert (row["run_id"], row["market"], row["provider"], row["feed"]) == (result.run_id, MARKET, "given", "stock")
    assert row["requests"] == len(server.seen) == 3
    assert json.loads(row["errors"]) == {"Transient": 1}
    assert json.loads(row["latency"])["+Inf"] == 3
    assert row["bytes"] > 100


def test_a_run_that_fails_tells_it_too(location: Location, server: VendorServer) -> None:
    server.always = Reply(b'{"error":"Invalid API key"}', 401)

    result = location.run("2024-01-02|ACME")

    assert not result.success
    assert failures_of(result)[0].startswith("AuthFailed")
    assert told(location).select("requests", "errors").rows() == [(1, '{"AuthFailed":1}')]


def test_a_step_that_is_tried_again_counts_every_request_once(location: Location, server: VendorServer) -> None:
    server.faults.extend([Reply(b"down", 503)] * 2)

    result = location.run("2024-01-02|ACME")

    assert result.success
    assert told(location).select("requests", "errors").rows() == [(len(server.seen), '{"Transient":2}')]
    assert len(server.seen) == 3


def test_each_run_is_a_row_of_its_own(location: Location, server: VendorServer) -> None:
    for _ in range(2):
        location.run("2024-01-02|ACME")

    assert told(location)["requests"].to_list() == [1, 1]
    assert len(server.seen) == 2
