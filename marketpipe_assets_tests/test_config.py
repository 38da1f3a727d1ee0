import hashlib
import json
import warnings
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from marketpipe_assets.bars.reasons import Listing
from marketpipe_assets.bars.rules import Severity
from marketpipe_assets.bars.tie_out import TOLERANCES
from marketpipe_assets.config import (
    CONFIG_VERSION,
    Config,
    ConfigError,
    Reconcile,
    RuleSetting,
    dagster_home,
    environment,
    export_dagster_home,
    load_config,
    secrets_of_environment,
)
from marketpipe_assets.marked_yaml import read_marked
from marketpipe_assets.providers.synthetic import SyntheticProvider

SHAPES = {1: "95e0c9070828737e"}
"""`config_version` → fingerprint of the keys and values it allows."""

TOP = """\
config_version: 1
providers:
  synthetic:
"""
MARKET = """\
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: synthetic
    symbols: [AAPL]
    start: 2024-01-02
"""


def config_of(folder: Path, text: str) -> Config:
    file = folder / "marketpipe.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def refusal(folder: Path, text: str) -> str:
    """The message of the error, with the file's folder cut off."""
    with pytest.raises(ConfigError) as caught:
        config_of(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def market_with(line: str) -> str:
    return f"{TOP}{MARKET}    {line}\n"


def market_where(key: str, value: str) -> str:
    lines = [f"    {key}: {value}" if line.startswith(f"    {key}:") else line for line in MARKET.splitlines()]
    return TOP + "\n".join(lines) + "\n"


def test_market_needs_five_keys_and_has_defaults_for_the_rest(tmp_path: Path) -> None:
    market = config_of(tmp_path, TOP + MARKET).markets["shares"]

    assert (market.name, market.calendar, market.asset_class) == ("shares", "XNYS", "equity")
    assert (market.provider, market.symbols, market.start) == ("synthetic", ("AAPL",), date(2024, 1, 2))
    assert market.timeframes == ("5m", "15m", "1h", "1d")
    assert (market.session, market.anchor, market.extended_hours) == ("regular", "clock", None)
    assert (market.partition.symbols, market.partition.dates) == (1, "day")
    assert (market.max_quarantined_share, market.min_coverage) == (0.05, 0.95)
    assert market.max_symbol_days_per_run == 5000


def test_settings_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    market = config_of(tmp_path, TOP + MARKET).markets["shares"]

    with pytest.raises(ValidationError, match="frozen"):
        market.session = "extended"


def test_symbols_that_yaml_reads_as_booleans_or_numbers_stay_text(tmp_path: Path) -> None:
    market = config_of(tmp_path, market_where("symbols", "[ON, NO, 0700, NA, 1e3]")).markets["shares"]

    assert market.symbols == ("0700", "1e3", "NA", "NO", "ON")


def test_unquoted_times_and_dates_are_read_as_written(tmp_path: Path) -> None:
    market = config_of(tmp_path, market_with("extended_hours: [04:00, 20:00]")).markets["shares"]

    assert market.extended_hours == (time(4), time(20))
    assert market.start == date(2024, 1, 2)


def test_timeframes_come_shortest_first(tmp_path: Path) -> None:
    market = config_of(tmp_path, market_with("timeframes: [1d, 45m, 5m]")).markets["shares"]

    assert market.timeframes == ("5m", "45m", "1d")


@pytest.mark.parametrize("key", ["max-quarantined-share", "max_quarantined_share"])
def test_keys_may_be_written_in_kebab_case(tmp_path: Path, key: str) -> None:
    assert config_of(tmp_path, market_with(f"{key}: 0.2")).markets["shares"].max_quarantined_share == 0.2


def test_keys_inside_a_providers_option_are_data_and_stay_as_written(tmp_path: Path) -> None:
    text = "config-version: 1\nproviders:\n  synthetic: {time-zone: UTC, columns: {Trade-Price: close}}\n" + MARKET

    options = config_of(tmp_path, text).providers["synthetic"].options

    assert options == {"time_zone": "UTC", "columns": {"Trade-Price": "close"}}


def test_provider_type_is_the_blocks_name_unless_it_says_another(tmp_path: Path) -> None:
    text = TOP + "  lean: {type: files, format: lean, root: /data/lean}\n" + MARKET

    providers = config_of(tmp_path, text).providers

    assert {name: (block.type, block.options) for name, block in providers.items()} == {
        "synthetic": ("synthetic", {}),
        "lean": ("files", {"format": "lean", "root": "/data/lean"}),
    }


def test_a_day_is_compared_within_the_usual_tolerances_where_a_market_states_none(tmp_path: Path) -> None:
    line = "tie-out: {provider: synthetic, tolerances: {high: 0.5}}"

    tie_out = config_of(tmp_path, market_with(line)).markets["shares"].tie_out

    assert tie_out is not None
    assert tie_out.limits == {**TOLERANCES, "high": 0.5}


def test_a_symbol_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, TOP + MARKET.replace("[AAPL", "[AAPL, AAPL"))

    assert "symbols: expected each symbol once, was AAPL several times" in message


