"""Whether a market's newest session is held, by its calendar.

Dagster's own freshness policies know times of day and no holidays, and take a backfill of an old day for news.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import dagster as dg

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.catalog.asking import held
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.coverage import NAME as COVERAGE

FRESH = "fresh"


class Late(NamedTuple):
    """The newest session that should be held by now, and the symbols it is not held of."""

    session: date
    symbols: Sequence[str]


def late(catalog: Catalog, market: Market, now: datetime) -> Late | None:
    """None where no session should be held yet."""
    over = market.sessions.between(now.date() - timedelta(days=14), now.date() + timedelta(days=1))
    allowed = timedelta(minutes=market.schedules.late_after)
    due = [day for day in over if market.sessions.published_by(day) + allowed <= now]
    if not due:
        return None
    newest = due[-1]
    known = {name for each in held(catalog, market.name, newest, next_day(newest)) for name in each.names()}
    return Late(newest, [symbol for symbol in market.listed_on(newest) if symbol not in known])


def fresh_check(market: Market) -> dg.AssetChecksDefinition:
    """The check that warns on the market's coverage."""

    @dg.asset_check(
        asset=[market.name, COVERAGE],
        name=FRESH,
        required_resource_keys={"catalog"},
        description=(
            f"The newest session of {market.calendar} that ended {market.schedules.late_after} minutes ago or more "
            "was fetched for every symbol."
        ),
    )
    def fresh(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        verdict = verdict_of(late(context.resources.catalog, market, datetime.now(UTC)))
        return dg.AssetCheckResult(
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=verdict.said,
            metadata={"late_symbols": verdict.late},
        )

    return fresh


class Verdict(NamedTuple):
    """What freshness comes to, in a sentence."""

    passed: bool
    said: str
    late: int


def verdict_of(found: Late | None) -> Verdict:
    """The verdict on what is late."""
    if found is None:
        return Verdict(passed=True, said="no session is due yet", late=0)
    if not found.symbols:
        return Verdict(passed=True, said=f"{found.session} is held of every symbol", late=0)
    shown = ", ".join(found.symbols[:10]) + (" …" if len(found.symbols) > 10 else "")
    return Verdict(
        passed=False,
        said=f"{found.session} is not held of {len(found.symbols)} symbols: {shown}",
        late=len(found.symbols),
    )
