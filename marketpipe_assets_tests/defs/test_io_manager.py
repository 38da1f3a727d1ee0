"""A run's steps are given the bars that it has stored, as anybody reads them."""

from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.io_manager import HANDED
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.defs.location import MARKET, Location, regular_minutes

SYMBOLS, DATES = ["ACME", "BOLT"], [date(2024, 1, 2), date(2024, 1, 3)]
RANGE = {
    "dagster/asset_partition_range_start": "2024-01-02|ACME",
    "dagster/asset_partition_range_end": "2024-01-03|BOLT",
}


def run_with_a_reader(location: Location, table: str, select: list[str]) -> pl.DataFrame:
    """What an asset below a table is given, in one run with these assets of the market."""
    given = []
    merged = definitions_of(location.config)

    @dg.asset(
        ins={"bars": dg.AssetIn([MARKET, table])},
        partitions_def=merged.resolve_assets_def([MARKET, table]).partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="nowhere",
    )
    def reader(bars: pl.DataFrame) -> None:
        given.append(bars)

    chosen = dg.AssetSelection.assets(reader, *([MARKET, name] for name in select))
    job = dg.define_asset_job("read", chosen)
    nowhere = dg.Definitions(assets=[reader], jobs=[job], resources={"nowhere": dg.mem_io_manager})
    dg.Definitions.merge(merged, nowhere).resolve_job_def("read").execute_in_process(
        instance=location.instance, tags=RANGE
    )
    return given[0]


@pytest.mark.parametrize("table", HANDED)
def test_bars_that_are_handed_on_are_those_that_are_read(tmp_path: Path, table: str) -> None:
    location = Location(tmp_path, "max_quarantined_share: 1")
    for symbol in SYMBOLS:
        minutes = pl.concat([regular_minutes("2024-01-02"), regular_minutes("2024-01-03")])
        bad = pl.when(pl.int_range(pl.len()) == 5).then(-1.0).otherwise("volume")
        location.give(symbol, minutes.with_columns(bad.alias("volume")))

    given = run_with_a_reader(location, table, ["raw_bars_1m", "bars_1m", "quarantined_bars_1m"])

    assert given.height > 0
    assert_frame_equal(given, read_bars(location.config.lake, MARKET, table, SYMBOLS, DATES))


def test_a_later_run_reads_the_lake(tmp_path: Path) -> None:
    location = Location(tmp_path)
    for symbol in SYMBOLS:
        location.give(symbol, regular_minutes("2024-01-02"))
    location.run("2024-01-02|ACME...2024-01-03|BOLT")

    given = run_with_a_reader(location, "bars_1m", [])

    assert_frame_equal(given, read_bars(location.config.lake, MARKET, "bars_1m", SYMBOLS, DATES))
