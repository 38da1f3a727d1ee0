"""The compose file, read and run: schedules fire, runs go through the queue, metrics move, a restart loses nothing."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
import yaml
from selenium import webdriver

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import run_counts, symbol_days
from marketpipe_assets.lake.scan import bar_counts
from marketpipe_assets_tests.composed import ROOT, Deployment, compose, deployed, eventually, sample_environment
from marketpipe_assets_tests.metrics.test_exporter import LOOPBACK, listeners
from marketpipe_assets_tests.postgres import HAS_POSTGRES, MISSING, running_server
from marketpipe_assets_tests.providers.contract import Row
from marketpipe_assets_tests.providers.test_alpaca import page_of
from marketpipe_assets_tests.providers.vendor_server import Reply, VendorServer, vendor_server
from marketpipe_assets_tests.test_ui import CHROMEDRIVER, CHROMIUM, browser, sees

FILE = compose(sample_environment())
SERVICES: dict[str, Any] = FILE["services"]
needs_browser = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver")
__all__ = ["browser"]  # a fixture of the web UI's tests, used here too
LONG_RUNNING = sorted(set(SERVICES) - {"setup"})


def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    client = ["docker", "compose"] if _has_plugin() else ["docker-compose"]
    if shutil.which(client[0]) is None:
        pytest.skip("needs the client of Docker Compose (Debian: docker-compose); no engine is asked")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")

    done = subprocess.run([*client, "config"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) >= set(SERVICES) - {"proxy"}


def _has_plugin() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned(service: str) -> None:
    assert re.search(r":v?\d+\.\d+", SERVICES[service]["image"])


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_services_start_again_and_say_whether_they_are_healthy(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert service == "proxy" or SERVICES[service]["healthcheck"]["test"]


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_ports_are_on_loopback(service: str) -> None:
    assert [port for port in SERVICES[service].get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_all_but_the_proxy_run_without_rights() -> None:
    ours = {name for name, service in SERVICES.items() if service["image"].startswith("marketpipe:")}
    others = {name: service.get("user") for name, service in SERVICES.items() if name not in ours}

    assert others == {"postgres": "postgres", "prometheus": "nobody", "grafana": "472", "proxy": None}
    assert "\nUSER marketpipe\n" in (ROOT / "Dockerfile").read_text()


def test_start_waits_for_health() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}

    assert {name: set(each) for name, each in waits.items()} == {
        "postgres": set(),
        "setup": {"postgres"},
        "code": {"setup"},
        "webserver": {"code"},
        "viewer": {"code"},
        "daemon": {"code"},
        "exporter": {"setup"},
        "prometheus": {"exporter"},
        "grafana": {"prometheus"},
        "proxy": {"webserver"},
    }
    conditions = {each["condition"] for service in waits.values() for each in service.values()}
    assert conditions == {"service_healthy", "service_completed_successfully"}


def test_only_the_code_location_gets_the_keys_of_providers() -> None:
    assert [name for name, service in SERVICES.items() if "env_file" in service] == ["code"]


def test_no_secret_is_committed() -> None:
    assert {text for name, text in sample_environment().items() if "PASSWORD" in name} == {"change-me", ""}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


DAY = date(2024, 1, 2)
CONFIGURATION = """
config_version: 1
log: {{format: json}}
providers:
  coins:
    {{type: synthetic, calendar: 24/7, asset_class: crypto, seed: 1, faults: {{ohlc_logic: 1, missing_minutes: 1}}}}
  vendor: {{type: alpaca, feed: iex, base_url: '{url}', first_wait: 0.1}}
markets:
  coins:
    calendar: 24/7
    asset_class: crypto
    provider: coins
    symbols: [BTC-USD]
    start: {start}
    timeframes: [1h, 1d]
    schedules: {{enabled: true, corrections: [1], morning: '{soon}'}}
  shares:
    calendar: XNYS
    asset_class: equity
    provider: vendor
    symbols: [ACME, BOLT]
    start: 2024-01-02
    timeframes: [5m, 1d]