def test_tie_out_needs_days_of_the_market(tmp_path: Path) -> None:
    message = refusal(tmp_path, market_with("timeframes: [5m]\n    tie_out: {provider: synthetic}"))

    assert message.startswith("marketpipe.yaml:12: markets.shares.tie_out: expected 1d among the market's timeframes")


@pytest.mark.parametrize("written", ["other", "{provider: other}"])
def test_second_provider_may_be_named_alone(tmp_path: Path, written: str) -> None:
    text = TOP + "  other: {type: synthetic}\n" + MARKET + f"    reconcile: {written}\n"

    assert config_of(tmp_path, text).markets["shares"].reconcile == Reconcile(provider="other")


def test_rules_of_a_market_change_severity_and_limit(tmp_path: Path) -> None:
    market = config_of(tmp_path, market_with("rules: {price-jump: {severity: INFO, limit: 0.3}}")).markets["shares"]

    assert market.rules == {"price_jump": RuleSetting(severity="INFO", limit=0.3)}
    assert market.rule_set.rules["price_jump"].severity == Severity.INFO
    assert market.rule_set.limits["price_jump"] == 0.3


def test_what_a_market_knows_of_holes_is_evidence(tmp_path: Path) -> None:
    halt = "[{start: 2024-01-03T10:00-05:00, end: 2024-01-03T11:00-05:00, symbols: [AAPL]}]"
    lines = f"listings: {{AAPL: {{first: 2024-01-03}}}}\n    publication_delay: 6\n    halts: {halt}"

    evidence = config_of(tmp_path, market_with(lines)).markets["shares"].evidence

    assert evidence.listings == {"AAPL": Listing(first=date(2024, 1, 3))}
    assert evidence.halts[-1].start == datetime(2024, 1, 3, 15, tzinfo=UTC)
    assert evidence.publication_delay == timedelta(hours=6)


def test_catalogue_is_a_file_beside_the_configuration(tmp_path: Path) -> None:
    assert config_of(tmp_path, TOP + MARKET).catalog_url == f"sqlite:///{tmp_path}/catalog.sqlite"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_catalogue_is_the_postgres_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user@host/bars")

    assert config_of(tmp_path, TOP + MARKET).catalog_url == "postgresql+psycopg2://user@host/bars"


@pytest.mark.parametrize(
    "value", ["", "~", "''", "'~'", '"~"', "null", "|\n      lines\n      of it", "{}", "[]", "'2024'"]
)
def test_values_are_the_same_where_yaml_is_read_without_libyaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(f"top:\n  - key: {value}\n    other: text  # *no alias\n", encoding="utf-8")

    quickly = read_marked(path, {}, lambda key, _: key)
    monkeypatch.setattr("marketpipe_assets.marked_yaml.LOADER", yaml.SafeLoader)

    assert read_marked(path, {}, lambda key, _: key) == quickly


@pytest.mark.parametrize(("alias", "calendar"), [("NYSE", "XNYS"), ("NASDAQ", "XNAS")])
def test_the_halts_of_an_exchange_are_known_by_each_of_its_names(tmp_path: Path, alias: str, calendar: str) -> None:
    by_alias, by_code = (
        config_of(tmp_path, TOP + MARKET.replace("XNYS", name)).markets["shares"].evidence.halts
        for name in (alias, calendar)
    )

    assert by_alias == by_code != ()


def test_a_hold_of_a_symbol_the_market_does_not_have_is_told(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"expected a symbol of shares .did you mean AAPL.., was 'APPL': it holds what"
    ):
        config_of(tmp_path, market_with("hold: [{symbols: [APPL], reason: kept}]"))


