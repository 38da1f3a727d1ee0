"""Every metric there is: its name, type, labels and meaning. What fills them is in sources.py."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)


class Kind(NamedTuple):
    """A metric: its Prometheus type, the names of its labels, and what it says."""

    family: Callable[..., Any]
    labels: tuple[str, ...]
    text: str


METRICS: Mapping[str, Kind] = {
    "mp_freshness_seconds": Kind(
        GaugeMetricFamily, ("market",), "Since when a session is due of which no bar is held; 0: nothing is due."
    ),
    "mp_sessions_behind": Kind(GaugeMetricFamily, ("market",), "Sessions that are due after the newest one held."),
    "mp_newest_session_timestamp_seconds": Kind(
        GaugeMetricFamily, ("market",), "When the newest session ended of which bars are held."
    ),
    "mp_symbol_days": Kind(
        GaugeMetricFamily,
        ("market", "sessions", "state"),
        "Symbol-days of the last sessions that are due: due (listed, not pruned), and fetched of them.",
    ),
    "mp_coverage_ratio": Kind(
        GaugeMetricFamily,
        ("market", "sessions"),
        "Minutes received of those expected, in fetched symbol-days of the last sessions.",
    ),
    "mp_minutes": Kind(
        GaugeMetricFamily,
        ("market", "sessions", "state"),
        "Regular minutes of fetched symbol-days: expected, received, valid, quarantined.",
    ),
    "mp_missing_minutes": Kind(
        GaugeMetricFamily, ("market", "sessions", "reason"), "Regular minutes without a bar, by reason."
    ),
    "mp_bars": Kind(
        GaugeMetricFamily, ("market", "sessions", "table"), "Bars of all hours that are held of the last sessions."
    ),
    "mp_quarantined_ratio": Kind(
        GaugeMetricFamily, ("market", "sessions"), "Bars that are quarantined, of the raw ones of the last sessions."
    ),
    "mp_gaps": Kind(GaugeMetricFamily, ("market",), "Symbol-days with minutes that asking again may bring."),
    "mp_limit_ratio": Kind(
        GaugeMetricFamily, ("market", "limit"), "Limits of the configuration: coverage (least), quarantined (most)."
    ),
    "mp_restated_symbol_days_total": Kind(
        CounterMetricFamily, ("market",), "Symbol-days of which a provider later gave other bars."
    ),
    "mp_requests_total": Kind(
        CounterMetricFamily, ("source", "provider", "feed"), "Requests that providers were asked by runs that ended."
    ),
    "mp_errors_total": Kind(
        CounterMetricFamily, ("source", "provider", "feed", "code"), "Requests that failed, by what they failed with."
    ),
    "mp_request_latency_seconds": Kind(
        HistogramMetricFamily, ("source", "provider", "feed"), "From a request to the headers of its answer."
    ),
    "mp_rate_limiter_waits_total": Kind(
        CounterMetricFamily,
        ("provider", "mode"),
        "Requests that waited: async for a place in the quota, retry_after because the provider said so.",
    ),
    "mp_quota_left": Kind(
        GaugeMetricFamily, ("provider", "per"), "Requests of a provider's quota that may be sent now."
    ),
    "mp_ingest_rows_total": Kind(CounterMetricFamily, ("provider", "feed"), "Raw bars that were stored."),
    "mp_validation_errors_total": Kind(
        CounterMetricFamily, ("provider", "feed", "error_type"), "Bars that broke a rule, by the rule's id."
    ),
    "mp_aggregation_rows_total": Kind(
        CounterMetricFamily, ("provider", "feed", "frame"), "Longer bars that were stored, by timeframe."
    ),
    "mp_backfill_gaps_found_total": Kind(
        CounterMetricFamily, ("provider", "reason"), "Minutes that were found missing, by reason."
    ),
    "mp_backfill_gap_latency_seconds": Kind(
        HistogramMetricFamily,
        ("provider",),
        "From asking again for a symbol-day with gaps to the bars that filled it; the last time of each.",
    ),
    "mp_processing_time_seconds": Kind(
        SummaryMetricFamily, ("operation", "provider"), "Seconds that runs spent: ingest, validate, aggregate."
    ),
    "mp_data_pruned_rows_total": Kind(CounterMetricFamily, ("type", "frame"), "Bars that retention removed."),
    "mp_data_pruned_bytes_total": Kind(CounterMetricFamily, ("type", "frame"), "Bytes that retention removed."),
    "mp_runs": Kind(GaugeMetricFamily, ("status",), "Runs in Dagster's instance, by state."),
    "mp_backlog_jobs": Kind(GaugeMetricFamily, (), "Runs that wait in the queue."),
    "mp_daemon_heartbeat_timestamp_seconds": Kind(
        GaugeMetricFamily, ("daemon",), "When each of Dagster's daemons was last alive."
    ),
    "mp_lake_bytes": Kind(GaugeMetricFamily, ("market", "table"), "Bytes of the lake's files."),
    "mp_lake_files": Kind(GaugeMetricFamily, ("market", "table"), "Files of the lake."),
    "mp_lake_free_bytes": Kind(GaugeMetricFamily, (), "Bytes that are free where the lake lies."),
    "mp_exporter_read_timestamp_seconds": Kind(
        GaugeMetricFamily, ("part",), "When the exporter last read each of its sources."
    ),
    "mp_exporter_failures_total": Kind(
        CounterMetricFamily, ("part",), "Times that a source could not be read; its last figures are kept."
    ),
}
"""Every metric there is, in the order they are shown."""


class Sample(NamedTuple):
    """One value of a metric. `value` is what its family takes: a number, count and sum, or buckets and sum."""

    metric: str
    labels: tuple[str, ...]
    value: tuple[Any, ...]


Samples = Iterator[Sample]


def one(metric: str, *labels: str, value: float) -> Sample:
    return Sample(metric, labels, (value,))


def families(samples: Iterable[Sample]) -> list[Metric]:
    """The samples as Prometheus' own metrics, in the order of `METRICS`."""
    made = {name: kind.family(name, kind.text, labels=kind.labels) for name, kind in METRICS.items()}
    for sample in samples:
        made[sample.metric].add_metric(sample.labels, *sample.value)
    return [each for each in made.values() if each.samples]


COUNTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ingest": ("mp_ingest_rows_total", ("provider", "feed")),
    "validate": ("mp_validation_errors_total", ("provider", "feed", "name")),
    "aggregate": ("mp_aggregation_rows_total", ("provider", "feed", "name")),
    "gaps": ("mp_backfill_gaps_found_total", ("provider", "name")),
}
"""Operation of `run_counts` → its metric, and the columns that are its labels."""

PRUNED = "pruned"
PRUNED_BYTES = "bytes:"
