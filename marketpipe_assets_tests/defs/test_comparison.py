"""A market's bars against another source: through real Dagster, over real files."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from marketpipe_assets.bars.reasons import REASONS
from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.cli.app import app
from marketpipe_assets.config import Config, load_config
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.retention import planned_pruning, prune
from marketpipe_assets.lake.facts import fetches_of
from marketpipe_assets.lake.prune import Policy
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.lake.verify import damaged, files_of
from marketpipe_assets.query import connect, select
from marketpipe_assets_tests.defs.location import MARKET, checks_of, failures_of, regular_minutes

TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)
KEY = "2024-01-02|ACME"
PRICED = "open: open, high: high, low: low, close: close, volume: volume"
CONFIGURATION = f"""
config_version: 1
lake: ./lake
providers:
  given: {{type: files, format: parquet, root: ./given, path: '{{symbol}}.parquet', timezone: UTC, label: start,
           columns: {{ts: ts, {PRICED}}}}}
  other: {{type: files, format: csv, root: ./other, path: '{{symbol}}.csv', timezone: UTC, label: start,
           columns: {{ts: ts, {PRICED}}}, daily_path: 'days/{{symbol}}.csv', daily_columns: {{date: day, {PRICED}}}}}
markets:
  shares:
    calendar: XNYS
    asset_class: equity
    provider: given
    symbols: [ACME, BOLT]
    start: 2024-01-02
    timeframes: [5m, 1d]
    tie_out: {{provider: other, tolerances: {{volume: 0.01}}}}
    reconcile: {{provider: other, tolerance: 0.01}}
"""


class Location:
    """A market whose bars come from one folder and what they are compared with from another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("given", "other/days"):
            (folder / name).mkdir(parents=True)
        (folder / "marketpipe.yaml").write_text(CONFIGURATION)
        self.config: Config = load_config(folder / "marketpipe.yaml")
        self.instance = dg.DagsterInstance.ephemeral()

    def give(self, minutes: pl.DataFrame, symbol: str = "ACME") -> None:
        minutes.write_parquet(self.folder / "given" / f"{symbol}.parquet")

    def have(self, minutes: pl.DataFrame, symbol: str = "ACME") -> None:
        minutes.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(
            self.folder / "other" / f"{symbol}.csv"
        )

    def have_days(self, *rows: str, symbol: str = "ACME") -> None:
        text = "\n".join(("day,open,high,low,close,volume", *rows, ""))
        (self.folder / "other" / "days" / f"{symbol}.csv").write_text(text)

    def run(self, job: str, key: str = KEY) -> dg.ExecuteInProcessResult:
        found = definitions_of(self.config).resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, partition_key=key, raise_on_error=False)

    def compared(self) -> Mapping[str, dg.AssetCheckEvaluation]:
        assert self.run("shares_ingest").success
        result = self.run("shares_compare")
        assert result.success
        return checks_of(result)

    def held(self, table: str) -> pl.DataFrame:
        return read_bars(self.config.lake, MARKET, table, ["ACME"], [TUESDAY, WEDNESDAY])


@pytest.fixture
def location(tmp_path: Path) -> Location:
    location = Location(tmp_path)
    location.give(regular_minutes("2024-01-02"))
    location.have(regular_minutes("2024-01-02"))
    location.have_days("2024-01-02,10,10,10,10,39000")
    return location


def test_days_and_minutes_that_are_alike_pass(location: Location) -> None:
    checks = location.compared()

    assert checks["vendor_bars_1d tie_out"].passed
    assert checks["vendor_bars_1d tie_out"].description == (
        "1 of 1 days tie out with other; 0 only it has, 0 only we have"
    )
    assert checks["second_bars_1m agreement"].passed
    assert checks["second_bars_1m agreement"].metadata["both"].value == 390


def test_vendor_day_is_kept_at_local_midnight_as_it_was_given(location: Location) -> None:
    location.compared()

    (day,) = location.held("vendor_bars_1d").rows(named=True)

    assert (day["ts"], day["session_date"]) == (location.held("bars_1d")["ts"][0], TUESDAY)
    assert (day["open"], day["volume"], day["session"], day["provider"]) == (10.0, 39_000.0, "regular", "other")


