import json
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, marketpipe
from marketpipe_assets_tests.metrics.ledger import catalog_of, hold
from marketpipe_assets_tests.metrics.ledger import configured as with_a_vendor
from marketpipe_assets_tests.providers.vendor_server import Reply, vendor_server


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command exports its home; what it exports in this process ends with the test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("MARKETPIPE_CONFIG", "")


def examined(path: Path, *options: str) -> dict[str, list[tuple[str, str]]]:
    """Check → state and detail of what was found."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(marketpipe("doctor", "--json", *options, "--config", path).stdout)["checks"]:
        found.setdefault(each["check"], []).append((each["state"], each["detail"]))
    return found


def test_a_new_configuration_is_well(tmp_path: Path) -> None:
    result = marketpipe("doctor", "--config", configured(tmp_path))

    assert result.exit_code == 0
    assert "fail" not in result.stdout.split()
    assert "no daemon has ever run here" in result.stdout


def test_it_has_an_older_name(tmp_path: Path) -> None:
    assert json.loads(marketpipe("health-check", "--json", "--config", configured(tmp_path)).stdout)["ok"]


def test_it_makes_neither_lake_nor_catalogue(tmp_path: Path) -> None:
    marketpipe("doctor", "--config", configured(tmp_path))

    assert not (tmp_path / "lake").exists()
    assert not (tmp_path / "catalog.sqlite").exists()


def test_a_filled_lake_is_read_with_its_checksums(filled: Path) -> None:
    found = examined(filled)

    assert ("ok", f"{filled.parent / 'lake'} can be written") in found["lake"]
    assert any("read with their checksums" in detail for state, detail in found["lake"] if state == "ok")
    assert "symbol-days" in found["catalogue"][0][1]


def test_a_flipped_bit_fails_it_and_names_the_file(own: Path) -> None:
    lake = own.parent / "lake"
    for path in lake.rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)

    result = marketpipe("doctor", "--config", own)

    assert result.exit_code == 1
    assert "symbol=AAPL" in result.stdout
    assert "findings of" in result.stderr


def test_what_a_killed_write_left_is_told(own: Path) -> None:
    (own.parent / "lake" / ".writing").mkdir(exist_ok=True)
    (own.parent / "lake" / ".writing" / "shares+bars_1m+symbol=AAPL+2024-01.parquet.writing").write_bytes(b"half")

    assert ("warn", "1 file begun and not finished: `marketpipe lake verify --sweep`") in examined(own)["lake"]


def with_finnhub_and(folder: Path, provider: str) -> Path:
    text = f"config_version: 1\nproviders:\n  {provider}: {{}}\n  finnhub: {{}}\nmarkets:\n  shares:\n"
    text += f"    {{calendar: XNYS, asset_class: equity, provider: {provider}, symbols: [ACME], start: 2024-01-02}}\n"
    return configured(folder, text)


def test_a_secret_that_is_missing_is_named_and_one_that_is_given_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINNHUB_API_KEY", "canary-7f")

    result = marketpipe("doctor", "--json", "--config", with_finnhub_and(tmp_path, "tiingo"))

    assert result.exit_code == 1
    assert "tiingo: expected TIINGO_API_KEY in the environment, was not set" in result.stdout
    assert "finnhub: FINNHUB_API_KEY" in result.stdout
    assert "canary" not in result.stdout


def test_one_secret_of_a_pair_is_not_both_and_either_name_of_one_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "canary-7f")
    monkeypatch.setenv("MP_FINNHUB_API_KEY", "canary-7f")

    result = marketpipe("doctor", "--json", "--config", with_finnhub_and(tmp_path, "alpaca"))

    assert "alpaca: expected APCA_API_SECRET_KEY or ALPACA_SECRET in the environment, was not set" in result.stdout
    assert "finnhub: MP_FINNHUB_API_KEY" in result.stdout


@pytest.mark.parametrize(("status", "state", "exit_code"), [(200, "ok", 0), (401, "fail", 1)])
def test_providers_are_asked_where_it_is_told_to(tmp_path: Path, status: int, state: str, exit_code: int) -> None:
    with vendor_server() as server:
        server.always = Reply(b'{"serverTime": 0}', status)
        text = "config_version: 1\nproviders:\n"
        text += f"  binance: {{base_url: '{server.url}', quota_file: '{tmp_path}/quota'}}\n"
        text += "markets:\n  coins:\n    {calendar: 24/7, asset_class: crypto, provider: binance, "
        text += "symbols: [BTC/USDT], start: 2024-01-02}\n"
        path = configured(tmp_path, text)

        result = marketpipe("doctor", "--ask", "--json", "--config", path)

    assert [each["state"] for each in json.loads(result.stdout)["checks"] if each["check"] == "providers"] == [state]
    assert result.exit_code == exit_code


def test_an_older_catalogue_will_be_migrated_and_is_left_alone(tmp_path: Path) -> None:
    config = with_a_vendor(tmp_path)
    sqlite3.connect(config.catalog).execute("create table other (a)").connection.close()

    (found,) = examined(tmp_path / "marketpipe.yaml")["catalogue"]

    assert found[0] == "warn"
    assert "is at migration None" in found[1]
    assert catalog_of(config).revision() is None


def test_bars_of_the_future_show_a_clock_that_was_set_back(tmp_path: Path) -> None:
    config = with_a_vendor(tmp_path)
    hold(catalog_of(config), "ACME", date(2024, 1, 5), fetched_at=datetime(2199, 1, 1, tzinfo=UTC))

    (found,) = examined(tmp_path / "marketpipe.yaml")["clock"]

    assert found[0] == "fail"
    assert "expected a clock past 2199-01-01" in found[1]


def test_a_configuration_that_cannot_be_read_is_exit_code_2(tmp_path: Path) -> None:
    assert marketpipe("doctor", "--config", configured(tmp_path, "lake: 1\n")).exit_code == 2


def test_a_lake_that_cannot_be_used_fails_one_check_and_the_others_are_made(tmp_path: Path) -> None:
    path = configured(tmp_path)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / ".writing").write_text("in the way")

    found = examined(path)

    assert found["lake"][0][0] == "fail"
    assert found["versions"][0][0] == "ok"


def test_the_report_is_written_where_it_is_told_to(tmp_path: Path) -> None:
    report = tmp_path / "report.json"

    marketpipe("doctor", "--output", report, "--config", configured(tmp_path))

    assert json.loads(report.read_text())["ok"]


def test_a_catalogue_that_cannot_be_read_fails_once(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_text("this is no database, but a text of some length")

    found = examined(configured(tmp_path))

    assert [check for check, told in found.items() if any(state == "fail" for state, _ in told)] == ["catalogue"]
    assert found["clock"][0][0] == "warn"


def test_a_catalogue_that_cannot_be_made_fails_it(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    path = configured(tmp_path, CONFIGURATION + "catalog: ./afile/catalog.sqlite\n")

    assert examined(path)["catalogue"] == [
        (
            "fail",
            f"{tmp_path}/afile/catalog.sqlite is not there yet, and {tmp_path}/afile is no folder that can be written",
        )
    ]
