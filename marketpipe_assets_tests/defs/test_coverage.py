"""The coverage asset over a real lake and catalogue: its rows, its picture, and what is made up after a crash."""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.ledger import forget, symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import intents, run_counts, run_seconds
from marketpipe_assets.defs.ledger import account, begin, minute_tables, recover
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.defs.wanted import wanted
from marketpipe_assets.lake.facts import Fetch
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.defs.location import MARKET, Location, regular_minutes
from marketpipe_assets_tests.defs.test_materialize import TUESDAY, WEDNESDAY

RANGE = "2024-01-02|ACME...2024-01-03|BOLT"


def with_bars(folder: Path) -> Location:
    location = Location(folder, "max_quarantined_share: 0.5")
    both = pl.concat([regular_minutes("2024-01-02"), regular_minutes("2024-01-03", 195)])
    broken = pl.when(pl.int_range(pl.len()) == 5).then(9.0).otherwise(pl.col("high"))
    location.give("ACME", both.with_columns(broken.alias("high")))
    location.give("BOLT", both)
    return location


def catalog_of(location: Location) -> Catalog:
    return Catalog(location.config.catalog_url)


def rows_of(location: Location) -> pl.DataFrame:
    return symbol_days_of(catalog_of(location), MARKET)


def test_a_run_writes_a_row_for_each_of_its_symbol_days(tmp_path: Path) -> None:
    location = with_bars(tmp_path)

    result = location.run(RANGE)

    rows = rows_of(location)
    assert rows.select("symbol", "session_date", "valid", "quarantined", "missing", "vendor_gap").rows() == [
        ("ACME", TUESDAY, 389, 1, 0, 0),
        ("ACME", WEDNESDAY, 195, 0, 195, 195),
        ("BOLT", TUESDAY, 390, 0, 0, 0),
        ("BOLT", WEDNESDAY, 195, 0, 195, 195),
    ]
    assert set(rows["run_id"]) == {result.run_id}
    assert set(rows["provider"]) == {"given"}
    assert rows["content_hash"].n_unique() == 3


def test_the_asset_shows_a_picture_and_the_worst_holes_once_per_run(tmp_path: Path) -> None:
    location = with_bars(tmp_path)

    result = location.run(RANGE)

    seen = result.asset_materializations_for_node("shares__coverage")[-1]
    assert "data:image/png;base64," in str(seen.metadata["heat_map"].value)
    assert "| ACME | 2024-01-03 |" in str(seen.metadata["worst_holes"].value)
    assert seen.metadata["vendor_gap"].value == 390
    materialized = location.instance.get_materialized_partitions(dg.AssetKey([MARKET, "coverage"]))
    assert len(materialized) == 4


def test_counts_say_what_the_run_brought_and_what_was_wrong_with_it(tmp_path: Path) -> None:
    location = with_bars(tmp_path)
    location.run(RANGE)

    columns = run_counts.c
    counts = catalog_of(location).frame(sa.select(columns.operation, columns.name, columns.value))

    assert set(counts.rows()) >= {
        ("ingest", "rows", 1170.0),
        ("validate", "ohlc_logic", 1.0),
        ("aggregate", "1d", 4.0),
        ("gaps", "vendor_gap", 390.0),
        ("gaps", "quarantined", 1.0),
    }
    operations = catalog_of(location).frame(sa.select(run_seconds.c.operation))["operation"]
    assert set(operations) == {"ingest", "validate", "aggregate"}


def test_bars_that_were_held_already_are_not_counted_again(tmp_path: Path) -> None:
    location = with_bars(tmp_path)
    location.run(RANGE)
    location.run(RANGE)

    columns = run_counts.c
    ingested = sa.select(columns.value).where(columns.operation == "ingest")

    assert catalog_of(location).frame(ingested)["value"].to_list() == [1170.0]