def test_a_character_that_yaml_does_not_allow_is_refused(tmp_path: Path) -> None:
    assert "expected YAML: " in refusal(tmp_path, TOP + MARKET + "# \x07\n")


def test_a_vendors_symbol_may_be_called_like_a_secret(tmp_path: Path) -> None:
    text = TOP + "  mine: {type: csv, root: in, symbols: {KEY: key}}\n" + MARKET

    assert config_of(tmp_path, text).providers["mine"].options["symbols"] == {"KEY": "key"}


def test_lake_is_relative_to_the_file(tmp_path: Path) -> None:
    assert config_of(tmp_path, TOP + "lake: bars/here\n" + MARKET.lstrip()).lake == tmp_path / "bars/here"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("calender: XNYS", "marketpipe.yaml:11: markets.shares.calender: unknown key (did you mean calendar?)"),
        ("name: other", "marketpipe.yaml:11: markets.shares.name: unknown key"),
        ("partition: {symbol: 1}", "markets.shares.partition.symbol: unknown key (did you mean symbols?)"),
        ("rules: {price_jump: {limt: 1}}", "markets.shares.rules.price_jump.limt: unknown key (did you mean limit?)"),
        ("rules: {price_jmp: {limit: 1}}", "expected a rule of "),
        ("rules: {price_jump: {severity: LOUD}}", "severity: expected 'ERROR', 'WARN' or 'INFO', was 'LOUD'"),
        ("rules: {ohlc_logic: {limit: 1}}", "markets.shares.rules: expected a rule with a limit"),
        ("rules: {duplicate_ts: {severity: INFO}}", "expected severity ERROR for duplicate_ts"),
        ("partition: {symbols: 0}", "markets.shares.partition.symbols: expected greater than or equal to 1, was '0'"),
        ("partition: {dates: week}", "markets.shares.partition.dates: expected 'day' or 'month', was 'week'"),
        ("timeframes: [7m]", "markets.shares.timeframes.0: expected a timeframe of 3m, 5m"),
        ("timeframes: [1H]", "(1m is always there), was '1H'"),
        ("timeframes: [1m]", "(1m is always there), was '1m'"),
        ("timeframes: [1M]", "1M is computed on reading, from 1d, was '1M'"),
        ("timeframes: [1w]", "1w is computed on reading, from 1d, was '1w'"),
        ("timeframes: 5m", "markets.shares.timeframes: expected a list, was '5m'"),
        ("session: night", "expected 'regular' or 'extended', was 'night'"),
        ("anchor: open", "expected 'clock' or 'session', was 'open'"),
        ("halts: [{start: 2024-01-03T10:00, end: x}]", "expected an instant with its zone such as 2024-01-02T09:30"),
        ("halts: [{begin: 2024-01-03T10:00Z}]", "markets.shares.halts.0.begin: unknown key; expected one of start"),
        ("halts: [{start: 2024-01-03T10:00Z, end: 2024-01-03T09:00Z}]", "expected an end after 2024-01-03T10:00"),
        (
            "halts: [{start: 2024-01-03T10:00Z, end: 2024-01-03T11:00Z, symbols: [APPL]}]",
            "markets.shares.halts.0.symbols.0: expected a symbol of shares (did you mean AAPL?), was 'APPL'",
        ),
        ("listings: {AAPL: {frist: 2024-01-03}}", "listings.AAPL.frist: unknown key (did you mean first?)"),
        (
            "listings: {AAPL: {first: 2024-02-01, end: 2024-01-05}}",
            "marketpipe.yaml:11: markets.shares.listings.AAPL: expected an end after 2024-02-01, was 2024-01-05",
        ),
        ("listings: {APPL: {first: 2024-01-03}}", "expected a symbol of shares (did you mean AAPL?), was 'APPL'"),
        ("extended_hours: [4, 20:00]", "expected a local time such as 09:30, was '4'"),
        ("extended_hours: [20:00, 04:00]", "expected two times with the earlier one first, was 'a list'"),
        (
            "extended_hours: [10:00, 15:00]",
            "extended_hours: expected hours that begin before most sessions or end after them, was 10:00 to 15:00",
        ),
        ("extended_hours: [04:00]", "markets.shares.extended_hours.1: expected a value, was missing"),
        ("extended_hours: [04:00, 09:30, 20:00]", "extended_hours: expected fewer items"),
        ("max_quarantined_share: 5", "expected less than or equal to 1, was '5'"),
        ("min_coverage: nan", "marketpipe.yaml:11: markets.shares.min_coverage: expected "),
        ("tie_out: {provider: synthetic, tolerance: {open: 1}}", "markets.shares.tie_out.tolerance: unknown key"),
        ("tie_out: {provider: synthetic, tolerances: {vwap: 1}}", "expected a field of open, high, low, close, volume"),
        ("tie_out: {provider: synthetic, tolerances: {open: -1}}", "expected greater than or equal to 0, was '-1'"),
        ("tie_out: {provider: other}", "markets.shares.tie_out.provider: expected a provider of this file, synthetic"),
        ("tie_out: synthetic", "markets.shares.tie_out: expected a mapping, was 'synthetic'"),
        ("reconcile: other", "markets.shares.reconcile: expected a provider of this file, synthetic, was 'other'"),
        ("reconcile: {provider: other}", "markets.shares.reconcile.provider: expected a provider of this file"),
        ("reconcile: synthetic", "expected another provider than those the market's bars come from, was 'synthetic'"),
        ("reconcile: {provider: other, share: 1}", "markets.shares.reconcile.share: unknown key"),
        ("max_symbol_days_per_run: many", "expected a valid integer"),
        ("max_symbol_days_per_run:", "was empty"),
        ("owners: [desk]", "expected an e-mail address or team:name, was 'desk'"),
    ],
)
def test_what_a_market_may_not_say_is_refused_with_line_expected_and_was(
    tmp_path: Path, line: str, message: str
) -> None:
    assert message in refusal(tmp_path, market_with(line))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("calendar", "XNYZ", "marketpipe.yaml:6: markets.shares.calendar: expected a calendar such as XNYS"),
        ("asset_class", "equities", "expected an asset class of equity, "),
        ("provider", "synthetik", "expected a provider of this file, synthetic (did you mean synthetic?)"),
        ("symbols", "[../x]", "symbols.0: expected a symbol of "),
        ("symbols", "[A|B]", "symbols.0: expected a symbol of "),
        ("symbols", "[]", "symbols: expected at least one, was none"),
        ("symbols", "AAPL", "symbols: expected a list, was 'AAPL'"),
        ("start", "2024-02-30", "start: "),
        ("start", "20240102", "expected a date such as 2024-01-02, was '20240102'"),
        ("start", "2999-01-01", "expected a date that is not in the future, was '2999-01-01'"),
    ],
)
def test_a_wrong_value_is_refused_at_its_line(tmp_path: Path, key: str, value: str, message: str) -> None:
    assert message in refusal(tmp_path, market_where(key, value))


