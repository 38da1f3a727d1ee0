"""Settings of what runs by itself: what they mean, and what is refused."""

from datetime import date, time, timedelta
from pathlib import Path

import pytest

from marketpipe_assets.upkeep import age
from marketpipe_assets_tests.test_config import MARKET, TOP, config_of, market_with, refusal


@pytest.mark.parametrize(
    ("text", "days"), [("30", 30), ("30d", 30), ("2m", 60), ("2y", 730), ("0", 0), ("forever", None)]
)
def test_age_is_days_months_of_thirty_or_years_of_365(text: str, days: int | None) -> None:
    assert age(text) == (None if days is None else timedelta(days=days))


def test_age_of_minutes_counts_for_every_minute_table_unless_one_has_its_own(tmp_path: Path) -> None:
    market = config_of(tmp_path, market_with("retention: {1m: 10d, quarantined_bars_1m: 20, 1d: forever}")).markets[
        "shares"
    ]

    tables = ("raw_bars_1m", "bars_1m", "superseded_bars_1m", "quarantined_bars_1m", "bars_1d", "bars_5m")
    kept = {table: market.kept_from(table, date(2024, 3, 31)) for table in tables}

    assert kept == {
        "raw_bars_1m": date(2024, 3, 21),
        "bars_1m": date(2024, 3, 21),
        "superseded_bars_1m": date(2024, 3, 21),
        "quarantined_bars_1m": date(2024, 3, 11),
        "bars_1d": None,
        "bars_5m": None,
    }


def test_nothing_is_pruned_scheduled_or_told_until_somebody_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path, TOP + MARKET)
    market = config.markets["shares"]

    assert (market.retention, market.hold, market.schedules.enabled) == ({}, (), False)
    assert (config.alerts.webhook, config.alerts.email) == (None, None)
    assert (market.schedules.corrections, market.schedules.morning) == ((1, 5), time(6))


def test_hold_is_of_some_symbols_or_all(tmp_path: Path) -> None:
    line = "hold: [{reason: case 7, symbols: AAPL, end: 2024-02-01}, {reason: audit, start: 2024-03-01}]"
    case, audit = config_of(tmp_path, market_with(line)).markets["shares"].hold

    assert (case.covers("AAPL"), case.covers("MSFT"), case.end) == (True, False, date(2024, 2, 1))
    assert (audit.covers("MSFT"), audit.start) == (True, date(2024, 3, 1))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retention: {1m: 2w}", "expected an age such as 2y, 18m, 30d, 30 (days) or forever, was '2w'"),
        ("retention: {4h: 2y}", "expected an age for 1m, 5m, 15m, 1h, 1d, raw_bars_1m"),
        ("hold: [{symbols: AAPL}]", "expected a value, was missing"),
        ("retention: {1m: 2100y}", "markets.shares.retention.1m: expected an age of at most 1000y, was '2100y'"),
        (
            "hold: [{reason: x, start: 2024-03-31, end: 2024-03-01}]",
            "markets.shares.hold.0: expected an end after 2024-03-31, was 2024-03-01",
        ),
        ("hold: [{reason: x, until: 2024-01-02}]", "unknown key; expected one of reason, symbols, start, end"),
        ("schedules: {morning: 6}", "expected a local time such as 09:30, was '6'"),
        ("schedules: {enable: true}", "unknown key (did you mean enabled?)"),
    ],
)
def test_what_is_wrong_with_a_market_is_told_with_what_was_expected(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(tmp_path, market_with(line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alerts: {webhook: http://example.com/x}", "expected an https:// address"),
        ("alerts: {email: {host: mail, to: nobody, sender: a@b.c}}", "expected an e-mail address"),
        ("alerts: {email: {host: mail, to: [], sender: a@b.c}}", "expected at least one"),
        (
            "alerts: {email: {host: mail, to: a@b.c, sender: a@b.c, user: me, security: none}}",
            "a password is not sent in the open",
        ),
        ("alerts: {sms: 1}", "unknown key; expected one of webhook, email, repeat_hours"),
    ],
)
def test_what_is_wrong_with_alerts_is_told_with_what_was_expected(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(tmp_path, f"{TOP}{MARKET}{line}\n")


def test_webhook_of_a_variable_is_not_shown_with_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.com/T0/canary")

    config = config_of(tmp_path, f"{TOP}{MARKET}alerts: {{webhook: $HOOK}}\n")

    assert config.alerts.webhook is not None
    assert config.alerts.webhook.get_secret_value() == "https://hooks.example.com/T0/canary"
    assert "canary" not in f"{config!r} {config.model_dump_json()}"
