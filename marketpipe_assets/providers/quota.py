"""A budget of requests that all processes of one machine share.

pyrate-limiter's SQLite bucket stamps a request when it is granted, so that a vendor that hears two of them with
different delays counts more than the rate in a window; it has no pause that other processes see.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from threading import Lock

from marketpipe_assets.providers.base import ProviderError, Rate, RateLimited

SHARED_FILE = Path("~/.cache/marketpipe/quota.sqlite")
"""The same for every process of a user, whatever its working folder."""

LOST = 300.0
"""Seconds after which a request that was never heard of again, because its process died, no longer counts as open."""

POLL = 0.25
"""Longest sleep in seconds: others finish, or pause the bucket, while one waits."""

TABLES = """
create table if not exists requests (bucket text, granted real not null, answered real, weight integer not null);
create index if not exists requests_of_bucket on requests (bucket, answered);
create table if not exists pauses (bucket text primary key, until real not null);
"""


class Bucket:
    """Requests of one credential at one vendor: never more than each rate over any window, as the vendor counts.

    A vendor hears a request at some instant between its grant and its answer. A grant is given only while fewer than
    `rate.requests` others were answered within the last `rate.seconds` or are still open, so no window that ends with
    this request, whenever it is heard, can hold more.
    """

    def __init__(self, file: Path, name: str, rates: Sequence[Rate]) -> None:
        self._name = name
        self._rates = rates
        self._lock = Lock()
        self._database = _opened(file.expanduser())

    @contextmanager
    def request(self, weight: int, pause_deadline: float, deadline: float = inf) -> Iterator[float]:
        """A place in the quota, for as long as a request is open; gives the seconds it was waited for.

        Raises `RateLimited` where the vendor's pause ends after `pause_deadline`, or the place comes after `deadline`,
        both instants of `time.time`. The two differ because the rate is known and a place comes in time; a pause may
        be a ban.
        """
        row, slept = self._granted(weight, pause_deadline, deadline)
        try:
            yield slept
        finally:
            with self._transaction() as database:
                database.execute("update requests set answered = ? where rowid = ?", (time.time(), row))

    def pause(self, until: float) -> None:
        """No request of any process before this instant of `time.time`."""
        with self._transaction() as database:
            database.execute(
                "insert into pauses values (?, ?)"
                " on conflict (bucket) do update set until = max(until, excluded.until)",
                (self._name, until),
            )

    def free_at(self, weight: int = 1) -> float:
        """The instant of `time.time` from which a request has a place; one that is past: now."""
        with self._transaction() as database:
            return max(self._freed(database, weight, time.time()))

    def remaining(self) -> int | None:
        """Requests of weight 1 that have a place now: none in a pause; None: there is no rate."""
        if not self._rates:
            return None
        with self._transaction() as database:
            now = time.time()
            paused, _ = self._freed(database, 1, now)
            left = [rate.requests - self._used(database, rate, now) for rate in self._rates]
        return 0 if paused > now else max(0, min(left))

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _granted(self, weight: int, pause_deadline: float, deadline: float) -> tuple[int, float]:
        slept = 0.0
        while True:
            with self._transaction() as database:
                now = time.time()
                paused, place = self._freed(database, weight, now)
                if max(paused, place) <= now:
                    values = (self._name, now, weight)
                    inserted = database.execute("insert into requests values (?, ?, null, ?)", values)
                    return inserted.lastrowid or 0, slept
            if paused > pause_deadline or place > deadline:
                retry_at = datetime.fromtimestamp(max(paused, place), UTC)
                raise RateLimited(f"expected a place in the quota in time, the next is at {retry_at}", retry_at)
            seconds = min(max(paused - now, place - now, 0.001), POLL)
            time.sleep(seconds)
            slept += seconds

    def _freed(self, database: sqlite3.Connection, weight: int, now: float) -> tuple[float, float]:
        longest = max((rate.seconds for rate in self._rates), default=0)
        # What lies in the future was written before the clock was set back.
        database.execute(
            "delete from requests where bucket = ?1 and (answered < ?2 - ?3 or granted > ?2 + 1"
            " or (answered is null and granted < ?2 - ?4))",
            (self._name, now, longest, LOST),
        )
        paused = database.execute("select until from pauses where bucket = ?", (self._name,)).fetchone()
        places = (self._place(database, rate, weight, now) for rate in self._rates)
        return paused[0] if paused else 0.0, max(places, default=0.0)

    def _used(self, database: sqlite3.Connection, rate: Rate, now: float) -> int:
        counted = "select coalesce(sum(weight), 0) from requests where bucket = ? and coalesce(answered, ?) >= ?"
        (used,) = database.execute(counted, (self._name, now, now - rate.seconds)).fetchone()
        return int(used)

    def _place(self, database: sqlite3.Connection, rate: Rate, weight: int, now: float) -> float:
        excess = self._used(database, rate, now) + min(weight, rate.requests) - rate.requests
        if excess <= 0:
            return 0.0
        leaving = database.execute(
            "select coalesce(answered, ?1), weight from requests"
            " where bucket = ?2 and coalesce(answered, ?1) >= ?3 order by 1",
            (now, self._name, now - rate.seconds),
        )
        for answered, each in leaving:
            excess -= each
            if excess <= 0:
                return float(answered) + rate.seconds + 1e-6
        return now + rate.seconds

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("begin immediate")
            with self._database:
                yield self._database


def quota_left(file: Path, vendor: str, rates: Sequence[Rate], now: float) -> dict[Rate, int]:
    """Requests each rate leaves at this instant of `time.time`, in the fullest of a vendor's buckets; 0 in a pause.

    Needs no secret, and writes nothing: for those who only look.
    """
    file = file.expanduser()
    if not file.exists():
        return {rate: rate.requests for rate in rates}
    pattern = f"{vendor} *"
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
        paused = database.execute("select max(until) from pauses where bucket glob ?", (pattern,)).fetchone()[0] or 0.0
        used = {
            rate: database.execute(
                "select coalesce(max(used), 0) from (select sum(weight) used from requests where bucket glob ?1"
                " and coalesce(answered, ?2) >= ?3 group by bucket)",
                (pattern, now, now - rate.seconds),
            ).fetchone()[0]
            for rate in rates
        }
    return {rate: 0 if paused > now else max(rate.requests - used[rate], 0) for rate in rates}


def _opened(file: Path) -> sqlite3.Connection:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
        database.executescript(f"pragma journal_mode = persist; pragma synchronous = off; {TABLES}")
    except (OSError, sqlite3.Error) as error:
        raise ProviderError(
            f"expected quota_file to be a file that can be written, was {file}: {error}; all processes of one machine "
            "count their requests in it"
        ) from error
    return database