@pytest.mark.parametrize(
    "name", ["Shares", "us-2x!", "1st", "main", "memory", "temp", "pg_catalog", "information_schema", "class"]
)
def test_market_names_that_dagster_or_sql_cannot_use_are_refused(tmp_path: Path, name: str) -> None:
    assert "marketpipe.yaml:5: markets." in refusal(tmp_path, TOP + MARKET.replace("shares", name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "marketpipe.yaml:1: config_version: expected the whole number 1, was missing"),
        ("- 1\n", "config_version: expected the whole number 1, was missing"),
        ("config_version: one\n", "config_version: expected the whole number 1, was 'one'"),
        ("config_version: 1\n", "providers: expected a mapping"),
        (TOP, "markets: expected a mapping"),
        (TOP + MARKET + "market: {}\n", "marketpipe.yaml:11: market: unknown key (did you mean markets?)"),
        (TOP + MARKET + "path: x\n", "marketpipe.yaml:11: path: unknown key"),
        (TOP + MARKET + "lake: s3://bars\n", "marketpipe.yaml:11: lake: expected a folder; s3:// "),
        (TOP + MARKET + "lake: x\nlake: y\n", "lake: expected each key once, was on lines 11 and 12"),
        (TOP + MARKET + "lake: [\n", "marketpipe.yaml:12: expected YAML: "),
        (TOP + MARKET + "lake: !!python/name:os.system x\n", "marketpipe.yaml:11: lake: expected no tag, was "),
        (TOP + MARKET + "? [a]\n: x\n", "expected keys of text, was a list on line 11"),
        ("config_version: &v 1\nlake: *v\n", "marketpipe.yaml:2: expected YAML: aliases (*name) are refused"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_name_that_is_refused_is_told_once_and_as_it_is_written(tmp_path: Path) -> None:
    said = refusal(tmp_path, TOP + MARKET.replace("shares", "US-Stocks"))

    assert said == (
        "marketpipe.yaml:5: markets.US-Stocks: expected a name of lower-case letters, digits and _ that begins with a "
        "letter, was 'US-Stocks'"
    )


def test_a_list_whose_only_item_is_refused_is_not_told_as_empty_besides(tmp_path: Path) -> None:
    said = refusal(tmp_path, market_where("symbols", "[../x]"))

    assert said.startswith("marketpipe.yaml:9: markets.shares.symbols.0: expected a symbol of 1 to 32 ")
    assert "\n" not in said


def test_the_symbol_of_a_listing_may_have_a_dash(tmp_path: Path) -> None:
    text = market_where("symbols", "[brk-b]") + "    listings: {brk-b: {first: 2024-02-01}}\n"

    assert list(config_of(tmp_path, text).markets["shares"].listings) == ["brk-b"]


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        (
            "[04:00, 18:00]",
            "extended_hours: expected hours that end before the next session begins, was 04:00 to 18:00",
        ),
        ("[04:00, 16:00]", "extended_hours: expected hours that begin before most sessions or end after them, was "),
    ],
)
def test_extended_hours_of_an_overnight_calendar_lie_between_its_sessions(
    tmp_path: Path, hours: str, message: str
) -> None:
    text = TOP + MARKET.replace("XNYS", "CMES").replace("equity", "future") + f"    extended_hours: {hours}\n"

    assert message in refusal(tmp_path, text)


