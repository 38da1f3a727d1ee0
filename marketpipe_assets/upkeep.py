"""Settings of what runs by itself: schedules, how long bars are kept, and who is told of trouble."""

import re
from collections.abc import Mapping
from datetime import date, time, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

FOREVER = "forever"
DAYS_OF_UNIT: Mapping[str, int] = {"": 1, "d": 1, "m": 30, "y": 365}
LONGEST_AGE = timedelta(days=1000 * DAYS_OF_UNIT["y"])
"""Taken from today this is still a date; a little more than twice as much is none."""

MINUTE_LABEL = "1m"
MINUTES_KEPT = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "superseded_bars_1m", "second_bars_1m")
"""Tables whose age `1m` sets; each but bars_1m may have one of its own."""


def age(text: str) -> timedelta | None:
    """`2y`, `18m`, `30d` or `30` as a span of days: a month is 30 and a year 365; None for `forever`.

    Raises `ValueError` for anything else, and above 1000 years.
    """
    if text == FOREVER:
        return None
    match = re.fullmatch(r"(\d{1,5})([dmy]?)", text, re.ASCII)
    if match is None:
        raise ValueError("expected an age such as 2y, 18m, 30d, 30 (days) or forever")
    span = timedelta(days=int(match[1]) * DAYS_OF_UNIT[match[2]])
    if span > LONGEST_AGE:
        raise ValueError("expected an age of at most 1000y")
    return span


def check_order(start: date | None, end: date | None) -> None:
    """Raise `ValueError` unless the end of a half-open span, where both are given, comes after its start."""
    if start is not None and end is not None and end <= start:
        raise ValueError(f"expected an end after {start.isoformat()}, was {end.isoformat()}")


def _age(value: object) -> object:
    return age(value) if isinstance(value, str) else value


def _clock(value: object) -> object:
    if isinstance(value, str):
        if re.fullmatch(r"\d{2}:\d{2}", value) is None:
            raise ValueError("expected a local time such as 09:30")
        return time.fromisoformat(value)
    return value


def _day(value: object) -> object:
    if isinstance(value, str):
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is None:
            raise ValueError("expected a date such as 2024-01-02")
        return date.fromisoformat(value)
    return value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Age = Annotated[timedelta | None, BeforeValidator(_age)]
Clock = Annotated[time, BeforeValidator(_clock)]
Day = Annotated[date, BeforeValidator(_day)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hold(_Settings):
    """Bars that retention leaves alone whatever their age: `symbols` (all where none is named) in `[start, end)`."""

    reason: Annotated[str, Field(min_length=1)]
    symbols: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    start: Day | None = None
    end: Day | None = None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> "Hold":
        check_order(self.start, self.end)
        return self

    def covers(self, symbol: str) -> bool:
        return not self.symbols or symbol in self.symbols


class Schedules(_Settings):
    """When a market's runs start, in the exchange's time zone. They are off until `enabled` or switched on in the UI.

    `heal` switches on the sensor that asks for what the ledger lacks.
    `after_close` is minutes after a session is published, `corrections` how many sessions later one is read again, at
    `morning`, and `late_after` minutes after which a session that is not held is told of.
    """

    enabled: bool = False
    heal: bool = False
    after_close: Annotated[int, Field(ge=0, le=720)] = 15
    corrections: tuple[Annotated[int, Field(ge=1, le=60)], ...] = (1, 5)
    morning: Clock = time(6, 0)
    late_after: Annotated[int, Field(ge=1)] = 240

    @field_validator("corrections")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))


class Email(_Settings):
    """A mail server and who is told. The password comes from `$MARKETPIPE_SMTP_PASSWORD`."""

    host: str
    to: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    sender: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    user: str | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"

    @field_validator("to", "sender")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for each in (value,) if isinstance(value, str) else value:
            if re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", each) is None:
                raise ValueError("expected an e-mail address")
        return value

    @model_validator(mode="after")
    def _no_password_in_the_open(self) -> "Email":
        if self.user is not None and self.security == "none" and self.host not in ("localhost", "127.0.0.1"):
            raise ValueError("expected starttls or tls with a user: a password is not sent in the open")
        return self


class Alerts(_Settings):
    """Who is told of failed runs and late sessions. `webhook` takes Slack's JSON; the same trouble is told once in
    `repeat_hours`."""

    webhook: SecretStr | None = None
    email: Email | None = None
    repeat_hours: Annotated[int, Field(ge=1)] = 24

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if (
            value is not None
            and re.fullmatch(r"https://\S+|http://(127\.0\.0\.1|localhost)[:/]\S*", _shown(value)) is None
        ):
            raise ValueError("expected an https:// address (http:// only of this machine), best as a $VARIABLE")
        return value


def _shown(secret: SecretStr) -> str:
    return secret.get_secret_value()


def kept_for(retention: Mapping[str, timedelta | None], table: str) -> timedelta | None:
    """How long a table's bars are kept; None: for ever. A table's own age comes before its timeframe's."""
    label = MINUTE_LABEL if table in MINUTES_KEPT else table.removeprefix("bars_")
    return retention.get(table, retention.get(label))