def test_what_is_asked_for_is_replaced_where_minutes_were_pruned(location: Location) -> None:
    location.compared()
    catalog, market = Catalog(location.config.catalog_url), location.config.markets[MARKET]
    old = Policy(dict.fromkeys(("raw_bars_1m", "bars_1m"), WEDNESDAY))
    cuts = planned_pruning(location.config.lake, market, old).cuts
    prune(location.config.lake, catalog, location.instance, market, cuts, "pruning")
    location.have_days("2024-01-02,11,11,11,11,39000")
    location.have(regular_minutes("2024-01-02", price=11.0))

    result = location.run("shares_compare")

    assert result.success, failures_of(result)
    assert {cut.file.table for cut in cuts} == {"raw_bars_1m", "bars_1m"}
    assert location.held("vendor_bars_1d")["close"].to_list() == [11.0]
    assert location.held("second_bars_1m")["close"].unique().to_list() == [11.0]
    assert location.held("bars_1d")["close"].to_list() == [10.0]


def test_day_that_does_not_tie_out_warns_with_the_differences(location: Location) -> None:
    location.have_days("2024-01-02,10.5,10,10,10,39100")

    check = location.compared()["vendor_bars_1d tie_out"]

    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["differing_days"].value == 1
    assert "| ACME | 2024-01-02 | open | 10.0 | 10.5 |" in str(check.metadata["differences"].value)
    assert "volume" not in str(check.metadata["differences"].value)
    assert location.held("bars_1d")["open"].to_list() == [10.0]


def test_day_that_could_not_be_compared_is_no_pass(location: Location) -> None:
    location.have_days("2024-01-03,10,10,10,10,39000")

    check = location.compared()["vendor_bars_1d tie_out"]

    assert not check.passed
    assert check.description == "0 of 0 days tie out with other; 0 only it has, 1 only we have"


def test_minutes_that_one_of_two_lacks_warn_and_are_counted(location: Location) -> None:
    location.give(regular_minutes("2024-01-02", 300))

    check = location.compared()["second_bars_1m agreement"]

    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["share"].value == pytest.approx(300 / 390)
    assert (check.metadata["only_second"].value, check.metadata["only_first"].value) == (90, 0)
    assert "| ACME | 2024-01-02 | 300 | 0 | 90 | 0 | 0.0 |" in str(check.metadata["symbol_days"].value)


def test_prices_that_are_apart_warn_with_the_minutes(location: Location) -> None:
    dearer = pl.when(pl.int_range(pl.len()) < 30).then(12.0).otherwise(pl.col("high")).alias("high")
    location.have(regular_minutes("2024-01-02").with_columns(dearer))

    check = location.compared()["second_bars_1m agreement"]

    assert not check.passed
    assert check.metadata["differing"].value == 30
    assert "| ACME | 2024-01-02 | 2024-01-02 14:30:00+00:00 | high | 10.0 | 12.0 |" in str(
        check.metadata["differences"].value
    )


def test_second_files_say_what_was_asked_for_also_where_there_was_nothing(location: Location) -> None:
    location.compared()
    result = location.run("shares_compare", "2024-01-03|ACME")

    facts = fetches_of(location.config.lake, MARKET, ["ACME"], [TUESDAY, WEDNESDAY], "second_bars_1m")

    assert facts["session_date"].to_list() == [TUESDAY, WEDNESDAY]
    assert facts["run_id"][1] == result.run_id
    assert not (location.config.lake / MARKET / "superseded_bars_1m").exists()


def test_hole_that_the_second_provider_has_as_well_is_no_gap_of_the_vendors(location: Location) -> None:
    whole = regular_minutes("2024-01-02")
    location.give(pl.concat([whole[:100], whole[120:]]))
    location.have(pl.concat([whole[:100], whole[105:]]))
    assert location.run("shares_ingest").success
    assert reasons(location) == {"vendor_gap": 20}

    assert location.run("shares_compare").success

    assert reasons(location) == {"no_trade": 5, "vendor_gap": 15}
    rebuilt = CliRunner().invoke(app, ["coverage", "rebuild", "--config", str(location.config.path)])
    assert rebuilt.exit_code == 0, rebuilt.output
    assert reasons(location) == {"no_trade": 5, "vendor_gap": 15}


def reasons(location: Location) -> Mapping[str, int]:
    days = symbol_days_of(Catalog(location.config.catalog_url), MARKET)
    missing = days.select(REASONS[:-1]).sum().row(0, named=True)
    return {reason: minutes for reason, minutes in missing.items() if minutes}


