from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from marketpipe_assets.catalog.restatements import restatements_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.lake.facts import fetches_of
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.defs.location import MARKET, Location, checks_of, failures_of, regular_minutes

TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)


def held(location: Location, table: str, symbol: str = "ACME") -> pl.DataFrame:
    return read_bars(location.config.lake, MARKET, table, [symbol], [TUESDAY, WEDNESDAY])


def test_one_partition_fills_every_table(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))

    result = location.run("2024-01-02|ACME")

    assert result.success
    assert {table: held(location, table).height for table in ("raw_bars_1m", "bars_1m", "bars_5m", "bars_1d")} == {
        "raw_bars_1m": 390,
        "bars_1m": 390,
        "bars_5m": 78,
        "bars_1d": 1,
    }
    assert held(location, "bars_1d")["volume"].to_list() == [39_000.0]


def test_a_range_fills_every_symbol_on_every_session_in_one_run(tmp_path: Path) -> None:
    location = Location(tmp_path)
    for symbol in ("ACME", "BOLT"):
        location.give(symbol, pl.concat([regular_minutes("2024-01-02"), regular_minutes("2024-01-03")]))

    result = location.run("2024-01-02|ACME...2024-01-03|BOLT")

    assert result.success
    materialized = location.instance.get_materialized_partitions(dg.AssetKey([MARKET, "bars_1d"]))
    assert materialized == {f"{day}|{symbol}" for day in (TUESDAY, WEDNESDAY) for symbol in ("ACME", "BOLT")}
    assert held(location, "bars_1d", "BOLT")["session_date"].to_list() == [TUESDAY, WEDNESDAY]


def test_partitions_run_alone_or_together_leave_the_same_bars(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "together").mkdir()
    alone, together = Location(tmp_path / "alone"), Location(tmp_path / "together")
    for location in (alone, together):
        location.give("ACME", pl.concat([regular_minutes("2024-01-02", 7), regular_minutes("2024-01-03", 9)]))

    alone.run("2024-01-03|ACME")
    alone.run("2024-01-02|ACME")
    together.run("2024-01-02|ACME...2024-01-03|ACME")

    for table in ("raw_bars_1m", "bars_1m", "bars_5m", "bars_1d"):
        assert held(alone, table).equals(held(together, table))


def test_reversed_range_of_symbols_fails_and_says_why(tmp_path: Path) -> None:
    location = Location(tmp_path)

    result = location.run("2024-01-02|BOLT...2024-01-03|ACME")

    assert not result.success
    assert failures_of(result)[0].startswith("expected at least one partition, was none: a range must run forward")


def test_range_above_the_limit_is_refused_with_the_command_that_plans_it(tmp_path: Path) -> None:
    location = Location(tmp_path, "max_symbol_days_per_run: 3")

    result = location.run("2024-01-02|ACME...2024-01-03|BOLT")

    assert not result.success
    assert failures_of(result)[0].endswith(
        "marketpipe ingest --market shares --symbols ACME,BOLT --start 2024-01-02 --end 2024-01-04"
    )


def test_range_of_longer_bars_above_the_limit_is_refused_too(tmp_path: Path) -> None:
    location = Location(tmp_path, "max_symbol_days_per_run: 3")

    result = location.run("2024-01-02|ACME...2024-01-03|BOLT", job="shares_judge")

    assert not result.success
    assert "marketpipe aggregate --market shares" in str(result.all_events)


def test_session_that_is_not_over_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    location = Location(tmp_path, calendar="24/7")
    day = datetime.now(UTC).date()
    location.give("ACME", regular_minutes(f"{day}", 1))

    result = location.run(f"{day}|ACME")

    assert not result.success
    assert failures_of(result)[0].endswith("not published yet")
    assert not location.config.lake.exists()


def test_symbol_the_vendor_has_no_bars_of_leaves_an_empty_partition(tmp_path: Path) -> None:
    location = Location(tmp_path)

    result = location.run("2024-01-02|ACME")

    assert result.success
    assert held(location, "raw_bars_1m").is_empty()
    assert not checks_of(result)["coverage coverage"].passed


def test_bad_bars_are_quarantined_with_their_rules_and_block_nothing(tmp_path: Path) -> None:
    location = Location(tmp_path)
    broken = pl.when(pl.int_range(pl.len()) == 5).then(9.0).otherwise(pl.col("high"))
    location.give("ACME", regular_minutes("2024-01-02").with_columns(broken.alias("high")))

    result = location.run("2024-01-02|ACME")

    assert result.success
    assert held(location, "quarantined_bars_1m")["broken_rules"].to_list() == [["ohlc_logic"]]
    assert held(location, "bars_1d")["volume"].to_list() == [38_900.0]
    assert checks_of(result)["bars_1m rows_conserved"].description == "390 raw = 389 valid + 1 quarantined"


