"""`marketpipe prune`: what it lists is what goes, and files, catalogue and Dagster say the same afterwards."""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import pruned
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.cli.command import CONFIGURATION, marketpipe, process

SYMBOLS = ["AAPL", "BRK.B", "MSFT"]
DAYS = [date(2024, 1, 2), date(2024, 1, 3)]
SINCE_THURSDAY = (datetime.now(UTC).date() - DAYS[1]).days  # an age that the second day has just reached
TABLES = {"raw_bars_1m": 0, "bars_1m": 0, "quarantined_bars_1m": 0, "bars_1h": 1, "bars_1d": 1}


def with_retention(own: Path, more: str = "") -> Path:
    lines = f"    retention: {{1m: {SINCE_THURSDAY}d, 1d: forever}}\n{more}"
    own.write_text(CONFIGURATION.replace("    max_symbol_days_per_run: 4\n", lines))
    return own


def held(own: Path, table: str) -> list[date]:
    return read_bars(own.parent / "lake", "shares", table, SYMBOLS, DAYS)["session_date"].unique().sort().to_list()


def files(own: Path) -> dict[str, int]:
    return {f"{path}": path.stat().st_size for path in sorted((own.parent / "lake").rglob("*.parquet"))}


def test_nothing_is_removed_without_execute(own: Path) -> None:
    before = files(with_retention(own))

    done = marketpipe("prune", "--config", own)

    assert done.exit_code == 0, done.output
    assert "rows and" in done.stdout
    assert "would be removed; nothing was changed" in done.stdout
    assert files(own) == before


def test_files_catalogue_and_dagster_agree_on_what_was_removed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, ledger = (
        files(with_retention(own)),
        symbol_days_of(Catalog(f"sqlite:///{own.parent}/catalog.sqlite"), "shares"),
    )
    told = marketpipe("prune", "--config", own).stdout

    done = process(own.parent, "prune", "--execute")

    assert done.returncode == 0, done.stderr
    freed = sum(before.values()) - sum(files(own).values())
    assert f"{freed:,} bytes" in done.stdout
    assert done.stdout.splitlines()[:-1] == told.splitlines()[:-1]
    for table, days_gone in TABLES.items():
        assert held(own, table) == (DAYS if days_gone else DAYS[1:])
    catalog = Catalog(f"sqlite:///{own.parent}/catalog.sqlite")
    rows = catalog.frame(sa.select(pruned).order_by(pruned.c.table_name, pruned.c.symbol))
    assert rows["through"].unique().to_list() == DAYS[:1]
    assert rows["bytes"].sum() == freed
    assert rows.height == 9
    assert symbol_days_of(catalog, "shares").equals(ledger)
    monkeypatch.setenv("DAGSTER_HOME", str(own.parent / ".dagster"))
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_data_version_record(
            dg.AssetKey(["shares", "bars_1m"]), partition_key="2024-01-02|AAPL"
        )
        assert event is not None
        assert event.asset_materialization is not None
        said = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (said["pruned"], said["rows"]) == (True, 0)
    assert said["bytes_freed"] == rows.filter(table_name="bars_1m", symbol="AAPL")["bytes"].item()


def test_what_was_removed_is_not_fetched_again(own: Path) -> None:
    process(with_retention(own).parent, "prune", "--execute")

    done = marketpipe("backfill", "--config", own, "--from", "2024-01-02", "--end", "2024-01-04", "--dry-run")

    assert "nothing to fetch" in done.stdout
    assert f"retention of shares keeps minutes from {DAYS[1]} on" in done.stderr


def test_bars_on_hold_stay_and_the_reason_is_told(own: Path) -> None:
    with_retention(own, "    hold: [{reason: case 7, symbols: [AAPL, MSFT]}]\n")

    done = process(own.parent, "prune", "--execute")

    assert "AAPL, MSFT on hold: case 7" in done.stderr
    left = read_bars(own.parent / "lake", "shares", "bars_1m", SYMBOLS, DAYS[:1])
    assert left["symbol"].unique().sort().to_list() == ["AAPL", "MSFT"]


def test_earlier_command_removes_by_age_what_the_configuration_leaves_open(own: Path) -> None:
    done = marketpipe("prune", "parquet", f"{SINCE_THURSDAY}", "--config", own, "--market", "shares")

    assert done.exit_code == 0, done.output
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("shares")} == set(TABLES)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "expected an age in `retention` of a market, or `prune parquet AGE`, was none"),
        (("parquet", "2w"), "AGE: expected an age such as 2y, 18m, 30d, 30 (days) or forever, was '2w'"),
        (("parquet", "2y", "--execute", "--dry-run"), "expected --execute or --dry-run, was both"),
        (("parquet", "2y", "--root", "elsewhere"), "expected --root to be the configured lake"),
        (("database", "30d"), "Dagster keeps ticks as `retention` in dagster.yaml says"),
    ],
)
def test_what_cannot_be_pruned_is_told_in_a_line(filled: Path, args: tuple[str, ...], said: str) -> None:
    done = marketpipe("prune", *args, *(() if args[:1] == ("database",) else ("--config", filled)))

    assert done.exit_code == 2
    assert said in done.stderr


def test_job_is_a_dry_run_unless_told(own: Path) -> None:
    from marketpipe_assets.config import load_config
    from marketpipe_assets.definitions import definitions_of
    from marketpipe_assets.defs.jobs import prune_for_real

    config = load_config(with_retention(own))
    before, market = files(own), config.markets["shares"]
    job = definitions_of(config).resolve_job_def("shares_prune")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
        unchanged = files(own) == before
        assert job.execute_in_process(instance=instance, run_config=prune_for_real(market)).success
        events = instance.get_materialized_partitions(dg.AssetKey(["shares", "bars_1m"]))

    assert unchanged
    assert held(own, "bars_1m") == DAYS[1:]
    assert events == {f"2024-01-02|{symbol}" for symbol in SYMBOLS}
