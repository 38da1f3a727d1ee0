"""Tell people: by a webhook that takes Slack's JSON, and by e-mail. What is worth telling is defs/alerting.py's."""

import smtplib
import ssl
from email.message import EmailMessage
from typing import NamedTuple

from marketpipe_assets.upkeep import Alerts, Email

SECONDS = 10.0


class Alert(NamedTuple):
    """One trouble: `key` is the same for as long as it is the same trouble."""

    key: str
    title: str
    text: str


class Undelivered(Exception):
    """A channel did not take an alert; the message names it and no secret."""


class Messenger:
    """The channels of the configuration. There may be none."""

    def __init__(self, settings: Alerts, smtp_password: str | None = None) -> None:
        self.settings = settings
        self._password = smtp_password

    @property
    def has_channels(self) -> bool:
        return self.settings.webhook is not None or self.settings.email is not None

    def send(self, alert: Alert) -> None:
        """Tell every channel; raises `Undelivered` for those that failed, after all were tried."""
        failed = [failure for channel in (self._post, self._mail) if (failure := channel(alert)) is not None]
        if failed:
            raise Undelivered("; ".join(failed))

    def _post(self, alert: Alert) -> str | None:
        if self.settings.webhook is None:
            return None
        import httpx  # slow, and loaded by every code location otherwise

        said = {"text": f"*{alert.title}*\n{alert.text}"}
        within = {"timeout": httpx.Timeout(SECONDS).as_dict()}
        request = httpx.Request("POST", self.settings.webhook.get_secret_value(), json=said, extensions=within)
        try:
            with httpx.HTTPTransport() as transport:  # a client would log the address, which is a secret
                answer = transport.handle_request(request)
        except httpx.HTTPError as error:  # as its text would
            return f"webhook: {type(error).__name__}"
        return None if answer.is_success else f"webhook: status {answer.status_code}"

    def _mail(self, alert: Alert) -> str | None:
        if self.settings.email is None:
            return None
        try:
            with _connected(self.settings.email) as server:
                if self.settings.email.user is not None:
                    server.login(self.settings.email.user, self._password or "")
                server.send_message(_message(self.settings.email, alert))
        except (OSError, smtplib.SMTPException) as error:
            return f"e-mail by {self.settings.email.host}: {type(error).__name__}"
        return None


def _connected(email: Email) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if email.security == "tls":
        return smtplib.SMTP_SSL(email.host, email.port, timeout=SECONDS, context=context)
    server = smtplib.SMTP(email.host, email.port, timeout=SECONDS)
    if email.security == "starttls":
        server.starttls(context=context)
    return server


def _message(email: Email, alert: Alert) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = f"marketpipe: {' '.join(alert.title.split())}"
    message["From"] = email.sender
    message["To"] = ", ".join(email.to)
    message.set_content(alert.text)
    return message
