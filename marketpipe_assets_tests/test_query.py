from datetime import UTC, date, datetime
from pathlib import Path
from shutil import rmtree

import duckdb
import pandas as pd
import polars as pl
import pytest

from marketpipe_assets.bars.resample import resample
from marketpipe_assets.bars.schema import FLAGS, VENDOR_COLUMNS, conform
from marketpipe_assets.bars.timeframes import TIMEFRAMES
from marketpipe_assets.config import Config, ConfigError, load_config
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import LakeError
from marketpipe_assets.query import connect, explain, load_bars, load_ohlcv, load_table, select

CONFIGURATION = """
config_version: 1
lake: ./lake
providers: {synthetic: {}}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: synthetic
    symbols: ["0700", ACME, BRK.B]
    start: 2024-01-02
    timeframes: [5m, 1d]
  pairs:
    calendar: 24/7
    asset_class: crypto
    provider: synthetic
    symbols: [BTC/USD]
    start: 2024-01-02
    timeframes: [1h]
"""


def minutes(market: str, symbol: str, day: str, count: int, config: Config) -> pl.DataFrame:
    zone = config.markets[market].sessions.timezone
    start = pl.lit(f"{day} 09:30:00").str.to_datetime(time_zone=zone, time_unit="us")
    vendor = pl.DataFrame({"minute": range(count)}).select(
        pl.lit(symbol).alias("symbol"),
        (start + pl.duration(minutes="minute")).dt.convert_time_zone("UTC").alias("ts"),
        *((10.0 + pl.col("minute")).alias(name) for name in ("open", "high", "low", "close")),
        pl.lit(2.0).alias("volume"),
        (10.0 + pl.col("minute")).alias("vwap"),
        pl.lit("given").alias("provider"),
        pl.lit("").alias("feed"),
    )
    return config.markets[market].sessions.assign(conform(vendor, VENDOR_COLUMNS))


def store(config: Config, market: str, bars: pl.DataFrame) -> None:
    chosen = config.markets[market]
    symbols, days = bars["symbol"].unique().sort().to_list(), bars["session_date"].unique().sort().to_list()
    flagged = bars.with_columns(pl.lit(None).cast(FLAGS["flags"]).alias("flags"))
    write_bars(config.lake, market, "bars_1m", flagged, symbols, days)
    longer = resample(bars, [TIMEFRAMES[label] for label in chosen.timeframes], chosen.sessions)
    for label, frame in longer.items():
        write_bars(config.lake, market, TIMEFRAMES[label].table, frame, symbols, days)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    written = tmp_path / "marketpipe.yaml"
    written.write_text(CONFIGURATION)
    monkeypatch.setenv("MARKETPIPE_CONFIG", str(written))
    config = load_config()
    for symbol in ("0700", "ACME"):
        days = ("2024-01-04", "2024-01-05", "2024-01-08", "2024-02-01")
        store(config, "shares", pl.concat([minutes("shares", symbol, day, 10, config) for day in days]))
    store(config, "pairs", minutes("pairs", "BTC/USD", "2024-01-06", 61, config))
    return config


def test_bars_come_by_symbol_as_asked_then_time() -> None:
    bars = load_bars(["ACME", "0700"], "1d")

    assert bars["symbol"].to_list() == ["ACME"] * 4 + ["0700"] * 4
    assert bars["session_date"].to_list()[:2] == [date(2024, 1, 4), date(2024, 1, 5)]


def test_end_date_is_exclusive() -> None:
    assert load_bars("ACME", "1d", "2024-01-04", "2024-01-05")["session_date"].to_list() == [date(2024, 1, 4)]


def test_instants_cut_by_ts() -> None:
    start, end = datetime(2024, 1, 4, 14, 32, tzinfo=UTC), "2024-01-04T09:34:00-05:00"

    assert load_bars("ACME", "1m", start, end)["open"].to_list() == [12.0, 13.0]


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="a time with its zone, was 2024-01-04T10:00:00"):
        load_bars("ACME", "1m", datetime(2024, 1, 4, 10))  # noqa: DTZ001  # what is refused


def test_date_of_another_form_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="expected a date or a time such as 2024-01-02, was '4/1/24'"):
        load_bars("ACME", "1d", "4/1/24")


