"""`marketpipe doctor`: whether everything that runs need is there and well."""

import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import requires, version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from marketpipe_assets.cli.config_check import usable
from marketpipe_assets.cli.display import console, counted, size, table
from marketpipe_assets.cli.export import write_whole
from marketpipe_assets.cli.options import ConfigOption, configuration, over, sessions_of
from marketpipe_assets.cli.outcome import UserError, one_line, say, user_input
from marketpipe_assets.config import Config, environment, export_dagster_home

SAMPLED = 20
LITTLE_SPACE, NO_SPACE = 10e9, 1e9
SILENT_AFTER = 300.0
"""Seconds without a heartbeat after which Dagster itself calls a daemon dead."""

SKEW = timedelta(seconds=60)


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """What was looked at, how it is, and in a line why."""

    check: str
    state: State
    detail: str


Found = Iterator[tuple[State, str]]


def doctor(
    ask: Annotated[bool, typer.Option("--ask", "--test", help="Ask every provider for a little.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print what is well in full, too.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON here.")] = None,
    config: ConfigOption = None,
) -> None:
    """Look at everything that runs need: configuration, calendars, providers, catalogue, lake, Dagster, clock.

    Changes nothing. Exits 0 where nothing fails, 1 where something does, and 2 where the configuration cannot be read.
    """
    findings = examined(configuration(config), ask=ask)
    failed = [each for each in findings if each.state is State.FAIL]
    document = json.dumps({"ok": not failed, "checks": [each._asdict() for each in findings]}, indent=2)
    if output is not None:
        write_whole(output, f"{document}\n".encode())
    if as_json:
        typer.echo(document)
    else:
        console().print(table(("check", "state", "detail"), findings if verbose else _short(findings)))
    if failed:
        raise typer.Exit(say(f"{counted(len(failed), 'finding')} of {len(findings)} failed", 1))


def examined(config: Config, *, ask: bool) -> list[Finding]:
    """Every check in order. One that cannot look at all is a failure, and the others are made.

    What keeps several from looking is a failure of the first.
    """
    checks: Mapping[str, Callable[[Config], Found]] = {**CHECKS, "providers": _asked if ask else _secrets}
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += [Finding(name, *found) for found in check(config)]
        except _unable() as error:
            reason = one_line(str(error))
            told = any(each.detail == reason for each in findings)
            findings.append(Finding(name, State.WARN if told else State.FAIL, reason))
    return findings


def _short(findings: Sequence[Finding]) -> Iterator[Finding]:
    """One line for all that is well of a check."""
    for name in dict.fromkeys(each.check for each in findings):
        mine = [each for each in findings if each.check == name]
        well = [each.detail for each in mine if each.state is State.OK]
        if well:
            yield Finding(name, State.OK, well[0] if len(well) == 1 else f"{well[0]}; and {len(well) - 1} more")
        yield from (each for each in mine if each.state is not State.OK)


def _unable() -> tuple[type[Exception], ...]:
    """What a check raises that cannot look."""
    import dagster as dg
    import sqlalchemy as sa

    from marketpipe_assets.catalog.store import CatalogError
    from marketpipe_assets.lake.parquet import LakeError

    return (UserError, CatalogError, LakeError, sa.exc.SQLAlchemyError, sqlite3.Error, dg.DagsterError, OSError)


def _configuration(config: Config) -> Found:
    yield State.OK, f"{config.path or 'the packaged default'}"
    for line in usable(config):
        yield State.OK, line


def _calendars(config: Config) -> Found:
    for market in config.markets.values():
        dates = over(market, sessions_of(market).dates)
        if dates:
            yield State.OK, f"{market.name}: the newest session of {market.calendar} that is over is {dates[-1]}"
        else:
            yield State.WARN, f"{market.name}: no session of {market.calendar} since {market.start} is over yet"


def _secrets(config: Config) -> Found:
    from marketpipe_assets.providers import provider_class

    for name, block in config.providers.items():
        with user_input():
            able = provider_class(block.type).capabilities
        given = environment(able.variables)
        if missing := able.missing(given):
            state = State.WARN if able.keyless else State.FAIL
            yield state, f"{name}: expected {missing} in the environment, was not set"
        else:
            yield State.OK, f"{name}: {', '.join(given) or 'needs no secret'}"


def _asked(config: Config) -> Found:
    from marketpipe_assets.definitions import provider_of
    from marketpipe_assets.providers.base import ProviderError
    from marketpipe_assets.providers.http import HttpProvider

    for name, block in config.providers.items():
        with user_input():
            provider = provider_of(name, block)
        if not isinstance(provider, HttpProvider):
            yield State.OK, f"{name}: on this machine, nothing to ask"
            continue
        began = time.monotonic()
        try:
            provider.ping()
        except ProviderError as error:
            yield State.FAIL, one_line(f"{type(error).__name__}: {error}")
        else:
            yield State.OK, f"{name}: answered in {time.monotonic() - began:.2f} s"
        finally:
            provider.teardown_after_execution(None)


def _catalogue(config: Config) -> Found:
    import sqlalchemy as sa

    from marketpipe_assets.catalog.store import Catalog, head
    from marketpipe_assets.catalog.tables import intents, symbol_days

    catalog = Catalog(config.catalog_url)
    if catalog.is_sqlite and not Path(str(catalog.url.database)).exists():
        yield _to_be_made(Path(str(catalog.url.database)))
        return
    where, revision = catalog.url.render_as_string(hide_password=True), catalog.revision()
    if revision != head():
        yield State.WARN, f"{where} is at migration {revision}, not {head()}: the next run migrates it"
        return
    with catalog.reading() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(symbol_days))
        left = connection.scalar(sa.select(sa.func.count()).select_from(intents)) or 0
    yield State.OK, f"{where} is at migration {revision} and has {rows:,} symbol-days"
    if left:
        yield State.WARN, f"{counted(left, 'run')} began to write and did not say what: running now, or killed"