def test_extended_hours_need_a_calendar_that_goes_back_to_the_start(tmp_path: Path) -> None:
    text = market_where("start", "1910-01-03").replace("XNYS", "XKRX") + "    extended_hours: [04:00, 20:00]\n"

    assert "markets.shares.start: expected sessions of XKRX from " in refusal(tmp_path, text)


def test_keys_that_differ_only_in_dashes_are_the_same_key(tmp_path: Path) -> None:
    text = market_with("min-coverage: 0.9") + "    min_coverage: 0.8\n"

    assert "min_coverage: expected each key once, was on lines 11 and 12" in refusal(tmp_path, text)


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = market_where("calendar", "XNYZ").replace("2024-01-02", "soon")

    assert [line.split(": ")[0] for line in refusal(tmp_path, text).splitlines()] == [
        "marketpipe.yaml:6",
        "marketpipe.yaml:10",
    ]


def test_version_below_the_oldest_supported_says_how_to_upgrade(tmp_path: Path) -> None:
    message = refusal(tmp_path, (TOP + MARKET).replace("config_version: 1", "config_version: 0"))

    assert message.startswith("marketpipe.yaml:1: config_version: expected 1 or later, was 0: to upgrade, ")


def test_newer_version_is_a_warning_and_is_compared_as_a_number(tmp_path: Path) -> None:
    text = (TOP + MARKET).replace("config_version: 1", "config_version: 10")

    with pytest.warns(UserWarning, match="expected 1 or earlier, was 10"):
        config = config_of(tmp_path, text)

    assert config.config_version == 10


def test_unknown_keys_of_a_newer_version_are_still_refused(tmp_path: Path) -> None:
    text = (TOP + MARKET + "novelty: 1\n").replace("config_version: 1", "config_version: 2")

    with pytest.warns(UserWarning, match="was 2"):
        assert "novelty: unknown key" in refusal(tmp_path, text)


def test_models_do_not_change_without_a_new_config_version() -> None:
    shape = json.dumps(shape_of(Config.model_json_schema()), sort_keys=True)

    assert hashlib.sha256(shape.encode()).hexdigest()[:16] == SHAPES[CONFIG_VERSION]