def test_weeks_begin_on_monday_and_are_labelled_with_their_last_session() -> None:
    weeks = load_bars("ACME", "1w")

    assert weeks["session_date"].to_list() == [date(2024, 1, 5), date(2024, 1, 8), date(2024, 2, 1)]
    assert weeks["volume"].to_list() == [40.0, 20.0, 20.0]


def test_months_are_calendar_months_of_session_dates() -> None:
    months = load_bars("ACME", "1M").select("session_date", "volume", "vwap").rows()

    assert months == [(date(2024, 1, 8), 60.0, 14.5), (date(2024, 2, 1), 20.0, 14.5)]


def test_a_week_is_whole_whatever_the_range_and_chosen_by_its_last_session() -> None:
    chosen = load_bars("ACME", "1w", "2024-01-05", "2024-01-08").select("session_date", "volume").rows()

    assert chosen == [(date(2024, 1, 5), 40.0)]


def test_what_no_day_of_a_week_has_is_null_in_the_week() -> None:
    assert load_bars("ACME", "1w")["trade_count"].null_count() == 3


def test_symbol_asked_for_twice_comes_once() -> None:
    assert load_bars(["ACME", "ACME"], "1d").height == 4


def test_session_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a session of regular, pre, post, was 'extended'"):
        load_bars("ACME", session="extended")  # type: ignore[arg-type]  # what is refused


def test_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a start before the end, was 2024-01-08 and 2024-01-04"):
        load_bars("ACME", "1d", "2024-01-08", "2024-01-04")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-04T15:00+00:00", "2024-01-04T14:30+00:00"),
        ("2024-01-04T09:45-05:00", "2024-01-04T14:35+00:00"),
        ("2024-03-01", "2024-01-04T14:35+00:00"),
    ],
)
def test_instants_that_run_backwards_are_refused_as_dates_are(start: str, end: str) -> None:
    with pytest.raises(ValueError, match="expected a start before the end"):
        load_bars("ACME", "1m", start, end)
    with pytest.raises(ValueError, match="expected a start before the end"):
        load_table("bars_1m", "ACME", start, end)


def test_bounds_may_be_the_first_and_the_last_instant_there_is() -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    assert load_bars("ACME", "1d", first, last).height == 4
    assert load_table("bars_1m", "ACME", first, last).height == 40
    with pytest.raises(ValueError, match=r"expected a time that UTC has as well, was 0001-01-01T00:00:00\+05:00"):
        load_bars("ACME", "1d", "0001-01-01T00:00+05:00")


def test_symbols_that_are_no_text_are_refused() -> None:
    with pytest.raises(TypeError, match=r"expected symbols as text, was \[700\]"):
        load_bars([700], "1d")  # type: ignore[list-item]  # what is refused


def test_configuration_may_be_a_path(tmp_path: Path) -> None:
    path = tmp_path / "marketpipe.yaml"

    assert load_bars("ACME", "1d", config=path).equals(load_bars("ACME", "1d", config=f"{path}"))
    assert load_table("bars_1d", "ACME", config=path).height == 4
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_bars("ACME", "1d", config=tmp_path / "nowhere.yaml")


def test_month_and_minute_are_not_confused() -> None:
    assert load_bars("ACME", "1m").height == 40


def test_symbol_of_digits_keeps_its_zeros() -> None:
    assert load_bars("0700", "5m")["symbol"].unique().to_list() == ["0700"]


def test_symbol_without_bars_has_no_rows() -> None:
    assert load_bars("BRK.B").is_empty()


