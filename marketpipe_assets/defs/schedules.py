"""When a market's runs start: after each session, the next morning, and weekly. What gaps ask for is sensors.py's."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.config import Market
from marketpipe_assets.defs.jobs import compare_job_name, ingest_job_name
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.planner import planned_runs

WHY_TAG = "marketpipe/why"
"""The run tag that says what started a run."""

Job = dg.JobDefinition | UnresolvedAssetJobDefinition


class Weekly(NamedTuple):
    """A job without partitions, and the day of the week it runs on in the morning (0: Sunday)."""

    job: Job
    day: int
    what: str
    run_config: dict[str, object] | None = None


def schedules(grid: Grid, weekly: Sequence[Weekly]) -> list[dg.ScheduleDefinition]:
    """A market's schedules, in its exchange's time zone; off until they are enabled."""
    return [
        _after_close(grid),
        _corrections(grid),
        *([_comparison(grid)] if grid.market.tie_out or grid.market.reconcile else []),
        *(_weekly(grid.market, each) for each in weekly),
    ]


def due_after(market: Market, sessions: Sessions, at: datetime) -> list[date]:
    """Sessions whose after-close run is due at this instant, to the minute."""
    return [day for day in _near(sessions, at) if _due(market, sessions, day) == at]


def due_again(market: Market, sessions: Sessions, today: date) -> list[date]:
    """Sessions to read again on the morning of a session: those so many sessions back; none on a closed day.

    What retention would remove is not read again.
    """
    dates = list(sessions.dates)
    if today not in dates:
        return []
    position = dates.index(today)
    first = market.kept_from("raw_bars_1m", today) or date.min
    back = [dates[position - sessions_ago] for sessions_ago in market.schedules.corrections if sessions_ago <= position]
    return sorted(day for day in back if day >= first)


def _near(sessions: Sessions, at: datetime) -> Sequence[date]:
    return sessions.between(at.date() - timedelta(days=4), at.date() + timedelta(days=2))


def _due(market: Market, sessions: Sessions, day: date) -> datetime:
    return sessions.published_by(day) + timedelta(minutes=market.schedules.after_close)


def _after_close(grid: Grid) -> dg.ScheduleDefinition:
    market, sessions = grid.market, grid.market.sessions

    @dg.schedule(
        name=f"{market.name}_after_close",
        job_name=ingest_job_name(market.name),
        cron_schedule=_closing_times(market, sessions),
        execution_timezone=sessions.timezone,
        default_status=_status(market),
        description=(
            f"Fetches each session of {market.name} {market.schedules.after_close} minutes after it is published: "
            "earlier on half days, and not on closed ones."
        ),
    )
    def after_close(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at, known = context.scheduled_execution_time, market.sessions
        due = due_after(market, known, at)
        if not due:
            zone = ZoneInfo(known.timezone)
            yield dg.SkipReason(f"no session of {market.calendar} is due at {at.astimezone(zone):%Y-%m-%d %H:%M %Z}")
        yield from _requests(grid, due, "after close")

    return after_close


def _closing_times(market: Market, sessions: Sessions) -> list[str]:
    """One cron line for each time of day a session of this year or the coming weeks is due at."""
    zone, year = ZoneInfo(sessions.timezone), sessions.dates[-1].year - 1
    of_this_year = [day for day in sessions.dates if day.year >= year]
    local = (_due(market, sessions, day).astimezone(zone) for day in of_this_year)
    return sorted({f"{due.minute} {due.hour} * * *" for due in local})


def _corrections(grid: Grid) -> dg.ScheduleDefinition:
    market = grid.market
    sessions, morning = market.sessions, market.schedules.morning

    @dg.schedule(
        name=f"{market.name}_corrections",
        job_name=ingest_job_name(market.name),
        cron_schedule=f"{morning.minute} {morning.hour} * * *",
        execution_timezone=sessions.timezone,
        default_status=_status(market),
        description=(
            f"Reads sessions of {market.name} again {_and(market.schedules.corrections)} sessions later: bars that "
            "their provider has changed since are kept beside the new ones, and told as restatements."
        ),
    )
    def corrections(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        known = market.sessions
        today = context.scheduled_execution_time.astimezone(ZoneInfo(known.timezone)).date()
        due = due_again(market, known, today)
        if not due:
            yield dg.SkipReason(f"{market.calendar} is closed on {today}, or no session is far enough back")
        yield from _requests(grid, due, "corrections")

    return corrections


def _comparison(grid: Grid) -> dg.ScheduleDefinition:
    market = grid.market
    sessions, morning = market.sessions, market.schedules.morning

    @dg.schedule(
        name=f"{market.name}_comparison",
        job_name=compare_job_name(market.name),
        cron_schedule=f"{morning.minute} {morning.hour} * * *",
        execution_timezone=sessions.timezone,
        default_status=_status(market),
        description=f"Compares each session of {market.name} with its other sources, the morning after.",
    )
    def comparison(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        today = context.scheduled_execution_time.astimezone(ZoneInfo(sessions.timezone)).date()
        due = market.sessions.between(today - timedelta(days=1), today)
        if not due:
            yield dg.SkipReason(f"{market.calendar} was closed on the day before {today}")
        yield from _requests(grid, due, "comparison")

    return comparison


def _weekly(market: Market, weekly: Weekly) -> dg.ScheduleDefinition:
    morning = market.schedules.morning
    return dg.ScheduleDefinition(
        job=weekly.job,
        run_config=weekly.run_config,
        cron_schedule=f"{morning.minute} {morning.hour} * * {weekly.day}",
        execution_timezone=market.sessions.timezone,
        default_status=_status(market),
        description=weekly.what,
    )


def _requests(grid: Grid, days: Sequence[date], why: str) -> Iterator[dg.RunRequest]:
    for selection in planned_runs(grid, {day: grid.market.listed_on(day) for day in days}):
        tags = {**grid.tags(selection), WHY_TAG: why}
        yield dg.RunRequest(run_key=f"{selection.dates[0]}|{selection.symbols[0]}", tags=tags)


def _status(market: Market) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if market.schedules.enabled else dg.DefaultScheduleStatus.STOPPED


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
