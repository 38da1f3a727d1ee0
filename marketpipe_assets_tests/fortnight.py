"""Three weeks of a market that nobody looks after, in some minutes: a vendor that fails, is late and corrects itself.

By hand: `python -m marketpipe_assets_tests.fortnight`. The clock is invented, the rest is real: schedules and sensors
are ticked as the daemon ticks them, runs go through Dagster, bars come over HTTP from a server of this machine. Around
Easter in Stockholm there are a half day (28 March), holidays (29 March and 1 April) and a change of the clocks
(31 March). Exits 1 where a hole is neither healed nor explained, or something was asked for more often than planned.
"""

import datetime as dt
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.ledger import symbol_days_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import restatements
from marketpipe_assets.config import Config, load_config
from marketpipe_assets.definitions import definitions_of
from marketpipe_assets_tests.providers.vendor_server import Reply, Seen, VendorServer, as_json, vendor_server

STOCKHOLM = ZoneInfo("Europe/Stockholm")
SYMBOLS = ("ABB", "VOLV")
FIRST, LAST = date(2024, 3, 18), date(2024, 4, 5)
END = datetime(2024, 4, 15, 12, tzinfo=UTC)  # the last correction of the last session is five sessions later

OUTAGE = (datetime(2024, 3, 19, 15, tzinfo=UTC), datetime(2024, 3, 20, 9, tzinfo=UTC))
LATE, LATE_UNTIL = date(2024, 3, 21), datetime(2024, 3, 22, 11, tzinfo=UTC)
CORRECTED = {
    date(2024, 3, 20): datetime(2024, 3, 20, 22, tzinfo=UTC),  # the evening of its day: seen the next morning
    date(2024, 3, 26): datetime(2024, 4, 2, 12, tzinfo=UTC),  # some sessions later: seen five sessions later
}
GAP, GAP_UNTIL = (date(2024, 3, 25), "VOLV"), datetime(2024, 3, 27, 20, tzinfo=UTC)
NEVER_TRADED = (date(2024, 4, 3), "ABB", 100, 103)  # three minutes that nobody has

KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")  # without them nothing is asked
CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  alpaca: {{base_url: "{url}", attempts: 2, first_wait: 0.01, longest_wait: 0.01, deadline_seconds: 5,
    requests_per_minute: 1000, quota_file: {folder}/quota.sqlite}}
markets:
  stockholm:
    calendar: XSTO
    asset_class: equity
    provider: alpaca
    symbols: [ABB, VOLV]
    start: 2024-03-18
    timeframes: [1h, 1d]
    listings: {{ABB: {{end: 2024-04-06}}, VOLV: {{end: 2024-04-06}}}}
    publication_delay: 24
    schedules: {{enabled: true, heal: true}}
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Clock:
    """The instant it is, for every module of ours that asks `datetime.now`."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Put it in the place of `datetime` where it is asked; providers keep the real one, for their waits."""
        clock = self

        class Kind(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, dt.datetime)

        class Told(datetime, metaclass=Kind):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return clock.now.astimezone(tz)

        ours = [
            module
            for name, module in sys.modules.items()
            if name.startswith("marketpipe_assets.") and vars(module).get("datetime") is dt.datetime
        ]
        clocked = [each for each in ours if not each.__name__.startswith("marketpipe_assets.providers")]
        for module in clocked:
            vars(module)["datetime"] = Told
        try:
            yield
        finally:
            for module in clocked:
                vars(module)["datetime"] = dt.datetime


