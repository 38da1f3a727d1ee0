"""A code location over Parquet files of bars that a test writes: real provider, real lake, real Dagster."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import polars as pl
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Config, load_config
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets.defs.asset_checks import asset_checks
from marketpipe_assets.defs.partitions import Grid

MARKET = "shares"
FILES = (
    "{type: files, format: parquet, root: ./vendor, path: '{symbol}.parquet', timezone: UTC, label: start, "
    "columns: {ts: ts, open: open, high: high, low: low, close: close, volume: volume}}"
)
CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  given: {provider}
  other: {{type: synthetic}}
markets:
  shares:
    calendar: {calendar}
    asset_class: equity
    provider: given
    symbols: [ACME, BOLT]
    start: 2024-01-02
    timeframes: [5m, 1d]
    {more}
"""


class Location:
    """One configuration in a folder, its vendor files, and a Dagster instance that lives as long as the test."""

    def __init__(self, folder: Path, more: str = "", calendar: str = "XNYS", provider: str = "") -> None:
        self.vendor = folder / "vendor"
        self.vendor.mkdir()
        written = folder / "marketpipe.yaml"
        written.write_text(CONFIGURATION.format(provider=provider or FILES, calendar=calendar, more=more))
        self.config: Config = load_config(written)
        self.instance = dg.DagsterInstance.ephemeral()

    def give(self, symbol: str, minutes: pl.DataFrame) -> None:
        """Make these bars all that the vendor has of a symbol."""
        minutes.write_parquet(self.vendor / f"{symbol}.parquet")

    def run(
        self, partitions: str, job: str = "shares_ingest", run_config: Mapping[str, object] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run a job for a key (`2024-01-02|ACME`) or a range (`first...last`), letting steps fail."""
        first, _, last = partitions.partition("...")
        chosen = (
            {"tags": {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}}
            if last
            else {"partition_key": first}
        )
        return (
            definitions_of(self.config)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                run_config=dict(run_config) if run_config else None,
                **chosen,
            )
        )

    def run_checks(self, name: str) -> dg.ExecuteInProcessResult:
        """Run the checks of one op alone, with no partition, as the UI's Execute does."""
        chosen = [each for each in asset_checks_of(self.config) if each.op.name == name]
        job = dg.Definitions(
            asset_checks=chosen,
            jobs=[dg.define_asset_job("checks", dg.AssetSelection.checks(*chosen))],
            resources={"lake": self.config.lake, "catalog": Catalog(self.config.catalog_url)},
        )
        return job.resolve_job_def("checks").execute_in_process(instance=self.instance, raise_on_error=False)


def asset_checks_of(config: Config) -> Sequence[dg.AssetChecksDefinition]:
    market = config.markets[MARKET]
    return asset_checks(Grid(market))


def regular_minutes(day: str, count: int = 390, price: float = 10.0, volume: float = 100.0) -> pl.DataFrame:
    """The first minutes from 09:30 New York time of a day, at one price."""
    start = pl.lit(f"{day} 09:30:00").str.to_datetime(time_zone="America/New_York", time_unit="us")
    return pl.DataFrame({"minute": range(count)}).select(
        (start + pl.duration(minutes="minute")).dt.convert_time_zone("UTC").alias("ts"),
        *(pl.lit(price).alias(name) for name in ("open", "high", "low", "close")),
        pl.lit(volume).alias("volume"),
    )


def checks_of(result: dg.ExecuteInProcessResult) -> Mapping[str, dg.AssetCheckEvaluation]:
    """`table check` → its evaluation."""
    return {f"{each.asset_key.path[-1]} {each.check_name}": each for each in result.get_asset_check_evaluations()}


def failures_of(result: dg.ExecuteInProcessResult) -> Sequence[str]:
    """Reasons of the steps that failed."""
    return [
        str(event.step_failure_data.user_failure_data and event.step_failure_data.user_failure_data.description)
        for event in result.all_events
        if event.is_step_failure
    ]
