"""What a run that judges bars leaves beside them: reports, summaries, and what waivers and repairs did."""

from pathlib import Path

import dagster as dg
import polars as pl

from marketpipe_assets.config import load_config
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.reports import read_report
from marketpipe_assets_tests.defs.location import MARKET, Location, checks_of, regular_minutes

DAY = "2024-01-02"
WAIVER = """\
- symbol: ACME
  first: 2024-01-02
  rule: impossible_tick
  reason: the exchange let it stand
  author: ana@example.org
  expires: 2099-01-01
"""
REPAIR = """\
- {symbol: ACME, ts: "2024-01-02T14:40Z", set: {high: 10.02}, reason: cancelled, author: bob@example.org}
- {symbol: ACME, ts: "2024-01-02T21:40Z", set: {high: 10.02}, reason: cancelled, author: bob@example.org}
- {symbol: ACME, ts: "2024-01-03T14:40Z", set: {high: 10.02}, reason: cancelled, author: bob@example.org}
"""


def with_spike() -> pl.DataFrame:
    """Lively minutes of a day, of which the one at 09:40 reaches five times its price."""
    minute = pl.int_range(pl.len())
    reach = pl.when(minute == 10).then(40).otherwise(0.01 * (minute % 2))
    return regular_minutes(DAY).with_columns(high=pl.col("high") + reach)


def materialized(folder: Path, waivers: str = "", repairs: str = "") -> tuple[Location, dg.ExecuteInProcessResult]:
    location = Location(folder)
    (folder / "waivers.yml").write_text(waivers)
    (folder / "repairs.yml").write_text(repairs)
    location.config = load_config(folder / "marketpipe.yaml")
    location.give("ACME", with_spike())
    result = location.run(f"{DAY}|ACME")
    assert result.success
    return location, result


def stored(location: Location, table: str) -> pl.DataFrame:
    market = location.config.markets[MARKET]
    return read_bars(location.config.lake, MARKET, table, ["ACME"], market.sessions.dates[:2])


def said(result: dg.ExecuteInProcessResult, table: str = "bars_1m") -> dict[str, dg.MetadataValue]:
    by_table = {each.asset_key.path[-1]: each for each in result.get_asset_materialization_events() if each.asset_key}
    return dict(by_table[table].materialization.metadata)


def test_a_run_writes_a_report_beside_the_lake_and_says_where(tmp_path: Path) -> None:
    location, result = materialized(tmp_path)

    (path,) = (tmp_path / "validation_reports").rglob("*.csv")
    assert path.relative_to(tmp_path).parts == ("validation_reports", result.run_id, f"{result.run_id}_ACME.csv")
    assert read_report(path)["rule"].to_list() == ["impossible_tick", "bad_tick"]
    assert said(result)["report"].value == str(path.parent)
    assert not list(location.config.lake.rglob("*.csv"))


def test_the_summary_counts_bars_and_rules_with_what_a_good_bar_holds(tmp_path: Path) -> None:
    _, result = materialized(tmp_path)

    summary = str(said(result, "quarantined_bars_1m")["summary"].value)
    assert summary.startswith("390 raw, 389 valid, 1 quarantined, 0 waived, 0 repaired.")
    assert "| impossible_tick | ERROR | 1 | 0 | no price is many times" in summary


def test_a_clean_day_has_a_report_of_its_header(tmp_path: Path) -> None:
    _, result = materialized(tmp_path, repairs=REPAIR)

    (path,) = (tmp_path / "validation_reports").rglob("*.csv")
    assert path.read_text().count("\n") == 1
    assert "No rule is broken." in str(said(result)["summary"].value)


def test_a_waived_bar_is_stored_as_valid_with_its_flags(tmp_path: Path) -> None:
    location, result = materialized(tmp_path, WAIVER)

    flagged = stored(location, "bars_1m").filter(pl.col("flags").is_not_null())
    assert flagged["flags"].to_list() == [["impossible_tick", "bad_tick", "waived"]]
    assert stored(location, "quarantined_bars_1m").is_empty()
    assert "390 valid, 0 quarantined, 1 waived" in str(said(result)["summary"].value)


def test_a_repaired_bar_is_stored_with_its_values_and_raw_keeps_the_providers(tmp_path: Path) -> None:
    location, _ = materialized(tmp_path, repairs=REPAIR)

    flagged = stored(location, "bars_1m").filter(pl.col("flags").is_not_null())
    assert flagged.select("high", "flags").rows() == [(10.02, ["repaired"])]
    assert stored(location, "raw_bars_1m")["high"].max() == 50
    assert stored(location, "bars_1d")["high"].to_list() == [10.02]


def test_a_repair_whose_bar_is_not_there_is_reported_by_the_run_of_its_session(tmp_path: Path) -> None:
    _, result = materialized(tmp_path, repairs=REPAIR)

    summary = str(said(result)["summary"].value)
    assert "No bar for the repair of ACME at 2024-01-02 21:40 UTC (repairs.yml:2)." in summary
    assert "2024-01-03" not in summary


def test_taking_waivers_and_repairs_away_and_judging_again_leads_back(tmp_path: Path) -> None:
    location, _ = materialized(tmp_path, WAIVER, REPAIR)
    (tmp_path / "waivers.yml").unlink()
    (tmp_path / "repairs.yml").unlink()
    location.config = load_config(tmp_path / "marketpipe.yaml")

    location.run(f"{DAY}|ACME", job="shares_judge")

    assert stored(location, "quarantined_bars_1m").select("high").rows() == [(50,)]
    assert stored(location, "bars_1m")["flags"].drop_nulls().is_empty()


def test_crossed_quotes_are_a_warning_of_markets_that_have_both_sides(tmp_path: Path) -> None:
    location = Location(tmp_path)
    path = tmp_path / "marketpipe.yaml"
    path.write_text(path.read_text().replace("[ACME, BOLT]", "[EURUSD.ask, EURUSD.bid]"))
    location.config = load_config(path)
    location.give("EURUSD.bid", regular_minutes(DAY, price=1.3))
    location.give("EURUSD.ask", regular_minutes(DAY, price=1.2))

    bid = checks_of(location.run(f"{DAY}|EURUSD.bid"))["bars_1m quotes_not_crossed"]
    ask = checks_of(location.run(f"{DAY}|EURUSD.ask"))["bars_1m quotes_not_crossed"]

    assert bid.passed  # the other side is not there yet
    assert (ask.passed, ask.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert ask.description == "in 390 of 390 minutes the ask closes below the bid"


def test_markets_without_pairs_have_no_check_of_quotes(tmp_path: Path) -> None:
    _, result = materialized(tmp_path)

    assert "bars_1m quotes_not_crossed" not in checks_of(result)
