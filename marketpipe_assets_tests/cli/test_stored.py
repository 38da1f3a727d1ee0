import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from marketpipe_assets.bars.schema import empty
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.lake.facts import Fetch
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.query import MEMORY, MOST_ROWS, SECONDS
from marketpipe_assets_tests.cli.command import CONFIGURATION, configured, marketpipe, rows
from marketpipe_assets_tests.metrics.ledger import note_pruned


def test_status_tells_what_each_table_holds(filled: Path) -> None:
    result = marketpipe("status", "--config", filled)

    assert result.exit_code == 0
    assert "shares: 6 of " in result.stdout
    assert "coins: 1 of " in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["shares", "bars_1d", "3", "2024-01-02", "2024-01-03", "6", "3"] in [words[:7] for words in lines]


def test_status_and_verify_take_files_of_days_without_bars(own: Path) -> None:
    lake, quiet, at = own.parent / "lake", [date(2024, 2, 1)], datetime(2024, 2, 2, tzinfo=UTC)
    write_bars(lake, "shares", "raw_bars_1m", empty(), ["AAPL"], quiet, Fetch(at, "run", quiet))
    for file in lake.glob("shares/raw_bars_1m/*/2024-01.parquet"):
        file.unlink()

    held = json.loads(marketpipe("status", "--json", "--config", own).stdout)
    verified = marketpipe("lake", "verify", "--config", own)

    raw = held["markets"]["shares"]["tables"]["raw_bars_1m"]
    assert (raw["symbols"], raw["bars"], raw["files"], raw["first"], raw["last"]) == (1, 0, 1, None, None)
    assert marketpipe("status", "--config", own).exit_code == 0
    assert verified.exit_code == 0


def test_status_as_json(filled: Path) -> None:
    found = json.loads(marketpipe("status", "--json", "--config", filled).stdout)

    assert found["lake"] == str(filled.parent / "lake")
    assert found["markets"]["shares"]["symbol_days"]["held"] == 6
    assert found["markets"]["coins"]["tables"]["bars_1h"]["bars"] == 24