@pytest.mark.parametrize(
    ("symbols", "timeframe", "market", "said"),
    [
        ("ACME", "7m", None, "expected a timeframe of 1m, 5m, 1d, 1w, 1M, was '7m'"),
        ("BTC/USD", "1w", None, "expected a timeframe of 1m, 1h, was '1w'"),
        ("NONE", "1d", None, "expected symbols of shares, pairs, was NONE"),
        ("acme", "1d", None, r"was acme \(did you mean ACME\?\)"),
        (["ACME", "BTC/USD"], "1d", None, "expected symbols of one market, was ACME, BTC/USD of several"),
        ([], "1d", None, "expected at least one symbol, was none"),
        ("ACME", "1d", "bonds", "expected a market of shares, pairs, was 'bonds'"),
        ("BTC/USD", "1h", "shares", "expected symbols of shares, was BTC/USD"),
    ],
)
def test_what_is_not_known_is_refused(symbols: str | list[str], timeframe: str, market: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_bars(symbols, timeframe, market=market)


def test_raw_bars_of_a_closed_day_are_in_their_table(config: Config) -> None:
    saturday = minutes("shares", "ACME", "2024-01-06", 3, config)
    days = [date(2024, 1, 6), date(2024, 1, 8)]
    write_bars(config.lake, "shares", "raw_bars_1m", saturday, ["ACME"], days)

    assert load_table("raw_bars_1m", "ACME", "2024-01-08", "2024-01-09").height == 3
    assert load_table("raw_bars_1m", "ACME", "2024-01-04", "2024-01-06").is_empty()


def test_symbol_that_was_taken_out_is_read_from_the_longer_bars_left(config: Config) -> None:
    rmtree(config.lake / "shares" / "bars_1m" / "symbol=ACME")
    kept = config.markets["shares"].model_copy(update={"symbols": ("0700", "BRK.B")})
    without = config.model_copy(update={"markets": {**config.markets, "shares": kept}})

    assert load_bars("ACME", "1d", config=without).height == 4


def test_a_number_is_no_date() -> None:
    with pytest.raises(TypeError, match="expected a date or a time such as 2024-01-02, was 20240102"):
        load_bars("ACME", "1d", start=20240102)  # type: ignore[arg-type]


def test_older_loader_gives_pandas_by_timestamp() -> None:
    frame = load_ohlcv("ACME", "2024-01-04", "2024-01-05", "5m")
    assert isinstance(frame, pd.DataFrame)

    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert str(frame.index[0]) == "2024-01-04 14:30:00+00:00"


def test_older_loader_takes_the_market_where_several_have_the_symbol(config: Config) -> None:
    path = config.path
    assert path is not None
    path.write_text(CONFIGURATION.replace("[BTC/USD]", "[BTC/USD, ACME]"))

    with pytest.raises(ValueError, match="expected one market with ACME, was shares, pairs: name the market"):
        load_ohlcv("ACME", timeframe="1m")
    assert len(load_ohlcv("ACME", timeframe="1m", market="shares")) == 40


def test_older_loader_gives_polars_with_timestamp_and_symbol() -> None:
    frame = load_ohlcv(["ACME", "0700"], timeframe="1d", as_polars=True)

    assert frame.columns == ["timestamp", "symbol", "open", "high", "low", "close", "volume"]


def test_sql_sees_a_view_per_table_and_symbols_as_text() -> None:
    answer = select(connect(), "SELECT symbol, count(*) AS n FROM shares.bars_5m GROUP BY 1 ORDER BY 1")

    assert answer.rows() == [("0700", 8), ("ACME", 8)]


def test_first_market_needs_no_schema() -> None:
    assert select(connect(), "SELECT count(*) FROM bars_1d").item() == 8


def test_percent_encoded_symbol_is_read_back() -> None:
    assert select(connect(), "SELECT DISTINCT symbol FROM pairs.bars_1h").item() == "BTC/USD"


def test_table_without_files_is_an_empty_view_with_its_columns() -> None:
    answer = select(connect(), "SELECT symbol, broken_rules FROM quarantined_bars_1m")

    assert answer.is_empty()
    assert answer.columns == ["symbol", "broken_rules"]


def test_sql_times_are_utc_whatever_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")

    answer = select(connect(), "SELECT CAST(min(ts) AS VARCHAR) FROM bars_1m")

    assert answer.item() == "2024-01-04 14:30:00+00"


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{lake}/out.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/out.csv'",
        "SELECT 1; DROP VIEW bars_1d",
        "ATTACH '{lake}/other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "",
    ],
)
def test_anything_but_one_select_is_refused(config: Config, sql: str) -> None:
    with pytest.raises(ValueError, match="expected exactly one SELECT"):
        select(connect(), sql.format(lake=config.lake))


