"""Dagster runs over the symbols of a case and others, in this process, on an instance of their own."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import yaml

from marketpipe_assets.config import export_dagster_home, load_config
from marketpipe_assets.defs.jobs import ingest_job_name
from marketpipe_assets.defs.launch import run_job
from marketpipe_assets.defs.partitions import Grid, Selection
from marketpipe_assets_tests.bench.case import MARKET, Case

SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def prepare(case: Case, lake: Path) -> None:
    """Give this process a configuration and a fresh instance beside the lake, with the shipped dagster.yaml."""
    lake.parent.mkdir(parents=True, exist_ok=True)
    configuration = lake.with_name("marketpipe.yaml")
    configuration.write_text(yaml.safe_dump(case.configuration(str(lake))), encoding="utf-8")
    os.environ["MARKETPIPE_CONFIG"] = str(configuration)
    os.environ.pop("DAGSTER_HOME", None)
    export_dagster_home(load_config())


def pipelines(case: Case, lake: Path) -> Iterator[Callable[[], None]]:
    """Ingest a batch of symbols through the market's job, for each batch; the case's own is the last, and what it
    stores is all that the lake then holds. The instance is opened once, as a process of the product does.

    What others stored is moved away, as `measure` does.
    """
    others = lake.with_name("others")
    others.mkdir()
    with dg.DagsterInstance.get() as instance:
        for number in reversed(range(case.batches)):
            yield partial(ingest, instance, Selection(case.batch(number), case.dates))
            for symbol in case.batch(number) if number else ():
                for folder in (lake / MARKET).glob(f"*/symbol={symbol}"):
                    folder.rename(others / f"{folder.parent.name}-{symbol}")


def ingest(instance: dg.DagsterInstance, selection: Selection) -> None:
    """Raises `RuntimeError` where a step fails."""
    tags = Grid(load_config().markets[MARKET]).tags(selection)
    steps = list(run_job(instance, ingest_job_name(MARKET), tags, SILENT))
    if failures := [f"{step.step}: {step.failure}" for step in steps if step.failure]:
        raise RuntimeError("; ".join(failures))
    if not steps:
        raise RuntimeError("expected steps of a run, was none")
