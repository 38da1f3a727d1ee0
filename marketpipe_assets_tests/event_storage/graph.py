"""A small asset graph whose run stores every kind of event that the index holds."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from marketpipe_assets_tests.event_storage.logs import RUN_ID

SYMBOLS = ("ACME", "BOLT", "CRUX")
DATES = [f"2024-01-{day:02}" for day in range(1, 32)]
PARTITIONS = dg.MultiPartitionsDefinition(
    {"date": dg.StaticPartitionsDefinition(DATES), "symbol": dg.StaticPartitionsDefinition(list(SYMBOLS))}
)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
WHOLE_RANGE = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=PARTITIONS, backfill_policy=WHOLE_RANGE, code_version="1")
def raw(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    for key in context.partition_keys:
        context.log_event(dg.AssetObservation("raw", partition=key, metadata={"rows": 390}))
    return dg.MaterializeResult(metadata={"rows": 390 * len(context.partition_keys)})


@dg.asset(
    deps=[raw],
    partitions_def=PARTITIONS,
    backfill_policy=WHOLE_RANGE,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1)),
    check_specs=[dg.AssetCheckSpec("complete", asset="bars"), dg.AssetCheckSpec("fresh", asset="bars")],
)
def bars() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(check_name="complete", passed=True, metadata={"missing": 0}),
            dg.AssetCheckResult(check_name="fresh", passed=False, severity=dg.AssetCheckSeverity.WARN),
        ]
    )


@dg.asset(deps=[bars])
def report() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"symbols": len(SYMBOLS)})


@dg.asset(deps=[bars], partitions_def=PARTITIONS, backfill_policy=WHOLE_RANGE)
def broken() -> None:
    raise ValueError("expected bars, was none")


ASSETS = [raw, bars, report, broken]
DEFINITIONS = dg.Definitions(
    assets=ASSETS,
    jobs=[
        dg.define_asset_job("ingest", dg.AssetSelection.assets(raw, bars)),
        dg.define_asset_job("breaking", dg.AssetSelection.assets(raw, broken)),
        dg.define_asset_job("reporting", dg.AssetSelection.assets(report)),
    ],
    executor=dg.in_process_executor,
)


def run_range(instance: dg.DagsterInstance, days: int, job: str = "ingest", run_id: str = RUN_ID) -> bool:
    """Whether a run over all symbols and the first days succeeds."""
    keys = {"start": f"{DATES[0]}|{SYMBOLS[0]}", "end": f"{DATES[days - 1]}|{SYMBOLS[-1]}"}
    tags = {f"dagster/asset_partition_range_{name}": key for name, key in keys.items()}
    return (
        DEFINITIONS.resolve_job_def(job)
        .execute_in_process(instance=instance, run_id=run_id, tags=tags, run_config=SILENT, raise_on_error=False)
        .success
    )
