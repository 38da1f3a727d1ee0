"""What was built from minutes that retention removed outlives every run over their sessions."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.defs.jobs import judge_job_name
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.defs.retention import planned_pruning, policy_of, prune
from marketpipe_assets.defs.retired import rebuild_retired
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.defs.location import MARKET, Location, checks_of, failures_of, regular_minutes

RANGE = "2024-01-02|ACME...2024-01-04|BOLT"
DATES = [date(2024, 1, day) for day in (2, 3, 4)]
TODAY = date(2024, 1, 5)


def pruned(folder: Path, retention: str) -> Location:
    """A location whose first two sessions are past their age."""
    location = Location(folder, f"retention: {retention}")
    for symbol in ("ACME", "BOLT"):
        location.give(symbol, pl.concat([regular_minutes(f"{day}") for day in DATES]))
    assert location.run(RANGE).success
    catalog, market = Catalog(location.config.catalog_url), location.config.markets[MARKET]
    cuts = planned_pruning(location.config.lake, market, policy_of(market, TODAY)).cuts
    assert prune(location.config.lake, catalog, location.instance, market, cuts, "pruning")
    return location


def held(location: Location, table: str) -> pl.DataFrame:
    return read_bars(location.config.lake, MARKET, table, ["ACME", "BOLT"], DATES)


@pytest.mark.parametrize("retention", ["{1m: 1d}", "{raw_bars_1m: 1d}"])
def test_a_run_that_judges_again_leaves_what_it_cannot_build(tmp_path: Path, retention: str) -> None:
    location = pruned(tmp_path, retention)
    before = {table: held(location, table) for table in ("raw_bars_1m", "bars_1m", "bars_5m", "bars_1d")}

    result = location.run(RANGE, judge_job_name(MARKET))

    assert result.success, failures_of(result)
    found = checks_of(result)
    assert all(found[name].passed for name in ("bars_1m rows_conserved", "bars_1d volume_conserved"))
    assert before["raw_bars_1m"]["session_date"].unique().to_list() == DATES[2:]
    assert before["bars_1d"]["session_date"].to_list() == DATES * 2
    assert all(held(location, table).equals(bars) for table, bars in before.items())


def test_an_empty_answer_for_removed_minutes_takes_no_longer_bar_away(tmp_path: Path) -> None:
    location = pruned(tmp_path, "{1m: 1d}")
    before = held(location, "bars_1d")
    for symbol in ("ACME", "BOLT"):
        location.give(symbol, regular_minutes("2024-01-04"))

    result = location.run(RANGE)

    assert result.success, failures_of(result)
    assert held(location, "bars_1d").equals(before)


def test_minutes_that_are_fetched_again_build_their_longer_bars_anew(tmp_path: Path) -> None:
    location = pruned(tmp_path, "{1m: 1d}")
    for symbol in ("ACME", "BOLT"):
        location.give(symbol, pl.concat([regular_minutes(f"{day}", price=20.0) for day in DATES]))

    assert location.run(RANGE).success

    assert held(location, "bars_1d")["close"].to_list() == [20.0] * 6


def test_a_retired_symbol_keeps_its_longer_bars(tmp_path: Path) -> None:
    location = pruned(tmp_path, "{raw_bars_1m: 1d}")
    catalog, market = Catalog(location.config.catalog_url), location.config.markets[MARKET]
    before = {table: held(location, table) for table in ("bars_1m", "bars_5m", "bars_1d")}

    rebuild_retired(catalog, location.config.lake, market, Selection(["ACME", "BOLT"], DATES))

    assert all(held(location, table).equals(bars) for table, bars in before.items())
    assert symbol_days_of(catalog, MARKET)["valid"].to_list() == [390] * 6