def shape_of(schema: object) -> object:
    """A JSON schema without docstrings; a key that is itself called `description` is a mapping and stays."""
    if isinstance(schema, dict):
        return {
            key: shape_of(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [shape_of(item) for item in schema] if isinstance(schema, list) else schema


def test_variables_are_expanded_after_parsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARS", "a: [b]")
    monkeypatch.setenv("N", "1")
    text = TOP.replace("synthetic:", "synthetic: {root: $BARS, note: 'x${N}y$$N'}") + MARKET

    options = config_of(tmp_path, text).providers["synthetic"].options

    assert options == {"root": str(tmp_path / "a: [b]"), "note": "x1y$N"}


def test_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, market_with("description: ${NO_SUCH_VARIABLE}"))

    assert message == (
        "marketpipe.yaml:11: markets.shares.description: "
        "expected the environment variable NO_SUCH_VARIABLE to be set, was missing"
    )


def test_lone_dollar_is_refused(tmp_path: Path) -> None:
    assert "expected $NAME, ${NAME} or $$, was 'a $ b'" in refusal(tmp_path, market_with("description: a $ b"))


def test_errors_show_a_variable_and_not_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-7f")

    message = refusal(tmp_path, market_with("session: $CANARY"))

    assert "was '$CANARY'" in message
    assert "canary-7f" not in message


@pytest.mark.parametrize("key", ["key", "secret", "api-key", "apikey", "API_KEY", "auth_token", "password"])
def test_secrets_in_a_provider_block_are_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, TOP.replace("synthetic:", f"synthetic: {{{key}: canary-7f}}") + MARKET)

    assert "marketpipe.yaml:3: providers.synthetic." in message
    assert "secrets come from the environment only" in message
    assert "canary-7f" not in message


def test_options_that_merely_contain_such_a_word_are_taken(tmp_path: Path) -> None:
    config = config_of(tmp_path, TOP.replace("synthetic:", "synthetic: {monkey: 1, keyboard: 2}") + MARKET)

    assert config.providers["synthetic"].options == {"monkey": "1", "keyboard": "2"}


def test_named_file_wins_over_the_one_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, elsewhere = tmp_path / "marketpipe.yaml", tmp_path / "elsewhere.yaml"
    here.write_text(TOP + MARKET, encoding="utf-8")
    elsewhere.write_text(TOP + MARKET, encoding="utf-8")

    found = load_config().path
    monkeypatch.setenv("MARKETPIPE_CONFIG", str(elsewhere))

    assert (found, load_config().path) == (here, elsewhere)


def test_named_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPIPE_CONFIG", str(tmp_path / "none.yaml"))

    with pytest.raises(ConfigError, match=r"none\.yaml: expected a readable UTF-8 file"):
        load_config()


def test_without_a_file_the_packaged_default_works_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_config()

    assert (config.path, config.lake) == (None, tmp_path / "lake")
    assert {name: market.symbols for name, market in config.markets.items()} == {
        "us_equities": ("AAPL", "AMZN", "GOOG", "MSFT", "SPY"),
        "crypto": ("BTC-USD", "ETH-USD"),
    }
    assert {settings.type for settings in config.providers.values()} == {"synthetic"}


def test_packaged_provider_blocks_are_what_the_provider_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    blocks = load_config().providers.values()

    assert [SyntheticProvider.model_validate(block.options).seed for block in blocks] == [1, 1]


def test_dagster_home_is_made_beside_the_file_and_seeded_once(tmp_path: Path) -> None:
    config = config_of(tmp_path, TOP + MARKET)

    home = dagster_home(config)
    seeded = (home / "dagster.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    again = dagster_home(config)

    assert home == again == tmp_path / ".dagster"
    assert "telemetry:\n  enabled: false" in seeded
    assert (home / "dagster.yaml").read_text(encoding="utf-8") == "telemetry: {enabled: false}\n"


def test_dagster_home_of_the_environment_wins_and_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "own"))

    assert dagster_home(config_of(tmp_path, TOP + MARKET)) == tmp_path / "own"
    assert not (tmp_path / "own").exists()


def test_dagster_home_is_exported_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    config = config_of(tmp_path, TOP + MARKET)

    dagster_home(config)
    before = environment(["DAGSTER_HOME"])
    home = export_dagster_home(config)

    assert before == {}
    assert environment(["DAGSTER_HOME"]) == {"DAGSTER_HOME": str(home)}


def test_log_is_json_or_for_the_console_and_has_a_level(tmp_path: Path) -> None:
    config = config_of(tmp_path, TOP + MARKET + "log: {format: json, level: WARNING}\n")

    assert (config.log.format, config.log.level) == ("json", "WARNING")
    assert "log.format: expected 'console' or 'json', was 'xml'" in refusal(
        tmp_path, TOP + MARKET + "log: {format: xml}\n"
    )
    assert "unknown key (did you mean level?)" in refusal(tmp_path, TOP + MARKET + "log: {leve: INFO}\n")


