"""What people are told by itself: runs that failed for good, and sessions that are late. How is alerts.py's."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from marketpipe_assets.alerts import Alert, Messenger, Undelivered
from marketpipe_assets.catalog.alerting import is_due, note_sent
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import symbol_days
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.coverage import NAME as COVERAGE
from marketpipe_assets.defs.freshness import FRESH, late, verdict_of
from marketpipe_assets.defs.lost_runs import LOST_TAG, MADE_GOOD

NAME = "alerts"
TICK_SECONDS = 60
FIRST_LOOK_BACK = timedelta(hours=1)
PAGE = 200  # runs that are asked for at once
MOST_READ = 200  # runs of a tick whose events are read for the reason; the others are counted
UNREAD = "more runs failed than a tick reads the reasons of: the web UI has them"
WILL_RETRY = "dagster/will_retry"


def alerts_sensor(markets: Mapping[str, Market], messenger: Messenger) -> dg.SensorDefinition:
    """The sensor that tells of failed runs and late sessions; on where a channel is configured."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=(dg.DefaultSensorStatus.RUNNING if messenger.has_channels else dg.DefaultSensorStatus.STOPPED),
        required_resource_keys={"catalog"},
        description="Tells of runs that failed for good and of sessions that are late, by webhook and e-mail, once.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        catalog, now = context.resources.catalog, datetime.now(UTC)
        since = datetime.fromisoformat(context.cursor.split()[0]) if context.cursor else now - FIRST_LOOK_BACK
        troubles = [*failures(context.instance, since), *late_sessions(catalog, markets, now)]
        said = _told(catalog, messenger, troubles, now)
        context.log.info(said)
        return dg.SensorResult(
            skip_reason=said,
            cursor=f"{now.isoformat()} {said}",
            asset_events=[*_fresh_checks(catalog, context.instance, markets, now)],
        )

    return alerts


def failures(instance: dg.DagsterInstance, since: datetime) -> list[Alert]:
    """Runs that failed since an instant, one alert for each job and reason."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for number, run in enumerate(_failed_runs(instance, since)):
        reason = _reason(instance, run.run_id) if number < MOST_READ else UNREAD
        alike[run.job_name, reason].append(run.run_id)
    return [_failed(job, reason, runs) for (job, reason), runs in alike.items()]


def _failed_runs(instance: dg.DagsterInstance, since: datetime) -> Iterator[dg.DagsterRun]:
    """Newest first; neither those that are tried again, nor those that were lost and are made good since."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    cursor = None
    while page := instance.get_runs(filters=filters, cursor=cursor, limit=PAGE):
        for run in page:
            if run.tags.get(WILL_RETRY) != "true" and run.tags.get(LOST_TAG) != MADE_GOOD:
                yield run
        cursor = page[-1].run_id


def _failed(job: str, reason: str, runs: Sequence[str]) -> Alert:
    count = f"{len(runs)} runs" if len(runs) > 1 else "a run"
    key = re.sub(r"\d+", "#", f"failed {job}: {reason}")  # the same trouble of another day or symbol
    return Alert(key[:255], f"{count} of {job} failed", f"{reason}\nrun {runs[0]}")


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for record in instance.get_records_for_run(run_id, of_type=kinds, limit=1).records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.is_step_failure:
            said = event.step_failure_data.user_failure_data
            error = event.step_failure_data.error
            text = (said.description if said is not None else None) or (error.message if error is not None else "")
            return _line(text or event.message or "")
        if event is not None:
            return _line(event.message or "")
    return "no reason given"


def _line(text: str) -> str:
    return " ".join(text.split())[:500] or "no reason given"


def late_sessions(catalog: Catalog, markets: Mapping[str, Market], now: datetime) -> Iterator[Alert]:
    """Markets whose newest session should be held and is not; not one of which nothing was ever fetched."""
    for market in markets.values():
        found = late(catalog, market, now)
        if found is not None and found.symbols and _is_in_use(catalog, market):
            yield Alert(f"late {market.name} {found.session}", f"{market.name} is late", verdict_of(found).said)


def _is_in_use(catalog: Catalog, market: Market) -> bool:
    with catalog.reading() as connection:
        first = sa.select(symbol_days.c.symbol).where(symbol_days.c.market == market.name).limit(1)
        return connection.scalar(first) is not None


def _told(catalog: Catalog, messenger: Messenger, troubles: Sequence[Alert], now: datetime) -> str:
    repeat = timedelta(hours=messenger.settings.repeat_hours)
    due = [trouble for trouble in troubles if is_due(catalog, trouble.key, now, repeat)]
    if not due:
        return f"nothing to tell; {len(troubles)} known already" if troubles else "nothing to tell"
    failed = []
    for trouble in due if messenger.has_channels else []:
        try:
            messenger.send(trouble)
        except Undelivered as error:
            failed.append(f"{trouble.title}: {error}")
        else:
            note_sent(catalog, trouble.key, now)
    if failed:
        raise Undelivered(
            f"{len(failed)} of {len(due)} alerts not delivered, tried again in the next tick: {failed[0]}"
        )
    titles = "; ".join(f"{trouble.title} ({trouble.text.splitlines()[0]})" for trouble in due)
    return f"told: {titles}" if messenger.has_channels else f"nobody to tell, no channel is configured: {titles}"


def _fresh_checks(
    catalog: Catalog, instance: dg.DagsterInstance, markets: Mapping[str, Market], now: datetime
) -> Iterator[dg.AssetCheckEvaluation]:
    """The verdicts that are other than Dagster has them: a tick a minute would fill its log."""
    for market in markets.values():
        if not _is_in_use(catalog, market):
            continue
        check = dg.AssetCheckKey(dg.AssetKey([market.name, COVERAGE]), FRESH)
        verdict = verdict_of(late(catalog, market, now))
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check]).get(check)
        known = latest.evaluation if latest is not None else None
        if known is None or (known.passed, known.description) != (verdict.passed, verdict.said):
            yield dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=FRESH,
                passed=verdict.passed,
                severity=dg.AssetCheckSeverity.WARN,
                description=verdict.said,
                metadata={"late_symbols": verdict.late},
            )
