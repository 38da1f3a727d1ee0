"""A vendor on this machine: a real HTTP server that answers in a vendor's shape, counts, and fails as it is told."""

import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Seen(NamedTuple):
    """A request as it came; `params` are those of the query and of a posted form, names of `headers` lower case."""

    at: float
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class Reply(NamedTuple):
    """What is sent. `cut`: only so many bytes of the body, then the end. `drip`: seconds between bytes."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None
    drip: float = 0.0
    reset: bool = False


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """`value` as JSON. Underscores in names of headers stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


RESET = Reply(reset=True)
"""The connection is reset in place of an answer."""

Vendor = Callable[[Seen], Reply]


class VendorServer:
    """`vendor` answers every request that `faults` leaves: the first fault is for the first request, and so on."""

    def __init__(self, address: str) -> None:
        self.url = address
        self.vendor: Vendor = lambda _: Reply(status=404)
        self.faults: deque[Reply | Vendor] = deque()
        self.always: Reply | Vendor | None = None
        self._seen: list[Seen] = []
        self._lock = Lock()

    @property
    def seen(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return list(self._seen)

    def reply_to(self, seen: Seen) -> Reply:
        with self._lock:
            self._seen.append(seen)
            chosen = self.faults.popleft() if self.faults else self.always or self.vendor
        return chosen if isinstance(chosen, Reply) else chosen(seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vendor = VendorServer(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        params = dict(parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True))
        self._send(self.server.vendor.reply_to(Seen(time.time(), self.command, parts.path, params, headers)))

    do_POST = do_GET  # noqa: N815  # http.server's name

    def _send(self, reply: Reply) -> None:
        if reply.reset:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        sent = reply.body if reply.cut is None else reply.body[: reply.cut]
        self.close_connection = self.close_connection or reply.cut is not None
        for piece in _pieces(sent, reply.drip):
            self.wfile.write(piece)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Requests are in `VendorServer.seen`."""


def _pieces(body: bytes, drip: float) -> Iterator[bytes]:
    if not drip:
        yield body
        return
    for byte in body:
        yield bytes([byte])
        time.sleep(drip)


@contextmanager
def vendor_server() -> Iterator[VendorServer]:
    """A server on loopback for as long as the context lasts."""
    with _Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.vendor
        finally:
            server.shutdown()
            thread.join()
