"""The services of docker-compose.yml as processes of this machine: their own commands, environments and health checks.

What differs from the containers: paths of volumes and ports are others, names of services are loopback, and Postgres is
the system's. Images, users and volumes are not tried here.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from marketpipe_assets_tests.postgres import Server

ROOT = Path(__file__).parents[1]
DATA = "/var/lib/marketpipe"
PATIENCE = 240  # seconds; a loaded machine starts Dagster slowly
GRACE = 10  # seconds that Compose gives a service without a stop_grace_period
Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], what: str, patience: float = PATIENCE) -> Found:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := look():
                return found
        time.sleep(1)
    raise AssertionError(f"{what} did not come within {patience:g} s")


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """docker-compose.yml with its variables in place."""

    def value(match: re.Match[str]) -> str:
        name, _, fallback = match[1].partition(":")
        return environment.get(name) or fallback.removeprefix("-")

    text = re.sub(r"\$\{([^}]+)\}", value, (ROOT / "docker-compose.yml").read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def sample_environment() -> dict[str, str]:
    """.env.example as it is."""
    lines = (line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line)
    return {name: text for name, text in lines if not name.startswith("#")}


class Deployment:
    """Services of one compose file, started by hand."""

    def __init__(self, folder: Path, configuration: str, postgres: Server) -> None:
        self.folder, self.postgres = folder, postgres
        self.services = compose(sample_environment())["services"]
        self.ports = {name: _free_port() for name in self.services}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.data = folder / "data"
        (self.data / "dagster").mkdir(parents=True)
        (self.data / "marketpipe.yaml").write_text(configuration)
        for source, target in (
            ("marketpipe_assets/dagster-postgres.yaml", "data/dagster/dagster.yaml"),
            ("docker/workspace.yaml", "data/dagster/workspace.yaml"),
            ("grafana/prometheus.yml", "prometheus.yml"),
            ("grafana/alerts.yml", "alerts.yml"),
        ):
            text = (ROOT / source).read_text().replace("host: code", "host: 127.0.0.1")
            text = text.replace("port: 4000", f"port: {self.ports['code']}")
            (folder / target).write_text(text.replace("exporter:8000", f"127.0.0.1:{self.ports['exporter']}"))

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def start(self, service: str, **more: str) -> None:
        """Start it and wait until its own health check says that it is healthy."""
        command = [self._here(service, part) for part in self._command(service)]
        with (self.folder / f"{service}.log").open("ab") as log:
            self._running[service] = subprocess.Popen(
                command, cwd=self.data, env=self._environment(service, more), stdout=log, stderr=log
            )
        eventually(lambda: self.is_healthy(service), f"a healthy {service}")

    def run(self, service: str) -> str:
        """Run it until it ends well."""
        done = subprocess.run(
            [self._here(service, part) for part in self._command(service)],
            cwd=self.data,
            env=self._environment(service, {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_healthy(self, service: str) -> bool:
        kind, *test = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        checked = [self._here(service, part) for part in test]
        environment = self._environment(service, {})
        return subprocess.run(checked, env=environment, capture_output=True, check=False).returncode == 0

    def stop(self, *services: str, patience: float = PATIENCE) -> None:
        """As Compose does: all at once, and killed when their time to stop is over. A web server waits for browsers."""
        stopping = {service: self._running.pop(service) for service in services}
        for process in stopping.values():
            process.terminate()
        for service, process in stopping.items():
            try:
                process.wait(patience if "stop_grace_period" in self.services[service] else GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)

    def process_id(self, service: str) -> int:
        return self._running[service].pid

    def stop_all(self) -> None:
        self.stop(*reversed(self._running), patience=3 * GRACE)  # no run is under way that anybody asks for

    def said(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")

    def _command(self, service: str) -> list[str]:
        command: list[str] = self.services[service]["command"]
        return ["prometheus", *command] if service == "prometheus" else command  # the image's entry point

    def _environment(self, service: str, more: Mapping[str, str]) -> dict[str, str]:
        own: Mapping[str, str] = self.services[service].get("environment", {})
        named = {name: self._here(service, text) for name, text in own.items()}
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": beside, "HOME": str(self.data), "PYTHONUNBUFFERED": "1", **named, **more}

    def _here(self, service: str, text: str) -> str:
        """A word of the compose file as it is on this machine."""
        text = text.replace("@postgres:5432", f"@127.0.0.1:{self.postgres.port}").replace(
            "0.0.0.0", "127.0.0.1"
        )  # replaced
        text = text.replace("/etc/prometheus", str(self.folder)).replace("path=/prometheus", f"path={self.folder}/tsdb")
        text = text.replace(DATA, str(self.data))
        return re.sub(rf"(?<![\d.]){_own_port(service)}\b", str(self.ports[service]), text)


def _own_port(service: str) -> int:
    """The port it listens at in its container."""
    return {"code": 4000, "exporter": 8000, "prometheus": 9090}.get(service, 3000)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def deployed(folder: Path, configuration: Callable[[], str], postgres: Server, **secrets: str) -> Iterator[Deployment]:
    """Everything but Grafana and the proxy, in an order the compose file allows.

    The configuration is asked for again just before the code location reads it: it may tell a time that is near.
    """
    for statement in (ROOT / "docker" / "databases.sql").read_text().split(";"):
        if "CREATE" in statement:
            postgres.execute(statement[statement.index("CREATE") :])
    deployment = Deployment(folder, configuration(), postgres)
    try:
        deployment.run("setup")
        (deployment.data / "marketpipe.yaml").write_text(configuration())
        deployment.start("code", **secrets)
        for service in ("daemon", "webserver", "viewer", "exporter", "prometheus"):
            deployment.start(service)
        yield deployment
    finally:
        deployment.stop_all()