"""
KEYS = {"APCA_API_KEY_ID": "canary-1", "APCA_API_SECRET_KEY": "canary-2"}


@pytest.fixture(scope="module")
def vendor() -> Iterator[VendorServer]:
    """A vendor with one day of two shares, whose first two answers are failures."""
    opened = datetime(DAY.year, DAY.month, DAY.day, 14, 30, tzinfo=UTC)
    served = [Row(opened + timedelta(minutes=n)) for n in range(390)]
    with vendor_server() as server:
        server.vendor = lambda seen: page_of({"ACME": served, "BOLT": served}, seen, 10_000)
        server.faults.extend([Reply(status=500), Reply(b"", 429, {"Retry-After": "1"})])
        yield server


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, vendor: VendorServer) -> Iterator[Deployment]:
    if not HAS_POSTGRES:
        pytest.skip(MISSING)
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus (Debian: prometheus)")

    def configuration() -> str:
        now = datetime.now(UTC)
        start, soon = f"{now - timedelta(days=3):%Y-%m-%d}", f"{now + timedelta(minutes=3):%H:%M}"
        return CONFIGURATION.format(url=vendor.url, start=start, soon=soon)

    with (
        running_server() as postgres,
        deployed(tmp_path_factory.mktemp("deployment"), configuration, postgres, **KEYS) as deployment,
    ):
        yield deployment


def ask(server: str, query: str, variables: object = None) -> dict[str, Any]:
    """What the web UI's own GraphQL answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{server}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


RUNS = "query { runsOrError { ... on Runs { results { runId jobName status tags { key value } } } } }"


def runs_of(deployment: Deployment, job: str) -> list[dict[str, Any]]:
    return [run for run in ask(deployment.url("webserver"), RUNS)["runsOrError"]["results"] if run["jobName"] == job]


LAUNCH = """
mutation($keys: [String!]!, $assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {partitionNames: $keys, assetSelection: $assets}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "coverage", "bars_5m", "bars_1d")


def launched(server: str, *keys: str) -> dict[str, Any]:
    assets = [{"path": ["shares", table]} for table in TABLES]
    answer: dict[str, Any] = ask(server, LAUNCH, {"keys": keys, "assets": assets})["launchPartitionBackfill"]
    return answer


def measured(deployment: Deployment, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query now."""
    address = f"{deployment.url('prometheus')}/api/v1/query?{urlencode({'query': query})}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def number(deployment: Deployment, query: str) -> float:
    return sum(float(each["value"][1]) for each in measured(deployment, query))


def test_a_schedule_fires_and_its_run_goes_through_the_queue(deployment: Deployment) -> None:
    def ended() -> dict[str, Any] | None:
        runs = runs_of(deployment, "coins_ingest")
        return next((run for run in runs if run["status"] in ("SUCCESS", "FAILURE")), None)

    run = eventually(ended, "the end of the scheduled run", 480)

    assert run["status"] == "SUCCESS"
    assert {"key": "dagster/schedule_name", "value": "coins_corrections"} in run["tags"]


@needs_browser
def test_the_web_ui_shows_the_scheduled_run(deployment: Deployment, browser: webdriver.Chrome) -> None:
    (run, *_) = runs_of(deployment, "coins_ingest")

    sees(browser, f"{deployment.url('webserver')}/runs/{run['runId']}", "coins__raw_bars_1m", "Success")


def test_a_viewer_cannot_start_anything(deployment: Deployment) -> None:
    answer = launched(deployment.url("viewer"), f"{DAY}|ACME")

    assert answer["__typename"] == "UnauthorizedError"


def test_a_backfill_asks_the_vendor_and_what_it_asked_is_counted(deployment: Deployment) -> None:
    assert launched(deployment.url("webserver"), f"{DAY}|ACME", f"{DAY}|BOLT")["__typename"] == "LaunchBackfillSuccess"

    held = eventually(lambda: number(deployment, 'mp_ingest_rows_total{provider="vendor"}'), "stored bars", 480)

    assert held == 780
    assert number(deployment, 'mp_errors_total{provider="vendor",code="Transient"}') == 1
    assert number(deployment, 'mp_errors_total{provider="vendor",code="RateLimited"}') == 1
    assert number(deployment, 'mp_rate_limiter_waits_total{provider="vendor",mode="retry_after"}') >= 1