def test_partition_of_a_month_compares_each_of_its_days(tmp_path: Path) -> None:
    location = Location(tmp_path)
    path = location.folder / "marketpipe.yaml"
    path.write_text(CONFIGURATION + "    partition: {symbols: 2, dates: month}\n")
    location.config = load_config(path)
    two_days = pl.concat([regular_minutes("2024-01-02"), regular_minutes("2024-01-03")])
    for symbol in ("ACME", "BOLT"):
        location.give(two_days, symbol)
        location.have(two_days, symbol)
        location.have_days("2024-01-02,10,10,10,10,39000", "2024-01-03,10,11,10,10,39000", symbol=symbol)

    assert location.run("shares_ingest", "2024-01-01|group-00").success
    checks = checks_of(location.run("shares_compare", "2024-01-01|group-00"))

    assert checks["vendor_bars_1d tie_out"].metadata["compared_days"].value == 4
    assert checks["vendor_bars_1d tie_out"].metadata["differing_days"].value == 2
    assert checks["second_bars_1m agreement"].metadata["both"].value == 4 * 390


def test_ingest_asks_for_nothing_to_compare(location: Location) -> None:
    result = location.run("shares_ingest")

    assert result.success
    assert location.held("vendor_bars_1d").is_empty()
    assert location.held("second_bars_1m").is_empty()
    assert not {"vendor_bars_1d tie_out", "second_bars_1m agreement"} & checks_of(result).keys()


def test_vendor_that_cannot_answer_fails_the_comparison_alone(location: Location) -> None:
    location.have_days("9 January,10,10,10,10,39000")
    location.run("shares_ingest")

    result = location.run("shares_compare")

    assert not result.success
    assert any("expected a date such as 2024-01-02" in failure for failure in failures_of(result))
    assert location.held("bars_1d").height == 1


def test_files_of_what_is_compared_are_the_lakes_and_have_views(location: Location) -> None:
    location.compared()

    files = files_of(location.config.lake, location.config.lake)
    counts = select(
        connect(location.config),
        "SELECT (SELECT count(*) FROM vendor_bars_1d) AS days, (SELECT count(*) FROM shares.second_bars_1m) AS minutes",
    )

    assert not files.foreign
    assert list(damaged(location.config.lake, files.placed)) == []
    assert counts.rows() == [(1, 390)]


def test_market_that_compares_nothing_has_no_such_assets(tmp_path: Path) -> None:
    location = Location(tmp_path)
    plain = location.config.markets[MARKET].model_copy(update={"tie_out": None, "reconcile": None})
    found = definitions_of(location.config.model_copy(update={"markets": {MARKET: plain}}))

    keys = {key.path[-1] for key in found.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw_bars_1m", "bars_1d"} <= keys
    assert not {"vendor_bars_1d", "second_bars_1m"} & keys


def test_tie_out_with_a_provider_without_days_is_refused_when_loaded(location: Location) -> None:
    path = location.folder / "marketpipe.yaml"
    path.write_text(
        CONFIGURATION.replace("  other: {type: files", "  thin: {type: kraken}\n  other: {type: files").replace(
            "tie_out: {provider: other", "tie_out: {provider: thin"
        )
    )

    with pytest.raises(ValueError, match="shares: tie_out: expected a provider that gives daily bars, was kraken"):
        definitions_of(load_config(path))


def test_synthetic_market_ties_out_but_for_what_its_faults_did(tmp_path: Path) -> None:
    (tmp_path / "marketpipe.yaml").write_text(
        """
config_version: 1
providers: {synthetic: {faults: {price_jump: 1}}, clean: {type: synthetic}}
markets:
  shares: {calendar: XNYS, asset_class: equity, provider: synthetic, symbols: [ACME, BOLT], start: 2024-01-02,
           tie_out: {provider: clean}, reconcile: clean}
"""
    )
    config, instance = load_config(tmp_path / "marketpipe.yaml"), dg.DagsterInstance.ephemeral()
    for job in ("shares_ingest", "shares_compare"):
        result = definitions_of(config).resolve_job_def(job).execute_in_process(instance=instance, partition_key=KEY)

    checks = checks_of(result)
    assert "| close |" in str(checks["vendor_bars_1d tie_out"].metadata["differences"].value)
    assert checks["second_bars_1m agreement"].metadata["differing"].value not in (None, 0)
