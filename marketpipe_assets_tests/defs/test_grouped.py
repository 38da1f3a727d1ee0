"""A market whose partitions hold groups and months does the same work as one of symbols and sessions."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.partitions import Grid, Selection, grid_of
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.defs.location import MARKET, Location, checks_of, failures_of, regular_minutes

TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)
GROUPED = "partition: {symbols: 2, dates: month}"
ALL_OF_JANUARY = "2024-01-02|ACME...2024-01-31|BOLT"
MONTH = "2024-01-01|group-00"


def location(folder: Path, more: str = "") -> Location:
    folder.mkdir()
    made = Location(folder, more)
    for symbol, price in (("ACME", 10.0), ("BOLT", 20.0)):
        made.give(symbol, pl.concat(regular_minutes(f"2024-01-{day:02}", price=price) for day in (2, 3, 16, 31)))
    return made


def run(location: Location, selection: Selection, job: str = "shares_ingest") -> dg.ExecuteInProcessResult:
    """A run as the command line and the schedules start it."""
    return (
        definitions_of(location.config)
        .resolve_job_def(job)
        .execute_in_process(
            instance=location.instance, raise_on_error=False, tags=dict(Grid(market(location)).tags(selection))
        )
    )


def market(location: Location) -> Market:
    return location.config.markets[MARKET]


def files(location: Location) -> Mapping[str, pl.DataFrame]:
    """Every file of the lake but its superseded bars, and what is in it."""
    lake = location.config.lake
    return {f"{path.relative_to(lake)}": pl.read_parquet(path) for path in sorted(lake.rglob("*.parquet"))}


def ledger(location: Location) -> pl.DataFrame:
    return symbol_days_of(Catalog(location.config.catalog_url), MARKET).drop("run_id", "fetched_at")


def test_one_month_of_a_group_leaves_the_files_and_the_ledger_of_its_symbol_days(tmp_path: Path) -> None:
    plain, grouped = location(tmp_path / "plain"), location(tmp_path / "grouped", GROUPED)

    assert plain.run(ALL_OF_JANUARY).success
    assert grouped.run(MONTH).success

    ours, theirs = files(grouped), files(plain)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 2 * 4  # nothing is quarantined
    assert all(ours[name].equals(theirs[name]) for name in theirs)
    assert ledger(grouped).equals(ledger(plain))
    for name in theirs:
        if "raw_bars_1m" not in name:  # whose footer says when and by which run it was fetched
            assert (grouped.config.lake / name).read_bytes() == (plain.config.lake / name).read_bytes()


def test_a_month_of_a_group_is_one_materialization_of_every_table(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)

    result = grouped.run(MONTH)

    tables = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_1d", "coverage")
    keys = {table: grouped.instance.get_materialized_partitions(dg.AssetKey([MARKET, table])) for table in tables}
    assert keys == {table: {MONTH} for table in tables}
    assert all(check.passed for name, check in checks_of(result).items() if not name.startswith("coverage "))


@pytest.mark.parametrize("symbols", [["ACME"], ["ACME", "BOLT"]])
def test_a_run_of_some_sessions_and_symbols_of_a_partition_touches_no_others(
    tmp_path: Path, symbols: list[str]
) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)

    result = run(grouped, Selection(symbols, [TUESDAY]))

    assert result.success
    assert ledger(grouped).select("symbol", "session_date").rows() == [(symbol, TUESDAY) for symbol in symbols]
    held = read_bars(grouped.config.lake, MARKET, "bars_1d", ["ACME", "BOLT"], [TUESDAY, WEDNESDAY])
    assert held.select("symbol", "session_date").rows() == [(symbol, TUESDAY) for symbol in symbols]


def test_a_partition_that_was_begun_is_completed_by_running_it_whole(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)
    run(grouped, Selection(["BOLT"], [WEDNESDAY]))

    grouped.run(MONTH)

    assert ledger(grouped).height == 2 * 21


def test_judging_again_works_on_groups(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)
    grouped.run(MONTH)
    before = files(grouped)

    result = run(grouped, Selection(["ACME", "BOLT"], [TUESDAY, WEDNESDAY]), "shares_judge")

    assert result.success
    assert all(frame.equals(before[name]) for name, frame in files(grouped).items())


def test_a_thin_answer_does_not_shrink_a_day_within_a_month(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)
    grouped.run(MONTH)
    thin = pl.concat([regular_minutes("2024-01-02", count=3), regular_minutes("2024-01-03")])
    grouped.give("ACME", thin)

    result = grouped.run(MONTH)

    assert not result.success
    assert "symbol-days would have shrunk" in str(checks_of(result)["raw_bars_1m not_shrunk"].description)
    held = read_bars(grouped.config.lake, MARKET, "raw_bars_1m", ["ACME"], [TUESDAY])
    assert held.height == 390


def test_the_first_run_keeps_the_groups(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", GROUPED)
    grouped.run(MONTH)

    added = market(grouped).model_copy(update={"symbols": ("AARD", "ACME", "BOLT")})

    assert grid_of(added, Catalog(grouped.config.catalog_url)).columns == {
        "group-00": ["ACME", "BOLT"],
        "group-01": ["AARD"],
    }


def test_a_range_of_groups_and_months_is_one_run(tmp_path: Path) -> None:
    grouped = location(tmp_path / "grouped", "partition: {symbols: 1, dates: month}")

    result = grouped.run("2024-01-01|ACME...2024-02-01|BOLT")

    assert result.success
    assert ledger(grouped)["session_date"].n_unique() == 41
    assert failures_of(result) == []
