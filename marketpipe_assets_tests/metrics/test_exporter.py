"""A scrape is answered from memory; what cannot be read keeps its last figures and says so."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Config
from marketpipe_assets.metrics.exporter import Exporter, Source
from marketpipe_assets.metrics.names import METRICS, Sample, one
from marketpipe_assets_tests.cli.command import configured as configured_markets
from marketpipe_assets_tests.metrics.ledger import ask, catalog_of, commit, configured, spend


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


@pytest.fixture
def catalog(config: Config) -> Catalog:
    return catalog_of(config)


@pytest.fixture
def exporter(config: Config, catalog: Catalog) -> Iterator[Exporter]:
    with dg.DagsterInstance.ephemeral() as instance:
        exporter = Exporter(config, catalog, instance, every=0, rest=0)
        exporter.refresh()
        yield exporter


def scraped(exporter: Exporter) -> dict[str, dict[tuple[str, ...], float]]:
    registry = CollectorRegistry()
    registry.register(exporter)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    found: dict[str, dict[tuple[str, ...], float]] = {}  # values of labels by the labels' names
    for sample in (each for family in families for each in family.samples):
        found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def test_a_scrape_has_only_metrics_of_the_table(exporter: Exporter, catalog: Catalog) -> None:
    commit(catalog, "a", "ingest", ("given", "iex", "rows", 400))
    spend(catalog, "a", "ingest", 2.0)
    ask(catalog, "a")
    exporter.refresh()

    found = scraped(exporter)

    bare = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in found}
    assert bare <= METRICS.keys()
    assert found["mp_ingest_rows_total"]["iex", "given"] == 400
    assert found["mp_processing_time_seconds_sum"]["ingest", "given"] == 2.0
    assert found["mp_request_latency_seconds_bucket"]["iex", "+Inf", "given", "alpaca"] == 3


def test_a_scrape_reads_nothing(exporter: Exporter, catalog: Catalog) -> None:
    asked: list[str] = []
    sa.event.listen(catalog.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))

    scraped(exporter)

    assert asked == []


def test_a_source_that_is_down_keeps_its_last_figures_and_is_counted(exporter: Exporter, catalog: Catalog) -> None:
    before = scraped(exporter)
    with catalog.begin() as connection:
        connection.execute(sa.text("ALTER TABLE symbol_days RENAME TO gone"))
    exporter.refresh()

    after = scraped(exporter)

    assert after["mp_sessions_behind"] == before["mp_sessions_behind"]
    assert after["mp_exporter_failures_total"]["ledger",] == 1
    assert after["mp_exporter_failures_total"]["runs",] == 0
    assert after["mp_exporter_read_timestamp_seconds"]["ledger",] == pytest.approx(
        before["mp_exporter_read_timestamp_seconds"]["ledger",]
    )


def test_a_source_is_read_once_within_its_time() -> None:
    read: list[Sample] = []

    def samples() -> list[Sample]:
        read.append(one("mp_backlog_jobs", value=1))
        return read

    source = Source("queue", samples, every=60)
    source.refresh()
    source.refresh()

    assert len(read) == 1


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


@pytest.fixture
def served(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The command itself, over an empty lake."""
    configured_markets(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", "from marketpipe_assets.cli.app import app; app()", "metrics", "--port", str(port)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same to a socket of IPv6, and ::1."""


def listeners(pid: int) -> set[str]:
    """Addresses at which a process listens, as Linux tells them: hexadecimal, the bytes of IPv4 reversed."""
    sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_the_command_serves_metrics_on_loopback_only(served: subprocess.Popen[str], port: int) -> None:
    assert served.stderr is not None
    said = served.stderr.readline()

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()

    assert f"metrics at http://127.0.0.1:{port}/metrics" in said
    assert 'mp_sessions_behind{market="shares"}' in text
    assert listeners(served.pid) == {"0100007F"}