def _lake(config: Config) -> Found:
    lake = config.lake
    if not lake.is_dir():
        yield _to_be_made(lake)
        return
    yield _writable(lake)
    free = shutil.disk_usage(lake).free
    state = State.FAIL if free < NO_SPACE else State.WARN if free < LITTLE_SPACE else State.OK
    yield state, f"{size(free)} free in {lake}"
    yield from _files(lake)


def _to_be_made(path: Path) -> tuple[State, str]:
    nearest = next(place for place in path.parents if place.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return State.OK, f"{path} is not there yet: the first run makes it"
    return State.FAIL, f"{path} is not there yet, and {nearest} is no folder that can be written"


def _writable(lake: Path) -> tuple[State, str]:
    """Where writers put what is not whole yet, so that no reader sees it."""
    from marketpipe_assets.lake.parquet import WRITING

    probe = lake / WRITING / f"doctor-{os.getpid()}"
    try:
        probe.parent.mkdir(exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return State.FAIL, f"{lake} cannot be written: {error.strerror}"
    return State.OK, f"{lake} can be written"


def _files(lake: Path) -> Found:
    from marketpipe_assets.lake.verify import damaged, has_a_place, unfinished

    if left := unfinished(lake):
        yield State.WARN, f"{counted(len(left), 'file')} begun and not finished: `marketpipe lake verify --sweep`"
    folders = [folder for folder in lake.glob("*/*/symbol=*") if folder.is_dir()]
    sampled = [
        next(iter(folder.glob("*.parquet")), None) for folder in random.sample(folders, min(SAMPLED, len(folders)))
    ]
    placed = [path for path in sampled if path is not None and has_a_place(lake, path)]
    bad = list(damaged(lake, placed))
    for each in bad:
        yield State.FAIL, one_line(f"{each.path}: {each.reason}")
    if not bad:
        yield State.OK, f"{counted(len(placed), 'file')} of {counted(len(folders), 'folder')} read with their checksums"


def _dagster(config: Config) -> Found:
    import dagster as dg

    home = export_dagster_home(config)
    with dg.DagsterInstance.get() as instance:
        storage = type(instance.event_log_storage).__name__
        yield State.OK, f"{home}: {type(instance.run_storage).__name__}, {storage}"
        if not instance.run_monitoring_enabled:
            yield State.WARN, "run monitoring is off: a killed run stays started for ever (run_monitoring)"
        since = datetime.now(UTC) - timedelta(days=1)
        failed = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since))
        queued = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
        yield State.WARN if failed else State.OK, f"{counted(failed, 'run')} failed within a day, {queued} wait"


def _daemon(config: Config) -> Found:
    import dagster as dg

    export_dagster_home(config)
    with dg.DagsterInstance.get() as instance:
        beats = instance.get_daemon_heartbeats()
        needed = instance.get_required_daemon_types()
    if not beats:
        yield State.WARN, "no daemon has ever run here: schedules, sensors and backfills need `dagster-daemon run`"
        return
    for name in sorted(needed):
        age = time.time() - beats[name].timestamp if name in beats else None
        if age is not None and age < SILENT_AFTER:
            yield State.OK, f"{name}: alive {age:.0f} s ago"
        else:
            yield State.WARN, f"{name}: " + ("never alive" if age is None else f"silent since {age:,.0f} s")


def _clock(config: Config) -> Found:
    import sqlalchemy as sa

    from marketpipe_assets.catalog.store import Catalog, head
    from marketpipe_assets.catalog.tables import symbol_days

    now = datetime.now(UTC)
    catalog = Catalog(config.catalog_url)
    if not catalog.is_sqlite:
        with catalog.engine.connect() as connection:
            theirs: datetime = connection.execute(sa.text("SELECT now()")).scalar_one()
        apart = abs(theirs - datetime.now(UTC))
        yield State.FAIL if apart > SKEW else State.OK, f"{apart.total_seconds():.1f} s from the database's clock"
    elif Path(str(catalog.url.database)).exists() and catalog.revision() == head():
        with catalog.reading() as connection:
            newest: datetime | None = connection.scalar(sa.select(sa.func.max(symbol_days.c.fetched_at)))
        if newest is not None and newest > now + SKEW:
            yield (
                State.FAIL,
                f"expected a clock past {newest:%Y-%m-%d %H:%M} UTC, when bars were stored, was {now:%H:%M}",
            )
            return
    yield State.OK, f"{now:%Y-%m-%d %H:%M:%S} UTC"


SHOWN = ("marketpipe_assets", "dagster", "polars", "pyarrow", "duckdb", "sqlalchemy")


def _versions(_: Config) -> Found:
    from packaging.requirements import Requirement

    yield State.OK, ", ".join(f"{name} {version(name)}" for name in SHOWN)
    needed = (Requirement(text) for text in requires("marketpipe_assets") or ())
    for each in (each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})):
        if not each.specifier.contains(version(each.name), prereleases=True):
            yield State.FAIL, f"expected {each.name}{each.specifier}, was {version(each.name)}"


CHECKS: Mapping[str, Callable[[Config], Found]] = {
    "configuration": _configuration,
    "calendars": _calendars,
    "providers": _secrets,
    "catalogue": _catalogue,
    "lake": _lake,
    "dagster": _dagster,
    "daemon": _daemon,
    "clock": _clock,
    "versions": _versions,
}
"""What is looked at, in order."""
