"""Alerts reach a real webhook and a real mail server, and no secret is told on the way."""

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from marketpipe_assets.alerts import Alert, Messenger, Undelivered
from marketpipe_assets.upkeep import Alerts

LATE = Alert("late shares", "shares is late", "2024-01-02 is not held of 2 symbols: ACME, BOLT")


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """An address of this machine, and what was posted to it."""
    posted: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/canary", posted
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A port that speaks as much SMTP as a message needs, and the messages it took."""
    taken: list[str] = []

    class Mail(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            while line := self.rfile.readline().decode():
                if line.upper().startswith("QUIT"):
                    self._say("221 bye")
                    return
                self._say("354 go on" if line.upper().startswith("DATA") else "250 ok")
                if line.upper().startswith("DATA"):
                    taken.append("".join(iter(lambda: self.rfile.readline().decode(), ".\r\n")))
                    self._say("250 taken")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()
        server.server_close()


def channels(**settings: object) -> Messenger:
    return Messenger(Alerts.model_validate(settings))


def mail(port: int) -> dict[str, object]:
    to = ["desk@example.com", "data@example.com"]
    return {"host": "127.0.0.1", "port": port, "sender": "lake@example.com", "to": to, "security": "none"}


def test_webhook_gets_the_text_as_slack_takes_it() -> None:
    with webhook() as (address, posted):
        channels(webhook=address).send(LATE)

    assert posted == [{"text": "*shares is late*\n2024-01-02 is not held of 2 symbols: ACME, BOLT"}]


def test_everyone_on_the_list_gets_the_mail() -> None:
    with mail_server() as (port, taken):
        channels(email=mail(port)).send(LATE)

    (message,) = taken
    assert "Subject: marketpipe: shares is late" in message
    assert "To: desk@example.com, data@example.com" in message
    assert LATE.text in message


def test_one_channel_that_fails_does_not_keep_the_other_from_being_told() -> None:
    with (
        webhook(status=500) as (address, _),
        mail_server() as (port, taken),
        pytest.raises(Undelivered, match=r"^webhook: status 500$"),
    ):
        channels(webhook=address, email=mail(port)).send(LATE)

    assert len(taken) == 1


def test_address_of_the_webhook_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with webhook() as (address, _):
        pass

    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as refused:
        channels(webhook=address).send(LATE)

    assert "webhook: ConnectError" in str(refused.value)
    assert "canary" not in str(refused.value) + caplog.text


def test_nobody_is_told_where_no_channel_is_configured() -> None:
    messenger = channels()

    messenger.send(LATE)

    assert not messenger.has_channels
