"""The coverage ledger: what is held of each symbol-day, what is missing and why."""

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.bars.coverage import HOLES
from marketpipe_assets.bars.reasons import AROUND, EXPLAINED, Evidence, bare, explained, minutes_by_reason, unlisted
from marketpipe_assets.bars.schema import KEY
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog, frame_of
from marketpipe_assets.catalog.tables import ASKABLE, MISSING, askable_in, symbol_days

FACTS = (
    *KEY,
    "provider",
    "feed",
    "expected",
    "received",
    "valid",
    "quarantined",
    "missing",
    "raw_bars",
    "valid_bars",
    "quarantined_bars",
    "content_hash",
    "run_id",
    "fetched_at",
    "settled_at",
)
"""Columns of a row that are seen; the reasons are judged."""

MINUTE = "%Y-%m-%dT%H:%MZ"
EVIDENCE = (*KEY, "expected", "received", "fetched_at", "settled_at")


def record(
    connection: sa.Connection,
    market: str,
    sessions: Sessions,
    facts: pl.DataFrame,
    holes: pl.DataFrame,
    evidence: Evidence,
) -> pl.DataFrame:
    """Write what was seen of some symbol-days, with the reasons of their holes, and give the ranges written.

    `facts` has `FACTS`, one row per symbol-day; `holes` is `coverage`'s. The reasons of other rows that these bars are
    evidence for are judged again: those of the same sessions, and those of the same symbols near them. So the ledger is
    the same in whatever order it was written. `evidence.first_received` is read here.
    """
    if facts.is_empty():
        return pl.DataFrame(schema=EXPLAINED)
    near = _near(sessions, facts["session_date"])
    stored = _stored(connection, market, near)
    others = stored.join(facts, on=KEY, how="anti", maintain_order="left")
    before = _ranges(others)
    known = evidence._replace(first_received=_firsts(connection, market, facts, others))
    days = pl.concat([others.select(EVIDENCE), facts.select(EVIDENCE)])
    ranges = explained(days, pl.concat([bare(before), holes.select(*HOLES)]), sessions, known)
    new = ranges.join(facts, on=KEY, how="semi", maintain_order="left")
    upsert(connection, symbol_days, _rows(market, facts, new))
    span = _around(near, facts["session_date"])
    _rejudge(connection, market, _touched(others, facts, span), before, ranges)
    _rejudge_empty(connection, market, sessions, facts["symbol"].unique().to_list(), span, known)
    return new


def symbol_days_of(
    catalog: Catalog, market: str, symbols: Sequence[str] | None = None, dates: Sequence[date] | None = None
) -> pl.DataFrame:
    """The ledger's rows, by symbol and session. Dates are a span: every row from the first to the last of them."""
    columns = symbol_days.c
    select = sa.select(symbol_days).where(columns.market == market)
    if symbols is not None:
        select = select.where(columns.symbol.in_(symbols))
    if dates is not None:
        select = select.where(columns.session_date.between(min(dates), max(dates)))
    return catalog.frame(select.order_by(columns.symbol, columns.session_date))