def test_secrets_of_the_environment_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_SECRET", "canary-1")
    monkeypatch.setenv("POSTGRES_PASSWORD", "canary-2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://marketpipe:canary-3@127.0.0.1/marketpipe")
    monkeypatch.setenv("MARKETPIPE_MONKEY", "no-secret")

    found = secrets_of_environment()

    assert {"canary-1", "canary-2", "canary-3"} <= set(found)
    assert "no-secret" not in found


def test_environment_gives_the_variables_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_KEY", "k")
    monkeypatch.setenv("ALPACA_SECRET", "")

    assert environment(["ALPACA_KEY", "ALPACA_SECRET", "NO_SUCH_VARIABLE"]) == {"ALPACA_KEY": "k"}


def test_variables_of_the_earlier_systems_are_named_with_what_to_use_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPIPE_RAW_ROOT", "data/raw")

    with pytest.warns(UserWarning, match="MARKETPIPE_RAW_ROOT is set and ignored: set `lake:`"):
        config_of(tmp_path, TOP + MARKET)


def test_sessions_of_a_market_begin_at_its_start_and_reach_past_the_year(tmp_path: Path) -> None:
    sessions = config_of(tmp_path, market_where("start", "2024-01-01")).markets["shares"].sessions

    assert sessions.dates[0] == date(2024, 1, 2)
    assert sessions.dates[-1] > date(datetime.now(UTC).year, 12, 31)


WAIVER = """\
- symbol: AAPL
  first: 2024-01-02
  last: 2024-01-03
  rule: impossible_tick
  reason: the exchange let the trade stand
  author: ana@example.org
  expires: 2099-01-01
"""
REPAIR = """\
- symbol: AAPL
  ts: 2024-01-02T14:30Z
  set: {high: 101.5, trade_count: 12, vwap: null}
  reason: the exchange cancelled the trade
  author: ana@example.org
"""


def amended(folder: Path, waivers: str = "", repairs: str = "", config: str = TOP + MARKET) -> Config:
    (folder / "waivers.yml").write_text(waivers, encoding="utf-8")
    (folder / "repairs.yml").write_text(repairs, encoding="utf-8")
    return config_of(folder, config)


def amendment_refusal(folder: Path, waivers: str = "", repairs: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        amended(folder, waivers, repairs)
    return str(caught.value).replace(f"{folder}/", "")


def test_waivers_and_repairs_lie_beside_the_configuration(tmp_path: Path) -> None:
    market = amended(tmp_path, WAIVER, REPAIR).markets["shares"]

    (waiver,), (repair,) = market.rule_set.waivers, market.rule_set.repairs
    assert waiver[:4] == ("AAPL", date(2024, 1, 2), date(2024, 1, 3), "impossible_tick")
    assert waiver.place == "waivers.yml:1"
    assert repair.ts == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert repair.values == {"high": 101.5, "trade_count": 12, "vwap": None}


def test_files_of_waivers_may_be_empty_and_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "let.yml").write_text(WAIVER)

    market = amended(tmp_path, config=f"waivers: ./let.yml\n{TOP}{MARKET}").markets["shares"]

    assert [each.place for each in market.rule_set.waivers] == ["let.yml:1"]
    assert market.rule_set.repairs == ()


def test_a_waiver_is_for_every_market_that_has_the_symbol_unless_it_names_one(tmp_path: Path) -> None:
    two = TOP + MARKET + MARKET.replace("markets:\n", "").replace("shares", "others")

    both = amended(tmp_path, WAIVER, config=two).markets
    one = amended(tmp_path, WAIVER + "  market: others\n", config=two).markets

    assert [len(both[name].rule_set.waivers) for name in ("shares", "others")] == [1, 1]
    assert [len(one[name].rule_set.waivers) for name in ("shares", "others")] == [0, 1]