def test_status_of_a_lake_of_many_files_is_what_the_ledger_knows(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    footers = json.loads(marketpipe("status", "--json", "--config", filled).stdout)["markets"]
    monkeypatch.setattr("marketpipe_assets.cli.status.MOST_FILES", 3)

    result = marketpipe("status", "--json", "--config", filled)
    told = marketpipe("status", "--json", "--files", "--config", filled)

    ledger = json.loads(result.stdout)["markets"]
    assert result.stderr == "note: more than 3 files: from the ledger; --files reads every footer\n"
    assert json.loads(told.stdout)["markets"] == footers
    for market, found in footers.items():
        raw = found["tables"]["raw_bars_1m"]
        assert ledger[market]["symbol_days"] == found["symbol_days"]
        assert ledger[market]["tables"]["raw_bars_1m"] == {**raw, "files": None, "bytes": None}
        assert ledger[market]["tables"]["bars_1m"]["bars"] == found["tables"]["bars_1m"]["bars"]


LISTINGS = "listings: {BRK.B: {end: 2024-01-03}, MSFT: {first: 2024-01-03}}"


@pytest.mark.parametrize("longer", ["[1h, 1d]", "[1h]"])
@pytest.mark.parametrize("most_files", [1, 5000])
def test_status_and_symbols_count_what_is_due(
    own: Path, monkeypatch: pytest.MonkeyPatch, longer: str, most_files: int
) -> None:
    own.write_text(CONFIGURATION.replace("timeframes: [1h, 1d]", f"timeframes: {longer}\n    {LISTINGS}"))
    note_pruned(Catalog(f"sqlite:///{own.parent}/catalog.sqlite"), "AAPL", date(2024, 1, 2))
    monkeypatch.setattr("marketpipe_assets.cli.status.MOST_FILES", most_files)

    days = json.loads(marketpipe("status", "--json", "--config", own).stdout)["markets"]["shares"]["symbol_days"]
    symbols = json.loads(marketpipe("symbols", "--json", "--config", own, "--market", "shares").stdout)

    assert {each["symbol"]: each["sessions"] for each in symbols} == {"AAPL": 1, "BRK.B": 1, "MSFT": 1}
    expected = {each["symbol"]: each["expected"] for each in symbols}
    assert expected["BRK.B"] == 1
    assert expected["AAPL"] == expected["MSFT"] > 400
    assert days == {"held": 3, "configured": sum(expected.values())}


def test_status_of_an_empty_lake_says_how_to_fill_it(tmp_path: Path) -> None:
    result = marketpipe("status", "--config", configured(tmp_path))

    assert result.exit_code == 0
    assert "the lake is empty" in result.stdout


def test_status_names_files_that_are_not_the_lakes(own: Path) -> None:
    stored = own.parent / "lake" / "shares" / "bars_1m" / "symbol=AAPL" / "2024-01.parquet"
    foreign = stored.with_name("2024-01 (copy).parquet")
    foreign.write_bytes(stored.read_bytes())

    result = marketpipe("status", "--config", own)

    assert result.exit_code == 0
    assert result.stderr == f"note: {foreign} is no file of the lake\n"


def test_validate_and_bars_take_a_retired_symbol(own: Path) -> None:
    own.write_text(CONFIGURATION.replace("BRK.B, ", ""))

    validate = marketpipe("validate", "--symbols", "BRK.B", "--config", own)
    bars = marketpipe("bars", "BRK.B", "-f", "json", "--config", own)

    assert "780 raw bars of 2 symbol-days judged" in validate.stdout
    assert json.loads(bars.stdout)["count"] == 2


def test_validate_counts_by_rule(filled: Path) -> None:
    result = marketpipe("validate", "--config", filled)

    assert result.exit_code == 0
    assert rows(result.stdout)["negative_volume"] == ["ERROR", "6", "0", "6", "AAPL", "2,", "BRK.B", "2,", "MSFT", "2"]
    assert "2,340 raw bars of 6 symbol-days judged" in result.stdout


def test_validate_fails_where_the_rules_have_changed(own: Path) -> None:
    own.write_text(
        CONFIGURATION.replace(
            "    timeframes: [1h, 1d]",
            "    rules: {price_range: {severity: ERROR, limit: 1}}\n    timeframes: [1h, 1d]",
        )
    )

    result = marketpipe("validate", "--symbol", "AAPL", "--days", "1", "--config", own)

    assert result.exit_code == 1
    assert "stored bars of 1 symbol-day (2024-01-03|AAPL) are not what the rules make of the raw ones" in result.stderr


def test_validate_fails_where_bars_do_not_add_up(own: Path) -> None:
    (own.parent / "lake" / "shares" / "quarantined_bars_1m" / "symbol=MSFT" / "2024-01.parquet").unlink()

    result = marketpipe("validate", "--config", own)

    assert result.exit_code == 1
    assert "bars of 2 symbol-days (2024-01-02|MSFT, 2024-01-03|MSFT) do not add up" in result.stderr


def test_validate_shows_the_quarantined_bars_of_a_symbol(filled: Path) -> None:
    result = marketpipe("validate", "--show", "AAPL", "--config", filled)

    assert result.exit_code == 0
    assert result.stdout.count("negative_volume") == 2
    assert "2 of 2 quarantined bars" in result.stdout


@pytest.mark.parametrize("command", ["validate", "aggregate"])
def test_without_stored_bars_there_is_nothing_to_judge(tmp_path: Path, command: str) -> None:
    result = marketpipe(command, "--market", "shares", "--config", configured(tmp_path))

    assert result.exit_code == 2
    assert result.stderr == "error: expected stored bars of shares, was none: marketpipe ingest fetches them\n"


@pytest.mark.parametrize("args", [["--days", "1", "--all"], ["--all", "--start", "2024-01-02"]])
def test_contradicting_selections_are_refused(filled: Path, args: list[str]) -> None:
    result = marketpipe("validate", "--market", "shares", *args, "--config", filled)

    assert result.exit_code == 2
    assert result.stderr == "error: expected one of --days, --all, or --start and --end, was several\n"


def test_verify_finds_no_fault_in_what_was_written(filled: Path) -> None:
    result = marketpipe("lake", "verify", "--config", filled)

    assert result.exit_code == 0
    assert "18 files verified" in result.stdout


def test_verify_names_a_file_with_a_flipped_bit(own: Path) -> None:
    path = own.parent / "lake" / "shares" / "bars_1h" / "symbol=AAPL" / "2024.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)

    result = marketpipe("lake", "verify", "--config", own)

    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "error: 1 of 18 files damaged" in result.stderr


def test_verify_names_a_file_in_the_place_of_another(own: Path) -> None:
    folder = own.parent / "lake" / "shares" / "bars_1d"
    (folder / "symbol=AAPL" / "2024.parquet").replace(folder / "symbol=MSFT" / "2024.parquet")

    result = marketpipe("lake", "verify", "--market", "shares", "--config", own)

    assert result.exit_code == 1
    assert "symbol=MSFT" in result.stderr


def test_verify_names_files_that_are_not_the_lakes(own: Path) -> None:
    foreign = own.parent / "lake" / "notes.txt"
    foreign.write_text("x")

    result = marketpipe("lake", "verify", "--config", own)

    assert result.exit_code == 0
    assert result.stderr == f"note: {foreign} is no file of the lake\n"


def test_verify_removes_what_a_killed_write_began_when_asked(own: Path) -> None:
    begun = own.parent / "lake" / ".writing" / "shares+bars_1d+symbol=AAPL+2024.parquet.writing"
    begun.parent.mkdir(exist_ok=True)
    begun.write_bytes(b"PAR1")

    told = marketpipe("lake", "verify", "--config", own)
    still_there = begun.exists()
    swept = marketpipe("lake", "verify", "--sweep", "--config", own)

    assert (told.exit_code, still_there) == (0, True)
    assert "--sweep removes it" in told.stderr
    assert (swept.exit_code, begun.exists()) == (0, False)


def test_verify_without_a_lake_is_a_user_error(tmp_path: Path) -> None:
    assert marketpipe("lake", "verify", "--config", configured(tmp_path)).exit_code == 2


def test_a_damaged_file_is_a_failure_of_the_commands_that_read_it(own: Path) -> None:
    path = own.parent / "lake" / "shares" / "bars_1d" / "symbol=AAPL" / "2024.parquet"
    path.write_bytes(path.read_bytes()[:-1])

    bars = marketpipe("bars", "AAPL", "--config", own)
    status = marketpipe("status", "--config", own)

    assert (bars.exit_code, bars.stderr.count("\n")) == (1, 1)
    assert str(path) in bars.stderr
    assert status.exit_code == 0
    assert status.stderr.startswith(f"note: left out: {path} is damaged")


def test_query_answers_one_select(filled: Path) -> None:
    sql = "SELECT symbol, count(*) AS days FROM shares.bars_1d GROUP BY symbol ORDER BY symbol"

    assert marketpipe("query", sql, "--csv", "--config", filled).stdout == "symbol,days\nAAPL,2\nBRK.B,2\nMSFT,2\n"
    assert json.loads(marketpipe("query", sql, "--json", "--limit", "1", "--config", filled).stdout) == {
        "count": 1,
        "results": [{"symbol": "AAPL", "days": 2}],
    }
    assert rows(marketpipe("query", sql, "--config", filled).stdout)["MSFT"] == ["2"]


def test_query_prints_times_with_their_zone(filled: Path) -> None:
    sql = "SELECT ts FROM bars_1d ORDER BY ts LIMIT 1"

    assert marketpipe("query", sql, "--csv", "--config", filled).stdout == "ts\n2024-01-02T05:00:00+00:00\n"


def test_times_without_a_zone_are_not_called_utc(filled: Path) -> None:
    sql = "SELECT min(ts) AS ts, min(ts AT TIME ZONE 'America/New_York') AS local FROM bars_1d"

    heading, _, first, *_ = marketpipe("query", sql, "--config", filled).stdout.splitlines()

    assert heading.split() == ["ts", "(UTC)", "local"]
    assert first.split() == ["2024-01-02", "05:00", "2024-01-02", "00:00"]


@pytest.mark.parametrize(("end", "code"), [("2024-01-02T10:00-05:00", 0), ("2024-01-02T08:30-05:00", 2)])
def test_bounds_of_bars_are_compared_as_instants(filled: Path, end: str, code: int) -> None:
    result = marketpipe("bars", "AAPL", "--start", "2024-01-02T14:00+00:00", "--end", end, "--config", filled)

    assert result.exit_code == code, result.stderr


def test_a_table_says_how_many_rows_it_leaves_out(filled: Path) -> None:
    result = marketpipe("query", "SELECT ts FROM bars_1m", "--config", filled)

    assert result.stderr == "note: 50 of 2,334 rows printed; --limit prints more\n"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP VIEW bars_1d", "expected exactly one SELECT, was DROP"),
        ("SELECT 1; SELECT 2", "expected exactly one SELECT, was SELECT, SELECT"),
        ("SELEC", "Parser Error"),
        ("SELECT nothing FROM bars_1d", "Binder Error"),
        ("SELECT max(ts) - min(ts) FROM bars_1d", "month_day_nano_interval"),
        ("SELECT * FROM read_csv('/etc/hostname')", "Permission Error"),
    ],
)
def test_what_is_no_select_over_the_lake_is_one_line_and_exit_code_2(filled: Path, sql: str, said: str) -> None:
    result = marketpipe("query", sql, "--config", filled)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