@pytest.mark.parametrize("place", ["data", "footer"])
def test_flipped_bit_is_an_error_in_sql_and_in_frames(config: Config, place: str) -> None:
    (file,) = (config.lake / "shares" / "bars_1m" / "symbol=ACME").glob("2024-01.parquet")
    content = bytearray(file.read_bytes())
    content[300 if place == "data" else -40] ^= 1
    file.write_bytes(content)

    with pytest.raises((LakeError, OSError, duckdb.Error)):
        select(connect(), "SELECT * FROM bars_1m")
    with pytest.raises(LakeError):
        load_bars("ACME")


def test_lake_may_lie_below_a_folder_whose_name_looks_like_a_pattern(config: Config, tmp_path: Path) -> None:
    moved = config.model_copy(update={"lake": config.lake.rename(tmp_path / "lake [1]*?")})

    assert select(connect(moved), "SELECT count(*) FROM bars_1d").item() == 8


def test_answer_of_a_type_no_frame_has_is_refused() -> None:
    with pytest.raises(ValueError, match="expected columns of types that a frame has"):
        select(connect(), "SELECT max(ts) - min(ts) FROM bars_1m")


OUTSIDE = (
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM read_text('{lake}/../secret.csv')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_csv('{link}')",
    "SELECT * FROM read_parquet('{lake}/**/*.parquet')",
    "SELECT * FROM 'http://127.0.0.1:9/bars.csv'",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM sqlite_scan('{secret}', 'a')",
    "WITH gone AS (DELETE FROM bars_1d RETURNING *) SELECT * FROM gone",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{secret}'' ')",
    "SELECT getenv('HOME')",
    "SELECT * FROM of_the_caller",
)
"""SELECTs that ask for what is not the lake's bars."""


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_but_the_lake_can_be_read_and_nothing_written(config: Config, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("canary\n1\n")
    (tmp_path / "link.csv").symlink_to(secret)
    of_the_caller = pl.DataFrame({"canary": [1]})
    asked = sql.format(secret=secret, lake=config.lake, folder=tmp_path, link=tmp_path / "link.csv")

    with pytest.raises((duckdb.Error, ValueError)):
        select(connect(), asked)
    assert secret.read_text() == "canary\n1\n"
    assert select(connect(), "SELECT count(*) FROM bars_1d").item() == 8
    assert of_the_caller.height == 1


@pytest.mark.parametrize("setting", ["enable_external_access = true", "memory_limit = '1TB'", "temp_directory = '.'"])
def test_settings_of_a_connection_are_locked(setting: str) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        connect().execute(f"SET {setting}")


ENDLESS = "SELECT count(*) FROM range(1_000_000_000) a, range(1_000_000) b WHERE a.range * b.range % 7 = 3"


def test_a_query_is_interrupted_when_its_time_is_over_and_the_connection_goes_on() -> None:
    connection = connect()

    with pytest.raises(TimeoutError, match=r"expected an answer within 0\.2 s, was none"):
        select(connection, ENDLESS, seconds=0.2)
    assert select(connection, "SELECT count(*) FROM bars_1d").item() == 8


def test_a_query_that_needs_more_memory_ends_and_spills_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))

    with pytest.raises(duckdb.OutOfMemoryException):
        select(connect(memory="50MB"), "SELECT * FROM range(20_000_000) ORDER BY hash(range)")
    assert set(tmp_path.rglob("*")) == before


def test_memory_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a memory such as 500MB or 4GB, was 'much'"):
        connect(memory="much")


def test_an_answer_of_too_many_rows_is_an_error_and_is_not_fetched_whole() -> None:
    with pytest.raises(ValueError, match="expected at most 5 rows, was more"):
        select(connect(), "SELECT * FROM range(1_000_000_000_000)", most_rows=5)
    assert select(connect(), "SELECT * FROM range(5)", most_rows=5).height == 5


def test_a_query_is_explained_and_not_run() -> None:
    assert "RANGE" in explain(connect(), ENDLESS).upper()


@pytest.mark.parametrize("sql", ["ANALYZE SELECT 1", "EXPLAIN ANALYZE SELECT 1", "COPY (SELECT 1) TO 'out.csv'"])
def test_only_a_select_is_explained(sql: str) -> None:
    with pytest.raises((ValueError, duckdb.ParserException)):
        explain(connect(), sql)