def test_metrics_are_what_the_lake_holds(deployment: Deployment) -> None:
    lake = deployment.data / "lake"
    files = list((lake / "shares").rglob("*.parquet"))

    assert number(deployment, 'mp_bars{market="shares",sessions="all",table="raw_bars_1m"}') == 780
    assert eventually(lambda: number(deployment, 'mp_lake_files{market="shares"}'), "files", 180) == len(files)


def test_a_restart_of_postgres_in_the_middle_loses_nothing(deployment: Deployment) -> None:
    before = number(deployment, "mp_runs")
    assert launched(deployment.url("webserver"), f"{DAY}|ACME")["__typename"] == "LaunchBackfillSuccess"
    eventually(lambda: len(ask(deployment.url("webserver"), RUNS)["runsOrError"]["results"]) > before, "its run")

    deployment.postgres.stop()
    time.sleep(3)
    deployment.postgres.start()

    for service in ("webserver", "daemon"):
        eventually(lambda service=service: deployment.is_healthy(service), f"a healthy {service}")  # type: ignore[misc]  # mypy guesses a lambda with a default badly

    def ended() -> bool:
        runs = [run["status"] for run in ask(deployment.url("webserver"), RUNS)["runsOrError"]["results"]]
        return len(runs) > before and set(runs) <= {"SUCCESS", "FAILURE", "CANCELED"}

    eventually(ended, "the end of every run", 480)
    catalog = Catalog(deployment.postgres.url("catalogue"))
    held = catalog.frame(
        sa.select(symbol_days.c.symbol, symbol_days.c.raw_bars).where(symbol_days.c.market == "shares")
    )
    stored = bar_counts(deployment.data / "lake", "shares", "raw_bars_1m", ["ACME", "BOLT"], [DAY])
    assert sorted(held.rows()) == sorted(stored.select("symbol", "bars").rows())
    counted = catalog.frame(
        sa.select(sa.cast(sa.func.sum(run_counts.c.value), sa.BigInteger).label("value")).where(
            run_counts.c.market == "shares", run_counts.c.operation == "ingest"
        )
    )
    assert counted.item() == stored["bars"].sum()
    query = 'mp_ingest_rows_total{provider="vendor"}'
    eventually(lambda: number(deployment, query) == stored["bars"].sum(), "the same count in Prometheus")


PANELS = [
    (panel["title"], target["expr"])
    for panel in json.loads((ROOT / "grafana" / "marketpipe_dashboard.json").read_text())["panels"]
    for target in panel.get("targets", [])
]


@pytest.mark.parametrize("query", [query for _, query in PANELS], ids=lambda query: query)
def test_every_panel_of_the_dashboard_shows_something(deployment: Deployment, query: str) -> None:
    assert eventually(lambda: measured(deployment, query.replace("$market", ".*")), "an answer", 120)


def test_no_alert_fires_that_should_not(deployment: Deployment) -> None:
    with urllib.request.urlopen(f"{deployment.url('prometheus')}/api/v1/rules", timeout=30) as answer:
        (group,) = json.load(answer)["data"]["groups"]

    assert {rule["name"] for rule in group["rules"] if rule["health"] != "ok"} == set()
    assert {rule["name"] for rule in group["rules"] if rule["state"] == "firing"} <= {"RunsFailing"}


def test_services_say_json_and_no_secret(deployment: Deployment) -> None:
    for service in ("code", "daemon", "exporter", "webserver"):
        said = deployment.said(service)
        lines = [line for line in said.splitlines() if line.startswith("{")]
        assert all(json.loads(line)["event"] is not None for line in lines)
        assert lines
        assert "canary" not in said
        assert "change-me" not in said