ENDLESS = "SELECT count(*) FROM range(1_000_000_000) a, range(1_000_000) b WHERE a.range * b.range % 7 = 3"


@pytest.mark.parametrize(
    ("options", "sql", "exit_code", "said"),
    [
        (["--timeout", "0.2"], ENDLESS, 1, "expected an answer within 0.2 s, was none"),
        (["--memory", "50MB"], "SELECT * FROM range(20_000_000) ORDER BY hash(range)", 1, "Out of Memory Error"),
        (["--memory", "much"], "SELECT 1", 2, "expected a memory such as 500MB or 4GB, was 'much'"),
        (["--max-rows", "5"], "SELECT * FROM range(6)", 2, "expected at most 5 rows, was more"),
        (["--explain", "--csv"], "SELECT 1", 2, "expected one of --csv, --json and --explain, was several"),
    ],
)
def test_query_keeps_its_limits(filled: Path, options: list[str], sql: str, exit_code: int, said: str) -> None:
    result = marketpipe("query", sql, *options, "--config", filled)

    assert result.exit_code == exit_code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_query_shows_how_it_would_be_answered(filled: Path) -> None:
    result = marketpipe("query", "SELECT count(*) FROM bars_1d", "--explain", "--config", filled)

    assert result.exit_code == 0
    assert "SCAN" in result.stdout.upper()


