"""raw_bars_1m: what the provider said. Judging it is validated.py's."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import dagster as dg
import polars as pl

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.ledger import begin, recover, timed
from marketpipe_assets.defs.metadata import FETCHED_AT, MAY_SHRINK, add_output_figures, column_schema, markdown
from marketpipe_assets.defs.partitions import WHOLE_RANGE, Grid, Selection, check_size, keep_groups
from marketpipe_assets.defs.traffic import traffic_recorded
from marketpipe_assets.providers.base import BarProvider, ProviderError
from marketpipe_assets.providers.sources import PASSING, Answered, ask

T = TypeVar("T")
NOT_SHRUNK = "not_shrunk"
TRIES_AGAIN = 2
LONGEST_WAIT = timedelta(minutes=10)  # a run that waits holds its place in the queue and in the provider's pool


class IngestConfig(dg.Config):
    """How a run ingests."""

    allow_shrink: bool = False
    """Store an answer that has fewer bars of a symbol-day than are stored already."""


def raw_bars(grid: Grid) -> dg.AssetsDefinition:
    """The asset that asks the market's provider."""
    market = grid.market

    @dg.asset(
        name=RAW,
        key_prefix=market.name,
        partitions_def=grid.definition,
        backfill_policy=WHOLE_RANGE,
        group_name=market.name,
        kinds={"polars", "parquet", market.provider},
        owners=market.owners,
        metadata=column_schema(RAW),
        required_resource_keys={*market.providers, "lake", "catalog", "io_manager"},
        pool=market.provider,
        check_specs=[
            dg.AssetCheckSpec(
                NOT_SHRUNK,
                asset=[market.name, RAW],
                blocking=True,
                description="No symbol-day has fewer bars than were stored before. The stored bars are kept.",
            )
        ],
        description=(
            f"1-minute bars of {market.name} as its provider gave them: unjudged, unadjusted, in the order of "
            "arrival, with provider and feed. Times are UTC and the bar's first minute."
            f" {market.description or ''}".rstrip()
        ),
    )
    def raw_bars_1m(
        context: dg.AssetExecutionContext, config: IngestConfig
    ) -> Iterator[dg.Output[pl.DataFrame] | dg.AssetCheckResult]:
        selection = grid.selection(context.partition_keys, context.run)
        sessions = market.sessions
        check_size(market, selection, "ingest")
        check_published(market, sessions, selection)
        catalog: Catalog = context.resources.catalog
        keep_groups(grid, catalog)
        providers = {name: getattr(context.resources, name) for name in market.providers}
        recover(catalog, context.resources.lake, {market.name: market}, context.instance)
        begin(catalog, market, context.run.run_id, selection)
        asked_at = datetime.now(UTC)
        with (
            timed(catalog, market, context.run.run_id, "ingest", market.provider),
            traffic_recorded(catalog, context.run.run_id, market.name, providers),
        ):
            answered = fetch(providers, sessions, selection)
        add_output_figures(context, context.asset_key, answered.said)
        metadata = {FETCHED_AT: dg.MetadataValue.timestamp(asked_at)}
        allowed = {MAY_SHRINK: dg.MetadataValue.bool(True)} if config.allow_shrink else {}
        yield dg.Output(answered.bars, metadata={**metadata, **allowed})
        yield shrink_result(context.resources.io_manager.shrunk, config)  # Dagster has had it stored by now

    return raw_bars_1m


def fetch(providers: Mapping[str, BarProvider], sessions: Sessions, selection: Selection) -> Answered:
    """Bars of all symbols and sessions, with their session. What a provider cannot answer fails the step.

    A failure that passes by itself within `LONGEST_WAIT` is tried again in the same run; any other ends it at once.
    """
    return answered(lambda: ask(providers, sessions, *selection))


def answered(question: Callable[[], T]) -> T:
    """The answer to a question put to a provider, with its failures as the run's."""
    try:
        return question()
    except ProviderError as error:
        again = f"; ask again at {error.retry_at:%Y-%m-%d %H:%M:%S} UTC" if error.retry_at is not None else ""
        failure = dg.Failure(f"{type(error).__name__}: {error}{again}", allow_retries=False)
        wait = (error.retry_at or datetime.now(UTC)) - datetime.now(UTC)
        passing = isinstance(error, PASSING) and wait <= LONGEST_WAIT
    if passing:
        raise dg.RetryRequested(TRIES_AGAIN, max(wait.total_seconds(), 1)) from failure
    raise failure


def check_published(market: Market, sessions: Sessions, selection: Selection) -> None:
    """Refuse sessions that are not over: an empty or half answer must not be stored as the day."""
    now = datetime.now(UTC)
    early = [day for day in selection.dates if sessions.published_by(day) > now]
    if early:
        raise dg.Failure(
            f"expected sessions of {market.name} that are over, was {early[0]}, which ends at "
            f"{sessions.published_by(early[0]):%Y-%m-%d %H:%M} UTC: not published yet",
            allow_retries=False,
        )


def shrink_result(shrunk: pl.DataFrame, config: IngestConfig) -> dg.AssetCheckResult:
    """The verdict on `NOT_SHRUNK`."""
    count = shrunk.height
    said = f"{count} symbol-days would have shrunk; " + ("replaced" if config.allow_shrink else "their bars are kept")
    return dg.AssetCheckResult(
        check_name=NOT_SHRUNK,
        passed=count == 0 or config.allow_shrink,
        description=said if count else "no symbol-day shrank",
        metadata={"symbol_days": count, "shrunk": dg.MetadataValue.md(markdown(shrunk.head(20)))},
    )
