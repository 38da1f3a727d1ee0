import socket
import time
from pathlib import Path

from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, marketpipe


def test_check_prints_one_line_per_market(tmp_path: Path) -> None:
    result = marketpipe("config", "check", configured(tmp_path))

    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()[1:]] == ["shares", "coins"]
    assert "3 symbols of shares, XNYS since 2024-01-02" in result.stdout


def test_check_of_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    result = marketpipe("config", "check", tmp_path / "nowhere.yaml")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_every_problem_of_a_configuration_is_an_error_line(tmp_path: Path) -> None:
    path = configured(
        tmp_path, CONFIGURATION.replace("calendar: XNYS\n", "calendar: XNYZ\n").replace("24/7\n", "24/8\n")
    )

    result = marketpipe("config", "check", path)

    assert result.exit_code == 2
    assert [line[:7] for line in result.stderr.splitlines()] == ["error: ", "error: "]


def test_check_makes_every_provider(tmp_path: Path) -> None:
    path = configured(tmp_path, CONFIGURATION.replace("seed: 3}", "sead: 3}"))

    result = marketpipe("config", "check", path)

    assert result.exit_code == 2
    assert f"error: {path}:5: provider coins: sead" in result.stderr


def test_check_names_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    mine = "  mine: {type: files, format: lean, security: equity, market: usa, root: in}\n"
    path = configured(tmp_path, CONFIGURATION.replace("providers:\n", f"providers:\n{mine}"))

    result = marketpipe("config", "check", path)

    assert result.exit_code == 0
    assert result.stderr == f"note: mine: there is no folder {tmp_path / 'in'} yet\n"


def test_check_fails_where_a_waiver_has_expired_and_names_its_line(tmp_path: Path) -> None:
    path = configured(tmp_path)
    entry = "\n- {symbol: AAPL, first: 2024-01-02, rule: bad_tick, reason: so, author: ana, expires: 2024-02-01}\n"
    (tmp_path / "waivers.yml").write_text(entry)

    result = marketpipe("config", "check", path)

    assert result.exit_code == 2
    assert (
        f"error: {tmp_path / 'waivers.yml'}:2: expected a waiver that stands, was one that expired on" in result.stderr
    )


def test_a_newer_version_is_a_note(tmp_path: Path) -> None:
    result = marketpipe("config", "check", configured(tmp_path, CONFIGURATION.replace("version: 1", "version: 2")))

    assert result.exit_code == 0
    assert result.stderr.startswith("note: ")


def test_providers_say_what_they_can_do_and_which_blocks_use_them(tmp_path: Path) -> None:
    result = marketpipe("providers", "--config", configured(tmp_path))

    (synthetic,) = (line for line in result.stdout.splitlines() if line.startswith("synthetic"))
    assert result.exit_code == 0
    assert "any date" in synthetic
    assert "shares, coins" in synthetic


def test_providers_are_listed_where_the_configuration_is_wrong(tmp_path: Path) -> None:
    result = marketpipe("providers", "--config", configured(tmp_path, "config_version: 1\nlakes: x\n"))

    assert result.exit_code == 2
    assert "synthetic" in result.stdout
    assert "error: " in result.stderr


def test_provider_without_its_key_fails_the_connection_test(tmp_path: Path) -> None:
    text = CONFIGURATION.replace("coins:", "vendor: {type: massive}\n  coins:", 1)

    result = marketpipe("providers", "--test", "--config", configured(tmp_path, text))

    assert result.exit_code == 1
    assert "shares: on this machine, nothing to ask" in result.stdout
    assert "error: AuthFailed: vendor: expected " in result.stderr


def test_provider_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    shared = f"attempts: 1000, deadline_seconds: 3600, quota_file: {tmp_path}/quota.sqlite"
    block = f"  coins: {{type: kraken, base_url: 'http://127.0.0.1:{port}', {shared}}}"
    lines = [block if line.startswith("  coins: {") else line for line in CONFIGURATION.splitlines()]
    began = time.monotonic()

    result = marketpipe("providers", "--test", "--config", configured(tmp_path, "\n".join(lines)))

    assert result.exit_code == 1
    assert "shares: on this machine, nothing to ask" in result.stdout
    assert "Transient: coins: /0/public/Time: ConnectError" in result.stderr
    assert time.monotonic() - began < 30


def test_page_of_the_documentation_is_the_matrix_of_the_code() -> None:
    result = marketpipe("providers", "--markdown")

    assert result.stdout.strip() in (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