def test_help_of_query_names_the_limits_there_are() -> None:
    shown = " ".join(marketpipe("query", "--help").stdout.split())

    assert [default for default in (f"{SECONDS:g}", MEMORY, f"{MOST_ROWS:,}") if f"({default})" not in shown] == []


def test_bars_are_a_table_with_the_newest_first(filled: Path) -> None:
    result = marketpipe("bars", "AAPL", "--config", filled)

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split()[3] for line in lines[2:]] == ["2024-01-03", "2024-01-02"]
    assert max(map(len, lines)) <= 100


def test_bars_as_csv_are_all_in_order_of_time(filled: Path) -> None:
    result = marketpipe("bars", "BRK.B", "AAPL", "-t", "1h", "--format", "csv", "--config", filled)

    frame = pl.read_csv(result.stdout.encode(), try_parse_dates=True)
    assert frame["symbol"].unique(maintain_order=True).to_list() == ["BRK.B", "AAPL"]
    assert frame.height == 28
    assert frame.filter(pl.col("symbol") == "AAPL")["ts"].is_sorted()


def test_the_older_end_date_is_inclusive(filled: Path) -> None:
    result = marketpipe("bars", "AAPL", "-sd", "2024-01-02", "-ed", "2024-01-02", "-f", "json", "--config", filled)

    found = json.loads(result.stdout)
    assert (found["count"], found["results"][0]["session_date"]) == (1, "2024-01-02")