class Vendor:
    """Bars of every minute of every session, as they are known at the instant of a clock."""

    def __init__(self, clock: Clock, hours: pl.DataFrame) -> None:
        self._clock = clock
        self._hours = hours
        self.answered: list[tuple[tuple[str, ...], tuple[date, ...]]] = []
        self.failed = 0

    def __call__(self, seen: Seen) -> Reply:
        if OUTAGE[0] <= self._clock.now < OUTAGE[1]:
            self.failed += 1
            return as_json({"message": "out of order"}, 503)
        symbols = tuple(seen.params["symbols"].split(","))
        first, last = (datetime.fromisoformat(seen.params[name]) for name in ("start", "end"))
        days = [row for row in self._hours.iter_rows(named=True) if row["open"] < last and row["close"] > first]
        self.answered.append((symbols, tuple(row["session_date"] for row in days)))
        bars = {symbol: [bar for row in days for bar in self._bars(symbol, row)] for symbol in symbols}
        return as_json({"bars": {name: each for name, each in bars.items() if each}, "next_page_token": None})

    def _bars(self, symbol: str, row: Mapping[str, Any]) -> Iterator[dict[str, object]]:
        day, now = row["session_date"], self._clock.now
        minutes = int((row["close"] - row["open"]).total_seconds() // 60)
        if day == LATE and now < LATE_UNTIL:
            minutes //= 2
        price = 100.0 if now < CORRECTED.get(day, END + timedelta(days=365)) else 101.0
        for minute in range(minutes):
            if (day, symbol) == GAP and now < GAP_UNTIL and 200 <= minute < 290:
                continue
            if (day, symbol) == NEVER_TRADED[:2] and NEVER_TRADED[2] <= minute < NEVER_TRADED[3]:
                continue
            at = row["open"] + timedelta(minutes=minute)
            values = dict.fromkeys("ohlc", price)
            yield {"t": f"{at:%Y-%m-%dT%H:%M:%SZ}", **values, "v": 100, "n": 3, "vw": price}


class Outcome(NamedTuple):
    """What three weeks came to."""

    ledger: pl.DataFrame
    restated: pl.DataFrame
    answered: Sequence[tuple[tuple[str, ...], tuple[date, ...]]]
    failed: int
    ticks: Sequence[str]

    @property
    def asked(self) -> Counter[tuple[str, date]]:
        """How often the vendor answered about each symbol-day."""
        return Counter((symbol, day) for symbols, days in self.answered for symbol in symbols for day in days)


def minimum(sessions: Sequence[date]) -> int:
    """Requests that knowing everything would take: each session once and twice again as corrections, and what was not
    there the first time once more. The corrections of one morning are not neighbours, so each is a request."""
    first = len(sessions)
    corrections = sum(1 for ago in (1, 5) for _ in sessions)
    return first + corrections + len({LATE, GAP[0]})


def live(folder: Path) -> Outcome:
    """Tick everything from the first session to some days after the last."""
    clock = Clock(datetime(2024, 3, 18, 6, tzinfo=UTC))
    with vendor_server() as server, dg.DagsterInstance.ephemeral() as instance:
        (folder / "marketpipe.yaml").write_text(CONFIGURATION.format(url=server.url, folder=folder))
        config = load_config(folder / "marketpipe.yaml")
        vendor = Vendor(clock, config.markets["stockholm"].sessions.table)
        server.vendor = vendor
        with clock.everywhere():
            ticks = list(_ticks(config, instance, clock, server))
        catalog = Catalog(config.catalog_url)
        ledger = symbol_days_of(catalog, "stockholm")
        restated = catalog.frame(sa.select(restatements).order_by(restatements.c.session_date, restatements.c.symbol))
        return Outcome(ledger, restated, vendor.answered, vendor.failed, ticks)


def _ticks(config: Config, instance: dg.DagsterInstance, clock: Clock, server: VendorServer) -> Iterator[str]:
    location = definitions_of(config)
    repository = location.get_repository_def()
    names = ("stockholm_after_close", "stockholm_corrections")
    times = {name: _times(repository.get_schedule_def(name)) for name in names}
    job = location.resolve_job_def("stockholm_ingest")
    while clock.now < END:
        local = clock.now.astimezone(STOCKHOLM)
        due = [name for name in names if f"{local.minute} {local.hour} * * *" in times[name]]
        requests: list[dg.RunRequest] = []
        for name in due:
            with dg.build_schedule_context(instance, clock.now, repository_def=repository) as context:
                data = repository.get_schedule_def(name).evaluate_tick(context)
            requests += data.run_requests or []
            if data.run_requests:
                yield f"{local:%a %d %b %H:%M %Z} {name}: {len(data.run_requests)} runs"
        if local.minute == 30:
            said, healing = _heal(repository, instance)
            requests += healing
            if healing:
                yield f"{local:%a %d %b %H:%M %Z} heal: {said}"
        for request in requests:
            before = len(server.seen)
            result = job.execute_in_process(
                instance=instance, tags=dict(request.tags), raise_on_error=False, run_config=QUIET
            )
            if not result.success:
                yield f"  a run failed after {len(server.seen) - before} requests"
        clock.now += timedelta(minutes=15)


def _times(schedule: dg.ScheduleDefinition) -> Sequence[str]:
    cron = schedule.cron_schedule
    return [cron] if isinstance(cron, str) else list(cron)


def _heal(
    repository: dg.RepositoryDefinition, instance: dg.DagsterInstance
) -> tuple[str | None, Sequence[dg.RunRequest]]:
    sensor = repository.get_sensor_def("stockholm_heal_gaps")
    resources = {key: repository.get_top_level_resources()[key] for key in sensor.required_resource_keys}
    with dg.build_sensor_context(instance, repository_def=repository, resources=resources) as context:
        data = sensor.evaluate_tick(context)
    return data.cursor, data.run_requests or []


def problems(outcome: Outcome) -> list[str]:
    """What is not as it should be; none is good."""
    ledger, found = outcome.ledger, list[str]()
    sessions = ledger["session_date"].unique().sort().to_list()
    if (rows := ledger.height) != 13 * len(SYMBOLS):
        found.append(f"expected 26 symbol-days, was {rows}")
    holes = ledger.filter(pl.col("missing") > 0)
    explained = [(NEVER_TRADED[1], NEVER_TRADED[0], 3)]
    left = [tuple(row) for row in holes.select("symbol", "session_date", "missing").rows()]
    if left != explained:
        found.append(f"expected no hole but {explained}, was {left}")
    if holes.select(pl.sum("no_trade", "vendor_gap", "not_yet_published")).row(0) not in ((3, 0, 0), (0, 3, 0)):
        found.append(f"expected a reason for the hole, was {holes}")
    restated = {(row["symbol"], row["session_date"]) for row in outcome.restated.iter_rows(named=True)}
    due = {(symbol, day) for symbol in SYMBOLS for day in CORRECTED}
    if not due <= restated:
        found.append(f"expected restatements of {due}, was {restated}")
    plain = {day for day in sessions if day not in (LATE, GAP[0], NEVER_TRADED[0], *CORRECTED)}
    often = {key: times for key, times in outcome.asked.items() if key[1] in plain and times > 3}
    if often:
        found.append(f"expected complete symbol-days to be asked for once and corrected twice, was {often}")
    return found


def report(outcome: Outcome) -> str:
    """The story, and requests made against the least."""
    sessions = outcome.ledger["session_date"].unique().sort().to_list()
    times = {day: sum(day in days for _, days in outcome.answered) for day in sessions}
    lines = [*outcome.ticks, "", "session: answered requests about it"]
    lines += [f"{day}: {count}" for day, count in times.items()]
    lines += [
        f"restated: {row['symbol']} {row['session_date']} at {row['superseded_at']:%Y-%m-%d %H:%M}"
        for row in outcome.restated.iter_rows(named=True)
    ]
    lines += [
        f"{len(outcome.answered)} requests answered, {outcome.failed} refused in the outage; least: {minimum(sessions)}"
    ]
    return "\n".join(lines)


def main() -> int:
    os.environ.update(dict.fromkeys(KEYS, "invented"))
    with tempfile.TemporaryDirectory() as folder:
        outcome = live(Path(folder))
    print(report(outcome))
    found = problems(outcome)
    print("\n".join(found) or "every hole is healed or explained")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
