"""A Postgres of one test run's own, on loopback, as its own user where the tests run as root: it refuses to be root."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
MISSING = "needs a Postgres server (Debian: postgresql)"
HAS_POSTGRES = bool(BINARIES) or shutil.which("initdb") is not None
SERVER_USER = "postgres"
PATIENCE = 60  # seconds; a loaded machine ends processes slowly


class Server(NamedTuple):
    """A server whose files are in a folder; it trusts whoever is on this machine."""

    folder: Path
    port: int

    def url(self, database: str = "postgres", scheme: str = "postgresql+psycopg2") -> str:
        return f"{scheme}://marketpipe@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """The address of a new database."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def execute(self, statement: str) -> None:
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def initialize(self) -> None:
        self._run("initdb", "--username", "marketpipe", "--auth", "trust", "--no-sync", "--encoding", "UTF8")

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "--wait", "--log", f"{self.folder}/log", "--options", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "--wait", "--mode", "immediate", "stop")

    def kill(self) -> None:
        """Every process of the server at once, as when the machine loses them."""
        process = int((self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        os.killpg(os.getpgid(process), signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.05)

    def _run(self, command: str, *arguments: str) -> None:
        found = BINARIES[-1] / command if BINARIES else command
        as_user = ["setpriv", f"--reuid={SERVER_USER}", f"--regid={SERVER_USER}", "--clear-groups", "--"]
        prefix = as_user if os.geteuid() == 0 else []
        done = subprocess.run(
            [*prefix, str(found), "--pgdata", f"{self.folder}/data", *arguments],
            check=False,
            stdout=subprocess.PIPE if command == "initdb" else subprocess.DEVNULL,  # a server keeps pg_ctl's pipe open
            stderr=subprocess.PIPE if command == "initdb" else subprocess.DEVNULL,
            text=True,
            cwd="/",
        )
        assert done.returncode == 0, f"{command} {' '.join(arguments)}: {done.stderr}"


@contextmanager
def running_server() -> Iterator[Server]:
    """A new server, which ends with the context."""
    with TemporaryDirectory(prefix="postgres-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER)
        server = Server(Path(folder), _free_port())
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of an empty database of a new server, which ends with the context."""
    with running_server() as server:
        yield server.url(scheme="postgresql")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