def test_the_end_is_exclusive(filled: Path) -> None:
    result = marketpipe("bars", "AAPL", "--end", "2024-01-03", "-f", "json", "--config", filled)

    assert json.loads(result.stdout)["count"] == 1


def test_bars_of_several_markets_are_one_answer(filled: Path) -> None:
    result = marketpipe("bars", "AAPL", "BTC-USD", "-t", "1h", "-f", "json", "--config", filled)

    assert json.loads(result.stdout)["count"] == 14 + 24


def test_bars_are_written_to_a_file_of_the_format_its_name_says(filled: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.parquet"

    result = marketpipe("bars", "AAPL", "-t", "1m", "--output", output, "--config", filled)

    assert result.exit_code == 0
    assert pl.read_parquet(output).height == 778
    assert [path.name for path in tmp_path.iterdir()] == ["bars.parquet"]


def test_a_file_has_every_bar_without_a_limit_of_a_table(filled: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.txt"

    result = marketpipe("bars", "AAPL", "-t", "1m", "--format", "table", "-o", output, "--config", filled)

    assert len(output.read_text().splitlines()) == 2 + 778
    assert result.stderr == f"note: 778 bars written to {output}\n"


def test_what_is_counted_is_what_was_written(filled: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.csv"

    result = marketpipe("bars", "AAPL", "-t", "1m", "--limit", "10", "-o", output, "--config", filled)

    assert pl.read_csv(output).height == 10
    assert result.stderr == f"note: 10 bars of 778 written to {output}\n"


def test_unknown_symbols_are_named_and_the_others_are_printed(filled: Path) -> None:
    result = marketpipe("bars", "AAPL", "NOPE", "--config", filled)

    assert result.exit_code == 0
    assert result.stderr == "note: no market has NOPE\n"


def test_symbols_that_are_all_unknown_are_a_failure(filled: Path) -> None:
    result = marketpipe("bars", "NOPE", "--config", filled)

    assert result.exit_code == 1
    assert "error: expected symbols of shares, coins, was NOPE" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--timeframe", "7m"], "expected a timeframe of 1m, 1h, 1d, 1w, 1M, was '7m'"),
        (["--start", "soon"], "--start: expected a date such as 2024-01-02, or a time with its zone, was 'soon'"),
        (["--start", "2024-01-02T10:00:00"], "expected a date or a time with its zone, was 2024-01-02T10:00:00"),
        (["--start", "2024-01-03", "--end", "2024-01-02"], "expected an end after 2024-01-03, was 2024-01-02"),
        (["--end", "2024-01-03", "-ed", "2024-01-03"], "expected --start and --end, or --start-date and --end-date"),
        (["--format", "parquet"], "expected --output with --format parquet: it is not text"),
        (["--output", "nowhere/bars.csv"], "--output: expected a file in a folder that exists"),
        (["--output", "bars.xlsx"], "--output: expected a name that ends in .csv, .json, .parquet, or --format"),
        (["--format", "xml"], "Invalid value for '--format'"),
        (["--market", "bonds"], "expected a market of shares, coins, was 'bonds'"),
    ],
)
def test_a_wrong_question_for_bars_is_one_line_and_exit_code_2(filled: Path, args: list[str], said: str) -> None:
    result = marketpipe("bars", "AAPL", *args, "--config", filled)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_validate_lists_the_reports_of_runs(filled: Path) -> None:
    result = marketpipe("validate", "--list", "--config", filled)

    lines = [line.split() for line in result.stdout.splitlines() if "BRK.B" in line]
    assert result.exit_code == 0
    assert [line[3:] for line in lines] == [["4", "0", "0", "AAPL,", "BRK.B"]]


def test_validate_prints_a_report(filled: Path) -> None:
    path = next((filled.parent / "validation_reports").rglob("*_BRK.B.csv"))

    result = marketpipe("validate", "--show", path, "--config", filled)

    assert result.exit_code == 0
    assert result.stdout.count("negative_volume") == 2
    assert "2 of 2 rows" in result.stdout


def test_validate_refuses_to_print_what_is_no_report(filled: Path) -> None:
    result = marketpipe("validate", "--show", filled, "--config", filled)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: expected a report of validation")


@pytest.mark.parametrize("job", [["2024-01-03|MSFT"], ["MSFT_2024-01-03"], ["--job-id", "MSFT_2024-01-03"]])
def test_validate_judges_the_one_symbol_day_of_a_partition(filled: Path, job: list[str]) -> None:
    result = marketpipe("validate", *job, "--config", filled)

    assert result.exit_code == 0
    assert "390 raw bars of 1 symbol-day judged" in result.stdout


def test_validate_judges_the_symbol_days_of_a_run(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(filled.parent / ".dagster"))
    run_id = next((filled.parent / "validation_reports").rglob("*_BTC-USD.csv")).parent.name

    result = marketpipe("validate", run_id, "--config", filled)

    assert result.exit_code == 0
    assert "1,440 raw bars of 1 symbol-day judged" in result.stdout


@pytest.mark.parametrize("command", ["validate", "aggregate"])
def test_a_job_beside_other_selections_is_refused(filled: Path, command: str) -> None:
    result = marketpipe(command, "2024-01-02|AAPL", "--symbols", "MSFT", "--all", "--config", filled)

    said = "expected 2024-01-02|AAPL alone, which says symbols and sessions, was also --symbols, --all"
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("nowhere", "expected a partition such as 2024-01-02|AAPL or the id of a run, was 'nowhere'"),
        ("2024-01-06|AAPL", "expected a partition of shares, coins such as 2024-01-02|AAPL, or a run of some, was"),
        ("2024-01-05|AAPL", "expected stored bars of AAPL of shares, 2024-01-05, was none"),
    ],
)
def test_a_job_that_is_not_known_is_refused(filled: Path, monkeypatch: pytest.MonkeyPatch, job: str, said: str) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(filled.parent / ".dagster"))

    result = marketpipe("validate", job, "--config", filled)

    assert result.exit_code == 2
    assert said in result.stderr


