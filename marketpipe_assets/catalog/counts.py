"""What runs did: rows committed, seconds taken, requests made. A step that runs twice counts once."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.tables import INSTANT, requests, run_counts, run_seconds

COUNTS = {"provider": pl.String(), "feed": pl.String(), "name": pl.String(), "value": pl.Float64()}
"""Columns of counts. Where a provider or feed has no meaning it is empty text, as it is part of the key."""


class Asked(NamedTuple):
    """What a provider was asked and answered in a run.

    `errors` counts by code; `latency` counts answers within each of these seconds (cumulative, as a histogram has
    them, the last of them "+Inf") and `latency_sum` is their sum; `waits` counts by mode: `async` for a place in the
    quota, `retry_after` because the vendor said so; `waited` is their seconds.
    """

    provider: str
    feed: str
    requests: int
    errors: Mapping[str, int]
    latency: Mapping[str, int]
    latency_sum: float
    waits: Mapping[str, int]
    waited: float
    bytes: int


def add_counts(connection: sa.Connection, run_id: str, market: str, operation: str, counts: pl.DataFrame) -> None:
    """What an operation of a run committed; `counts` has `COUNTS`. Takes the place of what it said before."""
    columns = run_counts.c
    said = (columns.run_id == run_id, columns.market == market, columns.operation == operation)
    connection.execute(sa.delete(run_counts).where(*said))
    upsert(connection, run_counts, _of_run(counts.select(*COUNTS), run_id, market, operation=operation))


def add_seconds(
    connection: sa.Connection, run_id: str, market: str, seconds: Mapping[str, float], provider: str = ""
) -> None:
    """Seconds by operation."""
    rows = pl.DataFrame(
        {"operation": list(seconds), "seconds": list(seconds.values()), "provider": [provider] * len(seconds)},
        schema={"operation": pl.String(), "seconds": pl.Float64(), "provider": pl.String()},
    )
    upsert(connection, run_seconds, _of_run(rows, run_id, market))


def add_requests(connection: sa.Connection, run_id: str, market: str, asked: Asked) -> None:
    """Everything a run has asked a provider so far."""
    texts = {name: msgspec.json.encode(getattr(asked, name)).decode() for name in ("errors", "latency", "waits")}
    row = pl.DataFrame([{**asked._asdict(), **texts}])
    upsert(connection, requests, _of_run(row, run_id, market))


def _of_run(rows: pl.DataFrame, run_id: str, market: str, **more: str) -> pl.DataFrame:
    named = {"run_id": run_id, "market": market, **more}
    return rows.with_columns(
        *(pl.lit(value).alias(name) for name, value in named.items()), pl.lit(datetime.now(UTC), INSTANT).alias("at")
    )