def test_an_expired_waiver_is_a_warning_and_no_longer_counts(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"waivers.yml:1: the waiver has expired on 2024-06-01"):
        market = amended(tmp_path, WAIVER.replace("2099-01-01", "2024-06-01")).markets["shares"]

    assert market.rule_set.waivers == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("symbol: AAPL", "symbol: MSFT", "waivers.yml:1: 0.symbol: expected a symbol of a market, was 'MSFT'"),
        ("reason:", "why:", "waivers.yml:5: 0.why: unknown key; expected one of market, symbol, first, last, rule, "),
        ("rule: impossible_tick", "rule: bad_luck", "waivers.yml:4: 0.rule: expected a rule of out_of_order, "),
        (
            "rule: impossible_tick",
            "rule: duplicate_ts",
            "waivers.yml:4: 0.rule: expected a rule that can be waived, was duplicate_ts: longer bars rest on it",
        ),
        ("rule: impossible_tick", "rule: volume_spike", "waivers.yml:4: 0.rule: expected a rule of out_of_order, "),
        ("  expires: 2099-01-01\n", "", "waivers.yml:1: 0.expires: expected a date such as 2024-01-02, was missing"),
        ("2099-01-01", "2099-02-30", "waivers.yml:7: 0.expires: expected a date such as 2024-01-02, was '2099-02-30'"),
        ("last: 2024-01-03", "last: 2024-01-01", "waivers.yml:3: 0.last: expected a session on or after 2024-01-02, "),
        ("  author: ana@example.org", "  author:", "waivers.yml:6: 0.author: expected text, was empty"),
        ("- symbol", "- market: bonds\n  symbol", "waivers.yml:1: 0.market: expected a market of shares, was 'bonds'"),
    ],
)
def test_a_waiver_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert amendment_refusal(tmp_path, WAIVER.replace(old, new)).startswith(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("14:30Z", "14:30", "repairs.yml:2: 0.ts: expected a time in UTC such as 2024-01-02T14:30Z, was "),
        ("high: 101.5", "ts: 1", "repairs.yml:3: 0.set.ts: unknown column; expected one of open, high, low, close, "),
        ("101.5", "a lot", "repairs.yml:3: 0.set.high: expected a number, was 'a lot'"),
        ("101.5", "null", "repairs.yml:3: 0.set.high: expected a number, was 'null'"),
        ("trade_count: 12", "trade_count: 1.5", "repairs.yml:3: 0.set.trade_count: expected a whole number, was '1.5'"),
        ("101.5", "1e400", "repairs.yml:3: 0.set.high: expected a number that the column can hold, was '1e400'"),
        (
            "trade_count: 12",
            "trade_count: 99999999999999999999",
            "repairs.yml:3: 0.set.trade_count: expected a number that the column can hold, was '99999999999999999999'",
        ),
        ("{high: 101.5, trade_count: 12, vwap: null}", "{}", "repairs.yml:3: 0.set: expected columns and their values"),
    ],
)
def test_a_repair_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert amendment_refusal(tmp_path, repairs=REPAIR.replace(old, new)).startswith(said)


def test_two_repairs_of_one_bar_are_refused(tmp_path: Path) -> None:
    said = amendment_refusal(tmp_path, repairs=REPAIR + REPAIR)

    assert said == "repairs.yml:7: 1.ts: expected one repair for each bar, was another one at repairs.yml:1"


def test_a_file_of_waivers_that_is_no_list_is_refused(tmp_path: Path) -> None:
    assert amendment_refusal(tmp_path, "waivers: none\n") == "waivers.yml:1: expected a list, an entry for each `- `"


def test_a_market_cannot_have_amendments_of_its_own(tmp_path: Path) -> None:
    assert "amendments: unknown key" in refusal(tmp_path, market_with("amendments: []"))


def test_reports_cannot_lie_in_the_lake(tmp_path: Path) -> None:
    said = refusal(tmp_path, f"lake: ./lake\nreports: ./lake/reports\n{TOP}{MARKET}")

    assert said == "marketpipe.yaml:2: reports: expected reports in a folder outside the lake, was './lake/reports'"


def test_a_lake_that_holds_what_lies_beside_it_is_told_by_its_own_key(tmp_path: Path) -> None:
    assert refusal(tmp_path, f"lake: .\n{TOP}{MARKET}") == (
        "marketpipe.yaml:1: lake: expected reports in a folder outside the lake, was '.'"
    )
    assert refusal(tmp_path, f"lake: ''\n{TOP}{MARKET}") == "marketpipe.yaml:1: lake: expected a folder, was empty"


def test_a_catalogue_below_a_folder_whose_name_has_a_question_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "really?").mkdir()

    assert "marketpipe.yaml:1: catalog: expected a path without ?, was '" in refusal(tmp_path / "really?", TOP + MARKET)