REPAIR = """\
- {symbol: AAPL, ts: "%s", set: {volume: 100}, reason: a sign too many, author: ana}
- {symbol: AAPL, ts: "2024-01-02T22:00Z", set: {volume: 100}, reason: a sign too many, author: ana}
"""


def test_a_repair_changes_what_the_rules_make_and_aggregate_stores_it(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(own.parent / ".dagster"))
    reports = (own.parent / "validation_reports").rglob("*_AAPL.csv")
    ts = min(report.read_text().splitlines()[1].rpartition(",")[2] for report in reports)
    (own.parent / "repairs.yml").write_text(REPAIR % ts)

    before = marketpipe("validate", f"{ts[:10]}|AAPL", "--config", own)
    rebuilt = marketpipe("aggregate", f"{ts[:10]}|AAPL", "--config", own)
    after = marketpipe("validate", f"{ts[:10]}|AAPL", "--config", own)

    assert before.exit_code == 1
    assert "are not what the rules make of the raw ones" in before.stderr
    assert rebuilt.exit_code == 0
    assert after.exit_code == 0
    assert "note: no bar for the repair of AAPL at 2024-01-02 22:00 UTC (repairs.yml:2)" in before.stderr + after.stderr


TWINS = (
    CONFIGURATION
    + """\
  twins:
    calendar: XNYS
    asset_class: equity
    provider: shares
    symbols: [AAPL, TSLA]
    start: 2024-01-02
    timeframes: [1h, 1d]
"""
)
"""Another market with AAPL, of which nothing is stored."""