def test_a_day_the_provider_has_nothing_of_has_a_row(tmp_path: Path) -> None:
    location = Location(tmp_path)

    location.run("2024-01-02|ACME")

    assert rows_of(location).select("symbol", "received", "missing", "provider", "content_hash").rows() == [
        ("ACME", 0, 390, None, None)
    ]


def test_a_run_that_dies_before_its_ledger_is_made_up_for_by_the_next_one(tmp_path: Path) -> None:
    location = with_bars(tmp_path)
    location.run(RANGE)
    whole = rows_of(location)
    catalog, market = catalog_of(location), location.config.markets[MARKET]
    with catalog.begin() as connection:
        forget(connection, MARKET)
    begin(catalog, market, whole["run_id"][0], Selection(["ACME", "BOLT"], [TUESDAY, WEDNESDAY]))

    recovered = recover(catalog, location.config.lake, location.config.markets, location.instance)

    assert recovered == [whole["run_id"][0]]
    assert rows_of(location).equals(whole)
    assert catalog.frame(sa.select(intents)).is_empty()


def test_a_lost_run_from_before_the_market_begins_is_settled(tmp_path: Path) -> None:
    location = Location(tmp_path, "reconcile: {provider: other}")
    catalog, market = catalog_of(location), location.config.markets[MARKET]
    begin(catalog, market, "lost", Selection(["ACME"], [date(2023, 5, 1)]))

    assert recover(catalog, location.config.lake, location.config.markets, location.instance) == ["lost"]
    assert catalog.frame(sa.select(intents)).is_empty()


def fetch_early(location: Location) -> None:
    """Give the stored bars the date of a fetch soon after the close."""
    lake, market, selection = location.config.lake, location.config.markets[MARKET], Selection(["ACME"], [TUESDAY])
    raw = read_bars(lake, MARKET, "raw_bars_1m", *selection)
    write_bars(lake, MARKET, "raw_bars_1m", raw.clear(), *selection)
    fetch = Fetch(datetime(2024, 1, 2, 22, tzinfo=UTC), "early", [TUESDAY])
    write_bars(lake, MARKET, "raw_bars_1m", raw, *selection, fetch)
    account(catalog_of(location), lake, market, selection, "early", minute_tables(lake, market, selection))


def test_a_silent_last_minute_is_no_trade_once_the_provider_said_so_again(tmp_path: Path) -> None:
    location = Location(tmp_path, "listings: {BOLT: {first: 2030-01-01}}")
    location.give("ACME", regular_minutes("2024-01-02", 389))
    location.run("2024-01-02|ACME")
    fetch_early(location)
    before = rows_of(location)

    location.run("2024-01-02|ACME")

    after = rows_of(location)
    assert before.select("not_yet_published", "no_trade").rows() == [(1, 0)]
    assert after.select("not_yet_published", "no_trade", "run_id").rows() == [(0, 1, "early")]
    catalog, market = catalog_of(location), location.config.markets[MARKET]
    assert wanted(catalog, market, datetime(2024, 1, 4, tzinfo=UTC))["session_date"].to_list() == [WEDNESDAY]
    with catalog.begin() as connection:
        forget(connection, MARKET)
    begin(catalog, market, "early", Selection(["ACME"], [TUESDAY]))
    recover(catalog, location.config.lake, location.config.markets, location.instance)
    assert rows_of(location).equals(after)


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    location = with_bars(tmp_path)
    location.give("ACME", regular_minutes("2024-01-02"))
    run = location.instance.create_run_for_job(dg.job(name="other")(lambda: None), status=dg.DagsterRunStatus.STARTED)
    catalog, market = catalog_of(location), location.config.markets[MARKET]
    begin(catalog, market, run.run_id, Selection(["ACME"], [TUESDAY]))

    assert recover(catalog, location.config.lake, location.config.markets, location.instance) == []
    assert catalog.frame(sa.select(intents.c.run_id))["run_id"].to_list() == [run.run_id]
