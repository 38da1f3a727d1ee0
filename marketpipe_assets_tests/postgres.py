"""A Postgres of one test run's own, on loopback, as its own user where the tests run as root: it refuses to be root."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
MISSING = "needs a Postgres server (Debian: postgresql)"
HAS_POSTGRES = bool(BINARIES) or shutil.which("initdb") is not None
SERVER_USER = "postgres"


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of an empty database of a new server, which ends with the context."""
    with TemporaryDirectory(prefix="postgres-") as folder:
        data, port = Path(folder, "data"), _free_port()
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER)
        _run("initdb", "--pgdata", f"{data}", "--username", "marketpipe", "--auth", "trust", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        _run("pg_ctl", "--pgdata", f"{data}", "--wait", "--log", f"{folder}/log", "--options", options, "start")
        try:
            yield f"postgresql://marketpipe@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "--pgdata", f"{data}", "--wait", "--mode", "immediate", "stop")


def _run(command: str, *arguments: str) -> None:
    found = BINARIES[-1] / command if BINARIES else command
    as_user = ["setpriv", f"--reuid={SERVER_USER}", f"--regid={SERVER_USER}", "--clear-groups", "--"]
    prefix = as_user if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, str(found), *arguments],
        check=False,
        stdout=subprocess.PIPE if command == "initdb" else subprocess.DEVNULL,  # a server keeps pg_ctl's pipe open
        stderr=subprocess.PIPE if command == "initdb" else subprocess.DEVNULL,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, f"{command} {' '.join(arguments)}: {done.stderr}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