@pytest.mark.parametrize("command", ["validate", "aggregate", "ingest", "backfill", "coverage"])
@pytest.mark.parametrize("symbols", ["", ",", " "])
def test_empty_symbols_are_not_all_of_them(filled: Path, command: str, symbols: str) -> None:
    result = marketpipe(command, "--symbols", symbols, "--config", filled)

    assert result.exit_code == 2
    assert result.stderr == "error: --symbols: expected symbols, was empty\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [(["validate", "--show", ""], "--show: expected symbols, was empty"), (["bars", ","], "SYMBOL: expected symbols")],
)
def test_an_empty_name_is_no_symbol(filled: Path, args: list[str], said: str) -> None:
    result = marketpipe(*args, "--config", filled)

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("command", ["validate", "aggregate"])
def test_a_partition_that_two_markets_share_is_not_taken_for_the_first_ones(own: Path, command: str) -> None:
    own.write_text(TWINS)

    result = marketpipe(command, "2024-01-02|AAPL", "--config", own)

    assert result.exit_code == 2
    assert result.stderr == (
        "error: expected one market with 2024-01-02|AAPL, was shares, twins: name it with --market\n"
    )
    assert marketpipe("validate", "2024-01-02|AAPL", "-m", "shares", "--config", own).exit_code == 0


def test_verify_knows_the_markets_there_are(filled: Path) -> None:
    result = marketpipe("lake", "verify", "-m", "sahres", "--config", filled)

    assert result.exit_code == 2
    assert result.stderr == "error: expected a market of shares, coins, was 'sahres'\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-s", "MSFT", "--start", "2024-01-08", "--end", "2024-01-10"], "MSFT of shares, 2024-01-08 to 2024-01-09"),
        (["-m", "shares", "--start", "2024-01-08", "--end", "2024-01-09"], "shares, 2024-01-08"),
    ],
)
def test_what_is_not_stored_is_said_with_its_symbols_and_dates(filled: Path, args: list[str], said: str) -> None:
    validate = marketpipe("validate", *args, "--config", filled)
    coverage = marketpipe("coverage", *args, "--config", filled)

    assert (validate.exit_code, coverage.exit_code) == (2, 2)
    assert validate.stderr.startswith(f"error: expected stored bars of {said}, was none: ")
    assert coverage.stderr.startswith(f"error: expected symbol-days of {said} in the ledger, was none: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["validate", "--list", "--days", "3", "--show", "MSFT"], "expected --list alone, was also --days, --show"),
        (["validate", "--show", "x.csv", "--all"], "expected --show with a report alone, was also --all"),
        (["validate", "--show", "MSFT", "-s", "AAPL"], "expected --show alone to name symbols, was also --symbols"),
        (
            ["query", "SELECT 1", "--explain", "--limit", "5"],
            "expected --explain without what limits an answer, was also --limit",
        ),
    ],
)
def test_options_that_would_say_nothing_are_refused(filled: Path, args: list[str], said: str) -> None:
    result = marketpipe(*args, "--config", filled)

    assert (result.exit_code, result.stderr) == (2, f"error: {said}\n")


@pytest.mark.parametrize("place", ["afile", "afile/lake"])
@pytest.mark.parametrize("command", [["ingest", "-m", "shares"], ["bars", "AAPL"], ["status"], ["doctor"]])
def test_a_lake_that_is_or_lies_in_no_folder_is_refused(tmp_path: Path, command: list[str], place: str) -> None:
    (tmp_path / "afile").touch()
    path = configured(tmp_path, CONFIGURATION.replace("./lake", f"./{place}"))

    result = marketpipe(*command, "--config", path)

    assert result.exit_code == 2
    assert result.stderr == f"error: lake: expected a folder, was {tmp_path}/{place}: {tmp_path}/afile is a file\n"


BAD_CATALOGUES = [["symbols"], ["backfill", "--dry-run"], ["backfill"], ["coverage", "-m", "shares"], ["status"]]
BAD_CATALOGUES += [["metrics", "-m", "mp_ingest_rows_total"], ["migrate"]]


@pytest.mark.parametrize("command", BAD_CATALOGUES)
def test_a_catalogue_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    path = configured(tmp_path, CONFIGURATION + "catalog: ./afile/catalog.sqlite\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "afile").touch()

    nowhere = marketpipe(*command, "--config", path)
    (tmp_path / "afile").unlink()
    (tmp_path / "afile").mkdir()
    (tmp_path / "afile" / "catalog.sqlite").write_text("this is no database, but a text of some length")
    garbage = marketpipe(*command, "--config", path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    down = marketpipe(*command, "--config", path)

    assert (nowhere.exit_code, garbage.exit_code, down.exit_code) == (1, 1, 1)
    assert nowhere.stderr == f"error: {tmp_path}/afile cannot be used: File exists\n"
    assert garbage.stderr == "error: the catalogue cannot be used: file is not a database\n"
    assert down.stderr.startswith("error: the catalogue cannot be used: connection")
    assert down.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["schedule", "generate"], ["backfill", "--dry-run"]])