def test_longer_bars_wait_when_too_many_bars_are_bad(tmp_path: Path) -> None:
    location = Location(tmp_path, "max_quarantined_share: 0.1")
    location.give("ACME", regular_minutes("2024-01-02").with_columns(pl.lit(-1.0).alias("volume")))

    result = location.run("2024-01-02|ACME")

    assert not result.success
    assert not checks_of(result)["quarantined_bars_1m quarantined_share"].passed
    assert held(location, "quarantined_bars_1m").height == 390
    assert held(location, "bars_1d").is_empty()


def test_missing_minutes_warn_and_do_not_block(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02", 195))

    result = location.run("2024-01-02|ACME")

    coverage = checks_of(result)["coverage coverage"]
    assert result.success
    assert not coverage.passed
    assert coverage.severity is dg.AssetCheckSeverity.WARN
    assert coverage.description == "50.00% of 390 regular minutes are there; 1 of 1 symbol-days have holes"


def test_day_that_shrank_keeps_its_bars_and_blocks(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")
    location.give("ACME", regular_minutes("2024-01-02", 100))

    result = location.run("2024-01-02|ACME")

    assert not result.success
    assert not checks_of(result)["raw_bars_1m not_shrunk"].passed
    assert held(location, "raw_bars_1m").height == 390


def test_day_may_shrink_when_told_so(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")
    location.give("ACME", regular_minutes("2024-01-02", 100))

    result = location.run(
        "2024-01-02|ACME", run_config={"ops": {"shares__raw_bars_1m": {"config": {"allow_shrink": True}}}}
    )

    assert result.success
    assert held(location, "bars_1m").height == 100


def test_bar_on_a_closed_day_is_quarantined_by_the_partition_of_the_next_session(tmp_path: Path) -> None:
    location = Location(tmp_path)
    saturday = regular_minutes("2024-01-06", 1)
    location.give("ACME", pl.concat([saturday, regular_minutes("2024-01-08")]))

    result = location.run("2024-01-08|ACME")

    closed = read_bars(location.config.lake, MARKET, "quarantined_bars_1m", ["ACME"], [date(2024, 1, 6)])
    assert result.success
    assert closed["broken_rules"].to_list() == [["outside_session"]]


def test_missing_key_ends_the_run_at_once_and_names_the_variables(tmp_path: Path) -> None:
    location = Location(tmp_path, provider="{type: alpaca, feed: sip}")

    result = location.run("2024-01-02|ACME")

    assert failures_of(result)[0].startswith(
        "AuthFailed: given: expected (APCA_API_KEY_ID or ALPACA_KEY) and (APCA_API_SECRET_KEY or ALPACA_SECRET) "
        "in the environment, was not set"
    )
    assert not any(event.is_step_up_for_retry for event in result.all_events)


def test_file_that_cannot_be_trusted_fails_its_partition_and_stores_nothing(tmp_path: Path) -> None:
    location = Location(tmp_path)
    (location.vendor / "ACME.parquet").write_bytes(b"PAR1")

    result = location.run("2024-01-02|ACME")

    assert "ACME.parquet" in failures_of(result)[0]
    assert not location.config.lake.exists()


def test_bars_come_from_the_fallback_where_the_first_provider_has_none(tmp_path: Path) -> None:
    location = Location(tmp_path, "fallbacks: [other]")
    location.give("ACME", regular_minutes("2024-01-02"))

    result = location.run("2024-01-02|ACME...2024-01-03|ACME")

    origins = held(location, "raw_bars_1m").select("session_date", "provider").unique().sort("session_date")
    assert result.success
    assert origins["provider"].to_list() == ["given", "other"]


def test_judging_again_rebuilds_what_follows_without_asking_the_provider(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")
    (location.vendor / "ACME.parquet").unlink()
    for file in (location.config.lake / MARKET / "bars_1d").rglob("*.parquet"):
        file.unlink()

    result = location.run("2024-01-02|ACME", job="shares_judge")

    assert result.success
    assert held(location, "bars_1d").height == 1


def test_check_finds_longer_bars_that_do_not_fit_their_minutes(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")
    from marketpipe_assets.lake.merge import write_bars

    wrong = held(location, "bars_5m").with_columns(pl.col("volume") + 1)
    write_bars(location.config.lake, MARKET, "bars_5m", wrong, ["ACME"], [TUESDAY])

    result = location.run_checks("shares_resampled_checks")

    assert not checks_of(result)["bars_5m volume_conserved"].passed
    assert checks_of(result)["bars_1d volume_conserved"].passed


def test_rows_that_went_missing_at_rest_are_found(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME")
    from marketpipe_assets.lake.merge import write_bars

    write_bars(location.config.lake, MARKET, "bars_1m", held(location, "bars_1m").head(389), ["ACME"], [TUESDAY])

    result = location.run_checks("shares_validated_checks")

    assert not checks_of(result)["bars_1m rows_conserved"].passed


def test_every_materialization_says_what_it_holds(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02", 3))

    result = location.run("2024-01-02|ACME")

    (event,) = result.asset_materializations_for_node("shares__raw_bars_1m")
    metadata = {name: value.value for name, value in event.metadata.items()}
    first = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert metadata["dagster/row_count"] == 3
    assert metadata["symbols"] == "1: ACME"
    assert metadata["sessions"] == "1: 2024-01-02 to 2024-01-02"
    assert metadata["first_ts"] == first.timestamp()
    assert metadata["last_ts"] == (first + timedelta(minutes=2)).timestamp()
    assert "| ACME | 2024-01-02 14:30:00+00:00 |" in str(metadata["preview"])


def test_figures_of_a_range_stand_on_the_materialization_that_is_stored_last(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", pl.concat([regular_minutes("2024-01-02", 3), regular_minutes("2024-01-03", 2)]))

    result = location.run("2024-01-02|ACME...2024-01-03|ACME")

    for step in ("shares__raw_bars_1m", "shares_validated", "shares_resampled", "shares__coverage"):
        by_asset = dict[dg.AssetKey, list[dg.AssetMaterialization]]()
        for event in result.asset_materializations_for_node(step):
            by_asset.setdefault(event.asset_key, []).append(event)
        assert by_asset
        for first, last in by_asset.values():
            assert set(first.metadata) <= {"fetched_at"}
            assert len(last.metadata) > 3


def test_raw_files_say_which_run_fetched_a_day_and_since_when_it_stands(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02", 3))
    before = datetime.now(UTC)

    first = location.run("2024-01-02|ACME...2024-01-03|ACME")
    location.run("2024-01-02|ACME...2024-01-03|ACME")

    facts = fetches_of(location.config.lake, MARKET, ["ACME"], [TUESDAY, WEDNESDAY])
    assert facts.select("session_date", "run_id").rows() == [(day, first.run_id) for day in (TUESDAY, WEDNESDAY)]
    assert facts["fetched_at"].n_unique() == 1
    assert before <= facts["fetched_at"][0] <= datetime.now(UTC)


def test_restated_day_is_stored_and_the_run_says_what_changed(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02", 100))
    location.run("2024-01-02|ACME")
    dearer = pl.when(pl.int_range(pl.len()) < 2).then(12.5).otherwise(pl.col("high", "close")).name.keep()
    location.give("ACME", regular_minutes("2024-01-02", 110).with_columns(dearer))

    result = location.run("2024-01-02|ACME")

    (event,) = result.asset_materializations_for_node("shares__raw_bars_1m")
    said = {name: value.value for name, value in event.metadata.items()}
    assert result.success
    assert [said[name] for name in ("restated_symbol_days", "bars_changed", "bars_added", "bars_removed")] == [
        1,
        2,
        10,
        0,
    ]
    assert said["largest_change"] == 0.25
    assert "| ACME | 2024-01-02 |" in str(said["restatements"])
    assert held(location, "superseded_bars_1m")["close"].unique().to_list() == [10.0]
    assert held(location, "bars_1m")["close"].max() == 12.5


def test_restatement_is_written_to_the_catalogue(tmp_path: Path) -> None:
    location = Location(tmp_path)
    for price in (10.0, 11.0):
        location.give("ACME", regular_minutes("2024-01-02", 5, price))
        result = location.run("2024-01-02|ACME...2024-01-03|BOLT")

    (row,) = restatements_of(Catalog(location.config.catalog_url), MARKET).rows(named=True)

    assert (row["symbol"], row["session_date"], row["run_id"]) == ("ACME", TUESDAY, result.run_id)
    assert (row["bars_before"], row["changed"], row["added"], row["removed"]) == (5, 5, 0, 0)
    assert row["largest_change"] == pytest.approx(0.1)
    assert row["fetched_at"] < row["superseded_at"]


def test_first_and_equal_answers_are_no_restatements(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02", 5))
    location.run("2024-01-02|ACME")

    result = location.run("2024-01-02|ACME")

    (event,) = result.asset_materializations_for_node("shares__raw_bars_1m")
    assert event.metadata["restated_symbol_days"].value == 0
    assert event.metadata["restatements"].value == "no rows"
    assert restatements_of(Catalog(location.config.catalog_url), MARKET).is_empty()