def test_dagsters_database_holds_no_secret(deployment: Deployment) -> None:
    dump = ["pg_dump", "--host", "127.0.0.1", "--port", str(deployment.postgres.port), "--username", "marketpipe"]

    for database in ("dagster", "catalogue"):
        text = subprocess.run([*dump, database], capture_output=True, text=True, timeout=120, check=True).stdout
        assert "CREATE TABLE" in text
        assert "canary" not in text


def test_services_listen_on_loopback_only(deployment: Deployment) -> None:
    for service in ("code", "webserver", "viewer", "exporter", "prometheus"):
        assert listeners(deployment.process_id(service)) <= LOOPBACK, service


@pytest.mark.skipif(shutil.which("caddy") is None, reason="needs Caddy (Debian: caddy)")
def test_the_proxy_asks_who_one_is(deployment: Deployment, tmp_path: Path) -> None:
    port = deployment.ports["proxy"]
    digest = subprocess.run(
        ["caddy", "hash-password", "--plaintext", "open sesame"], capture_output=True, text=True, check=True
    ).stdout.strip()
    settings = {
        "PROXY_HOST": f"localhost:{port}",
        "PROXY_TLS": "internal",
        "PROXY_USER": "marketpipe",
        "PROXY_PASSWORD_HASH": digest,
        "PROXY_TARGET": deployment.url("webserver").removeprefix("http://"),
    }
    assert settings.keys() == SERVICES["proxy"]["environment"].keys()
    proxy = subprocess.Popen(
        ["caddy", "run", "--config", str(ROOT / "docker" / "Caddyfile"), "--adapter", "caddyfile"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: answered(port), "a proxy that answers", 30) == 401
        assert answered(port, "marketpipe", "wrong") == 401
        assert answered(port, "marketpipe", "open sesame") == 200
    finally:
        proxy.terminate()
        proxy.wait(30)


def answered(port: int, user: str = "", password: str = "") -> int:
    """The status the proxy answers with, over its own certificate."""
    request = urllib.request.Request(f"https://localhost:{port}/server_info")
    if user:
        request.add_header("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10, context=ssl._create_unverified_context()) as answer:
            status: int = answer.status
    except HTTPError as error:
        return error.code
    return status


PAGE = (ROOT / "docs" / "deployment.md").read_text()


def documented(section: str) -> list[str]:
    """The commands of a section of the deployment's page that go into a container."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (block, *_) = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for line in block.splitlines() if " -T " in line]


@pytest.mark.skipif(not HAS_POSTGRES, reason=MISSING)
def test_what_is_backed_up_is_restored(tmp_path: Path) -> None:
    config, day = tmp_path / "marketpipe.yaml", "2024-01-02"
    config.write_text(
        "config_version: 1\nproviders: {synthetic: {}}\nmarkets:\n  shares:\n    calendar: XNYS\n"
        "    asset_class: equity\n    provider: synthetic\n    symbols: [ACME]\n    start: 2024-01-02\n"
    )
    with running_server() as postgres:
        catalogue = postgres.create("catalogue")
        postgres.create("dagster")
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "DATABASE_URL": catalogue,
            "MARKETPIPE_CONFIG": str(config),
            "DAGSTER_HOME": str(tmp_path / "home"),
        }
        (tmp_path / "home").mkdir()

        def shell(command: str) -> str:
            """A documented command as it is in its container, with the paths of this machine."""
            bare = re.sub(r"docker compose (?:exec|run) (?:--rm --no-deps )?-T \w+ ", "", command)
            bare = bare.replace("/var/lib/marketpipe", str(tmp_path))
            done = subprocess.run(
                bare,
                shell=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{bare}\n{done.stdout}{done.stderr}"
            return done.stdout

        shell(f"marketpipe ingest --symbols ACME --start {day} --end 2024-01-04")
        before = shell("marketpipe coverage --by day --format csv"), shell("marketpipe bars ACME -f csv")
        for command in documented("Backup"):
            shell(command)
        shutil.rmtree(tmp_path / "lake")
        postgres.execute("DROP DATABASE catalogue")
        postgres.create("catalogue")
        for command in documented("Restore"):
            shell(command)

        assert (shell("marketpipe coverage --by day --format csv"), shell("marketpipe bars ACME -f csv")) == before
