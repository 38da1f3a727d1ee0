"""The exporter: reads every source on its own clock, and answers a scrape from memory.

Runs are short-lived, and what they count in memory dies with them or counts attempts. So one long-lived process reads
what they left behind; a scrape costs the same whatever the lake holds.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from marketpipe_assets.catalog.store import Catalog, CatalogError
from marketpipe_assets.config import Config
from marketpipe_assets.logs import LOGGER
from marketpipe_assets.metrics.names import Sample, Samples, families, one
from marketpipe_assets.metrics.sources import (
    held_samples,
    history_samples,
    lake_samples,
    quota_samples,
    run_samples,
)

if TYPE_CHECKING:
    import dagster as dg

LOG = logging.getLogger(f"{LOGGER}.exporter")

UNREADABLE = (sa.exc.SQLAlchemyError, sqlite3.Error, CatalogError, OSError)
"""What a source raises that is down for a while. Anything else ends the exporter, which an alert tells."""

REST = 20
"""A source is left alone for so many times as long as it took to read: it costs a twentieth of a processor."""


class Source:
    """One source: how to read it, how often, and what it last said."""

    def __init__(self, name: str, read: Callable[[], Iterable[Sample]], every: float, rest: float = REST) -> None:
        self.name, self._read, self._every, self._rest = name, read, every, rest
        self._due, self.failures = 0.0, 0
        self.read_at: float | None = None
        self.samples: Sequence[Sample] = ()

    def refresh(self) -> None:
        """Read it where it is time. What cannot be read keeps its last samples, and is counted."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            self.samples = list(self._read())
            self.read_at = time.time()
        except UNREADABLE as error:
            self.failures += 1
            LOG.warning("%s could not be read, its last figures are kept: %s", self.name, str(error).partition("\n")[0])
        took = time.monotonic() - began
        self._due = began + max(self._every, self._rest * took)


class Exporter(Collector):
    """What Prometheus' client asks at a scrape: it answers with what the sources last said."""

    def __init__(
        self, config: Config, catalog: Catalog, instance: "dg.DagsterInstance", every: float, rest: float = REST
    ) -> None:
        self._sources = (
            Source("ledger", lambda: held_samples(config, catalog, datetime.now(UTC)), every, rest),
            Source("history", lambda: history_samples(config, catalog, datetime.now(UTC)), every, rest),
            Source("runs", lambda: run_samples(instance), every, rest),
            Source("quota", lambda: quota_samples(config), every, rest),
            Source("lake", lambda: lake_samples(config.lake), 4 * every, rest),
        )

    def refresh(self) -> None:
        """Read every source that is due."""
        for source in self._sources:
            source.refresh()

    def collect(self) -> Iterable[Metric]:
        held = [sample for source in self._sources for sample in source.samples]
        return families([*held, *self._own()])

    def _own(self) -> Samples:
        for source in self._sources:
            if source.read_at is not None:
                yield one("mp_exporter_read_timestamp_seconds", source.name, value=source.read_at)
            yield one("mp_exporter_failures_total", source.name, value=source.failures)
