"""What each run added to a metric, over time, from the catalogue."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import requests as traffic
from marketpipe_assets.catalog.tables import restatements, run_counts, run_seconds
from marketpipe_assets.metrics.names import COUNTED, PRUNED, PRUNED_BYTES


def _of_counts(operation: str, *prefixes: str) -> "sa.Select[Any]":
    columns = run_counts.c
    labels = [columns[name] for name in COUNTED[operation][1]] if operation in COUNTED else [columns.name]
    select = sa.select(columns.at, columns.market, *labels, columns.value).where(columns.operation == operation)
    return select.where(*(columns.name.startswith(prefix, autoescape=True) for prefix in prefixes))


HISTORIES: Mapping[str, "sa.Select[Any]"] = {
    **{metric: _of_counts(operation) for operation, (metric, _) in COUNTED.items()},
    "mp_data_pruned_rows_total": _of_counts(PRUNED).where(~run_counts.c.name.startswith(PRUNED_BYTES)),
    "mp_data_pruned_bytes_total": _of_counts(PRUNED, PRUNED_BYTES),
    "mp_processing_time_seconds": sa.select(
        run_seconds.c.at,
        run_seconds.c.market,
        run_seconds.c.operation,
        run_seconds.c.provider,
        run_seconds.c.seconds.label("value"),
    ),
    "mp_requests_total": sa.select(
        traffic.c.at, traffic.c.market, traffic.c.provider, traffic.c.feed, traffic.c.requests.label("value")
    ),
    "mp_restated_symbol_days_total": sa.select(
        restatements.c.superseded_at.label("at"), restatements.c.market, sa.literal(1.0).label("value")
    ),
}
"""Metric → what each run added to it: `at`, labels, `value`."""


def history(catalog: Catalog, metric: str, since: datetime) -> pl.DataFrame:
    """What each run added to a metric of `HISTORIES`, oldest first: `at`, its labels, `value`."""
    select = HISTORIES[metric]
    at = select.selected_columns["at"]
    return catalog.frame(select.where(at >= since).order_by(at))


def averaged(points: pl.DataFrame, window: str) -> pl.DataFrame:
    """The mean of `value` over windows such as `1h` or `1d`, by labels; windows without a run have no row."""
    labels = [name for name in points.columns if name not in ("at", "value")]
    return (
        points.sort("at")
        .group_by_dynamic("at", every=window, group_by=labels)
        .agg(pl.col("value").mean())
        .sort("at", *labels)
    )