def holes_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The explained ranges of ledger rows, columns `EXPLAINED`."""
    return _ranges(rows)


def gaps(
    catalog: Catalog,
    market: str,
    reasons: Sequence[str] = ASKABLE,
    first: date | None = None,
    end: date | None = None,
) -> pl.DataFrame:
    """Symbol-days with minutes missing for these reasons, newest first.

    `symbol`, `session_date`, `minutes` of those reasons, `provider`, `fetched_at`; the span is half-open.
    """
    columns = symbol_days.c
    minutes = sum((columns[reason] for reason in reasons[1:]), columns[reasons[0]])
    select = sa.select(
        columns.symbol, columns.session_date, minutes.label("minutes"), columns.provider, columns.fetched_at
    ).where(minutes > 0)
    if set(reasons) <= set(ASKABLE):
        select = select.where(*askable_in(market))
    else:
        select = select.where(columns.market == market)
    if first is not None:
        select = select.where(columns.session_date >= first)
    if end is not None:
        select = select.where(columns.session_date < end)
    return catalog.frame(select).sort("session_date", "symbol", descending=[True, False])


BARS = ("raw_bars", "valid_bars", "quarantined_bars")
SUMMED = ("expected", "received", "valid", "quarantined", "missing", *MISSING, *BARS)


def totals(catalog: Catalog, market: str, by: Sequence[str] = (), summed: Sequence[str] = SUMMED) -> pl.DataFrame:
    """Sums of minutes and bars, and the count of `days`, by `symbol`, `session_date`, `provider` or `feed`."""
    columns = symbol_days.c
    keys = [columns[name] for name in by]
    sums = (sa.cast(sa.func.coalesce(sa.func.sum(columns[name]), 0), sa.BigInteger).label(name) for name in summed)
    days = sa.cast(sa.func.count(), sa.BigInteger).label("days")
    return catalog.frame(sa.select(*keys, days, *sums).where(columns.market == market).group_by(*keys).order_by(*keys))


def received(catalog: Catalog, market: str) -> pl.DataFrame:
    """`symbol` and its `days` of which regular minutes were received.

    Read from an index alone: a fifth of a second for a million symbol-days.
    """
    columns = symbol_days.c
    days = sa.cast(sa.func.count(), sa.BigInteger).label("days")
    of_market = sa.select(columns.symbol, days).where(columns.market == market, columns.received > 0)
    return catalog.frame(of_market.group_by(columns.symbol).order_by(columns.symbol))


def count_within(
    connection: sa.Connection,
    market: str,
    spans: Mapping[str, tuple[date, date]],
    *conditions: "sa.ColumnElement[bool]",
) -> int:
    """How many rows meet the conditions, of each of these symbols within its half-open span of sessions."""
    columns = symbol_days.c
    alike: dict[tuple[date, date], list[str]] = {}
    for symbol, (first, end) in spans.items():
        alike.setdefault((first, end), []).append(symbol)
    found = 0
    for (first, end), symbols in alike.items():
        within = sa.and_(columns.session_date >= first, columns.session_date < end, columns.symbol.in_(symbols))
        select = sa.select(sa.func.count()).where(columns.market == market, within, *conditions)
        found += connection.scalar(select) or 0
    return found


def received_span(catalog: Catalog, market: str) -> tuple[date, date] | None:
    """The first and the last session of which regular minutes of some symbol were received; None: there is none."""
    day = symbol_days.c.session_date
    of_market = sa.select(day).where(symbol_days.c.market == market, symbol_days.c.received > 0)
    ends = [catalog.frame(of_market.order_by(order).limit(1)) for order in (day, day.desc())]
    return None if ends[0].is_empty() else (ends[0].item(), ends[1].item())


def forget(connection: sa.Connection, market: str) -> None:
    """Remove every row of a market, before it is written anew."""
    connection.execute(sa.delete(symbol_days).where(symbol_days.c.market == market))


def _around(near: Sequence[date], dates: pl.Series) -> tuple[date, date]:
    """The sessions `AROUND` before the first and after the last of these dates."""
    known = pl.Series(near)
    first, last = known.search_sorted(pl.Series([dates.min(), dates.max()]))
    return near[max(first - AROUND, 0)], near[min(last + AROUND, len(near) - 1)]


def _touched(rows: pl.DataFrame, facts: pl.DataFrame, span: tuple[date, date]) -> pl.DataFrame:
    """Rows that the facts are evidence for: of their sessions, and of their symbols within a span around them."""
    same_session = pl.col("session_date").is_in(facts["session_date"].unique().to_list())
    same_symbol = pl.col("symbol").is_in(facts["symbol"].unique().to_list())
    return rows.filter(same_session | (same_symbol & pl.col("session_date").is_between(*span)))


def _near(sessions: Sessions, dates: pl.Series) -> Sequence[date]:
    """Every session from some before the first of the dates to some after the last."""
    known = sessions.table["session_date"]
    first, last = known.search_sorted(pl.Series([dates.min(), dates.max()], dtype=pl.Date))
    start = max(first - 2 * AROUND, 0)  # rows within AROUND are judged again, by what lies AROUND them
    near: list[date] = known[start : last + 2 * AROUND + 1].to_list()
    return near


def _stored(connection: sa.Connection, market: str, dates: Sequence[date]) -> pl.DataFrame:
    columns = symbol_days.c
    select = sa.select(*(columns[name] for name in (*EVIDENCE, "quarantined", "missing", "holes")))
    return frame_of(
        connection,
        select.where(columns.market == market, columns.session_date.between(dates[0], dates[-1])),
    )


def _ranges(rows: pl.DataFrame) -> pl.DataFrame:
    with_holes = rows.filter(pl.col("holes").is_not_null())
    decoded = [
        (symbol, day, *each)
        for symbol, day, text in with_holes.select(*KEY, "holes").iter_rows()
        for each in msgspec.json.decode(text)
    ]
    schema = {**EXPLAINED, "start": pl.String()}
    return pl.DataFrame(decoded, schema=schema, orient="row").with_columns(
        pl.col("start").str.to_datetime(MINUTE, time_unit="us", time_zone="UTC")
    )


def _rows(market: str, facts: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    return (
        facts.join(_reasons(ranges), on=KEY, how="left", maintain_order="left")
        .with_columns(pl.lit(market).alias("market"), pl.col(MISSING).fill_null(0))
        .select("market", *FACTS, *MISSING, "holes")
    )


def _reasons(ranges: pl.DataFrame) -> pl.DataFrame:
    """Per symbol-day minutes by reason, and the ranges as text."""
    counts = minutes_by_reason(ranges)
    texts = (
        ranges.with_columns(pl.col("start").dt.strftime(MINUTE))
        .group_by(KEY, maintain_order=True)
        .agg(pl.struct("start", "minutes", "reason").alias("holes"))
    )
    encoded = [
        msgspec.json.encode([(each["start"], each["minutes"], each["reason"]) for each in holes]).decode()
        for holes in texts["holes"].to_list()
    ]
    return counts.select(*KEY, *MISSING).with_columns(pl.Series("holes", encoded, dtype=pl.String))


def _rejudge(
    connection: sa.Connection, market: str, rows: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame
) -> None:
    """Write the reasons of rows whose reasons are others now."""
    was = before.join(rows, on=KEY, how="semi").sort(*KEY, "start")
    now = after.join(rows, on=KEY, how="semi").sort(*KEY, "start")
    other = now.join(was, on=[*KEY, "start", "minutes", "reason"], how="anti").select(KEY).unique()
    if other.is_empty():
        return
    changed = now.join(other, on=KEY, how="semi", maintain_order="left")
    values = _reasons(changed)
    columns = symbol_days.c
    connection.execute(
        sa.update(symbol_days)
        .where(
            columns.market == market,
            columns.symbol == sa.bindparam("of_symbol"),
            columns.session_date == sa.bindparam("of_date"),
        )
        .values({name: sa.bindparam(f"new_{name}") for name in (*MISSING, "holes")}),
        values.rename(
            {"symbol": "of_symbol", "session_date": "of_date", **{name: f"new_{name}" for name in (*MISSING, "holes")}}
        ).to_dicts(),
    )


def _firsts(connection: sa.Connection, market: str, facts: pl.DataFrame, stored: pl.DataFrame) -> Mapping[str, date]:
    """Symbol → its first session with a bar, once `facts` are written; of symbols that have sessions without any."""
    columns = symbol_days.c
    ours = facts["symbol"].unique().to_list()
    empty = sa.select(columns.symbol).distinct().where(columns.market == market, columns.received == 0)
    of_ours = connection.scalars(empty.where(columns.symbol.in_(ours))).all()
    near = pl.concat([stored.select(EVIDENCE), facts.select(EVIDENCE)]).filter(pl.col("received") == 0)["symbol"]
    doubtful = {*of_ours, *near}
    received = facts.filter(pl.col("received") > 0, pl.col("symbol").is_in(list(doubtful)))
    firsts: dict[str, date] = dict(received.group_by("symbol").agg(pl.col("session_date").min()).iter_rows())
    dates_of: dict[str, list[date]] = dict(facts.group_by("symbol").agg("session_date").iter_rows())
    for symbol in sorted(doubtful):
        earlier = sa.select(columns.session_date).where(
            columns.market == market, columns.symbol == symbol, columns.received > 0
        )
        if symbol in dates_of:
            earlier = earlier.where(columns.session_date.not_in(dates_of[symbol]))
        first = connection.scalar(earlier.order_by(columns.session_date).limit(1))
        if first is not None:
            firsts[symbol] = min(first, firsts.get(symbol, first))
    return firsts


def _rejudge_empty(
    connection: sa.Connection,
    market: str,
    sessions: Sessions,
    symbols: Sequence[str],
    beyond: tuple[date, date],
    evidence: Evidence,
) -> None:
    """Judge sessions without any bar again that lie beyond a span: whether it was listed then depends on its first."""
    columns = symbol_days.c
    far = frame_of(
        connection,
        sa.select(*(columns[name] for name in (*EVIDENCE, "missing", "not_listed", "holes"))).where(
            columns.market == market,
            columns.received == 0,
            columns.symbol.in_(symbols),
            ~columns.session_date.between(*beyond),
        ),
    )
    doubtful = far.filter(unlisted(far, evidence) != (pl.col("not_listed") == pl.col("missing")))
    for day in doubtful["session_date"].unique(maintain_order=True):
        near = _near(sessions, pl.Series([day]))
        stored = _stored(connection, market, near)
        before = _ranges(stored)
        ranges = explained(stored.select(EVIDENCE), bare(before), sessions, evidence)
        _rejudge(connection, market, doubtful.filter(pl.col("session_date") == day), before, ranges)
