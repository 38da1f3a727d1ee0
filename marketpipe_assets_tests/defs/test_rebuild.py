"""After the size of partitions has changed, Dagster shows what the ledger and the lake hold."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import load_config
from marketpipe_assets.defs.partitions import Grid, grid_of
from marketpipe_assets.defs.rebuild import changes, rebuild
from marketpipe_assets_tests.defs.location import MARKET, Location, regular_minutes

TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "coverage", "bars_5m", "bars_1d")
JANUARY = "2024-01-02|ACME...2024-01-31|BOLT"


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """Two symbols with all of January and a part of February."""
    location = Location(tmp_path)
    for symbol in ("ACME", "BOLT"):
        location.give(symbol, pl.concat([regular_minutes("2024-01-02", 3), regular_minutes("2024-02-02", 3)]))
    assert location.run(JANUARY).success
    assert location.run("2024-02-02|ACME...2024-02-02|BOLT").success
    return location


def regrouped(location: Location, partition: str, symbols: str = "[ACME, BOLT]") -> Grid:
    """The market's grid once its configuration has another partition, and may be other symbols."""
    path = location.config.path
    assert path is not None
    lines = [line for line in path.read_text().splitlines() if "partition:" not in line]
    text = "\n".join([*lines, f"    partition: {partition}\n"])
    path.write_text(text.replace("symbols: [ACME, BOLT]", f"symbols: {symbols}"))
    location.config = load_config(path)
    return grid_of(location.config.markets[MARKET], Catalog(location.config.catalog_url))


def rebuilt(location: Location, grid: Grid, *, replace: bool = False) -> dict[str, int]:
    found = changes(location.instance, grid, Catalog(location.config.catalog_url), location.config.lake)
    return {change.asset.path[-1]: rebuild(location.instance, change, replace=replace) for change in found}


def shown(location: Location, grid: Grid, table: str) -> set[str]:
    """What the asset's page shows as materialized."""
    known = set(grid.definition.get_partition_keys())
    return location.instance.get_materialized_partitions(dg.AssetKey([MARKET, table])) & known


def test_groups_and_months_that_are_held_whole_are_shown_and_no_others(location: Location) -> None:
    grid = regrouped(location, "{symbols: 2, dates: month}")
    assert shown(location, grid, "bars_1d") == set()

    recorded = rebuilt(location, grid)

    assert recorded == dict.fromkeys(TABLES, 1)
    assert all(shown(location, grid, table) == {"2024-01-01|group-00"} for table in TABLES)


def test_the_way_back_shows_every_symbol_day_again(location: Location) -> None:
    plain = Grid(location.config.markets[MARKET])
    location.instance.wipe_assets([dg.AssetKey([MARKET, table]) for table in TABLES])
    assert shown(location, plain, "bars_1d") == set()

    rebuilt(location, plain)

    assert all(len(shown(location, plain, table)) == 2 * 22 for table in TABLES)


def test_what_is_known_is_not_recorded_again(location: Location) -> None:
    grid = regrouped(location, "{symbols: 2, dates: month}")
    rebuilt(location, grid)

    assert rebuilt(location, grid) == dict.fromkeys(TABLES, 0)


def test_longer_bars_that_a_run_did_not_write_are_not_shown(location: Location) -> None:
    grid = regrouped(location, "{symbols: 1, dates: month}")
    for file in (location.config.lake / MARKET / "bars_1d" / "symbol=BOLT").glob("*.parquet"):
        file.unlink()

    rebuilt(location, grid)

    assert shown(location, grid, "bars_1d") == {"2024-01-01|ACME"}
    assert shown(location, grid, "bars_5m") == {"2024-01-01|ACME", "2024-01-01|BOLT"}


def test_a_day_whose_key_is_that_of_its_month_does_not_stand_for_it_once_replaced(location: Location) -> None:
    assert location.run("2024-02-01|ACME...2024-02-01|BOLT").success
    grid = regrouped(location, "{symbols: 1, dates: month}")
    rebuilt(location, grid)
    assert "2024-02-01|ACME" in shown(location, grid, "bars_1m")

    rebuilt(location, grid, replace=True)

    assert shown(location, grid, "bars_1m") == {"2024-01-01|ACME", "2024-01-01|BOLT"}


def test_a_symbol_that_joins_a_group_makes_it_incomplete_which_replace_shows(location: Location) -> None:
    grid = regrouped(location, "{symbols: 3, dates: month}")
    rebuilt(location, grid)
    added = regrouped(location, "{symbols: 3, dates: month}", "[ACME, BOLT, CASK]")

    told = changes(location.instance, added, Catalog(location.config.catalog_url), location.config.lake)
    rebuilt(location, added)
    left = shown(location, added, "bars_1m")
    rebuilt(location, added, replace=True)

    assert {tuple(change.stale) for change in told} == {("2024-01-01|group-00",)}
    assert left == {"2024-01-01|group-00"}
    assert shown(location, added, "bars_1m") == set()


def test_what_is_shown_and_not_held_is_in_the_order_of_partitions(tmp_path: Path) -> None:
    location = Location(tmp_path)
    symbols = ", ".join(f"S{number:03}" for number in range(202))
    grid = regrouped(location, "{symbols: 2, dates: month}", f"[{symbols}]")
    keys = ["2024-01-01|group-99", "2024-01-01|group-100", "2024-02-01|group-98"]
    for key in reversed(keys):
        location.instance.report_runless_asset_event(dg.AssetMaterialization([MARKET, "bars_1d"], partition=key))

    found = changes(location.instance, grid, Catalog(location.config.catalog_url), location.config.lake)

    assert {change.asset.path[-1]: change.stale for change in found if change.stale} == {"bars_1d": keys}