def test_a_file_in_the_place_of_dagsters_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    (tmp_path / ".dagster").touch()

    result = marketpipe(*command, "--config", configured(tmp_path))

    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path}/.dagster cannot be used: File exists\n"


def test_a_damaged_footer_is_a_failure_of_query(own: Path) -> None:
    path = own.parent / "lake" / "shares" / "bars_1d" / "symbol=AAPL" / "2024.parquet"
    path.write_bytes(path.read_bytes()[:-1])

    result = marketpipe("query", "SELECT 1", "--config", own)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {path} is damaged")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("column", "option", "said"),
    [
        ("map {'a': 1}", "--csv", "expected columns that CSV can hold, was x of Map(String, Int32)"),
        ("'ab'::BLOB", "--csv", "expected columns that CSV can hold, was x of Binary"),
        ("[[1], [2]]", "--csv", "expected columns that CSV can hold, was x of List(List(Int32))"),
        ("'ab'::BLOB", "--json", "expected columns that JSON can hold, was x of Binary"),
        ("[{'b': 'ab'::BLOB}]", "--json", "expected columns that JSON can hold, was x of List(Struct({'b': Binary}))"),
        ("[interval 1 day]", "--json", "types that a frame has, was x of list<l: month_day_nano_interval>: cast them"),
    ],
)
def test_columns_that_a_format_cannot_hold_are_named(filled: Path, column: str, option: str, said: str) -> None:
    result = marketpipe("query", f"SELECT {column} AS x", option, "--config", filled)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_map_is_an_object_of_json(filled: Path) -> None:
    result = marketpipe("query", "SELECT map {'a': 1} AS x", "--json", "--config", filled)

    assert json.loads(result.stdout)["results"] == [{"x": {"a": 1}}]


@pytest.mark.parametrize(
    "args",
    [
        ["--end-date", "9999-12-31"],
        ["--end", "9999-12-31T00:00+00:00"],
        ["--start", "0001-01-01T00:00+00:00"],
        ["--start", "0001-01-01T05:00+05:00", "--end", "9999-12-31T18:59-05:00"],
    ],
)
def test_bounds_may_be_as_far_as_dates_go(filled: Path, args: list[str]) -> None:
    result = marketpipe("bars", "AAPL", *args, "-f", "json", "--config", filled)

    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["count"] == 2


def test_bars_are_of_the_one_market_with_all_symbols(own: Path) -> None:
    own.write_text(TWINS)

    together = marketpipe("bars", "AAPL", "MSFT", "-f", "json", "--config", own)
    alone = marketpipe("bars", "AAPL", "--config", own)

    assert json.loads(together.stdout)["count"] == 4
    assert alone.stderr == "error: expected one market with AAPL, was shares, twins: name it with --market\n"


def test_a_misspelt_symbol_is_told_with_the_one_that_was_meant(filled: Path) -> None:
    alone = marketpipe("bars", "msft", "--config", filled)
    beside = marketpipe("bars", "AAPL", "msft", "--config", filled)

    assert alone.stderr == "error: expected symbols of shares, coins, was msft (did you mean MSFT?)\n"
    assert beside.stderr == "note: no market has msft (did you mean MSFT?)\n"


def test_a_table_has_symbols_as_asked_and_names_those_it_leaves_out(filled: Path) -> None:
    result = marketpipe("bars", "MSFT", "BRK.B", "AAPL", "-t", "1h", "--limit", "15", "--config", filled)

    lines = [line.split() for line in result.stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == ["MSFT"] * 14 + ["BRK.B"]
    assert [line[1] for line in lines if line[0] == "MSFT"] == ["2024-01-03"] * 7 + ["2024-01-02"] * 7
    assert result.stderr == "note: 15 of 42 bars printed, none of AAPL; --limit prints more\n"
