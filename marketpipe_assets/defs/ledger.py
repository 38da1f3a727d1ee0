"""What a run writes into the catalogue, and what is made up for a run that died before it could."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import sqlalchemy as sa

from marketpipe_assets.bars.reasons import AROUND, Evidence
from marketpipe_assets.bars.schema import SECOND
from marketpipe_assets.bars.symbol_days import COUNTED, SymbolDays, symbol_days
from marketpipe_assets.catalog.counts import COUNTS, add_counts, add_seconds
from marketpipe_assets.catalog.ledger import record
from marketpipe_assets.catalog.restatements import record_restatements
from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import intents
from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.lake.facts import fetches_of
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.lake.superseded import restatements_in

MINUTE_TABLES = tuple(COUNTED)


def begin(catalog: Catalog, market: Market, run_id: str, selection: Selection) -> None:
    """Say what a run is about to write, before it writes: should it die, the ledger is made up from the lake."""
    row = {
        "run_id": run_id,
        "market": market.name,
        "symbols": json.dumps(list(selection.symbols)),
        "dates": json.dumps([f"{day}" for day in selection.dates]),
        "begun_at": datetime.now(UTC),
    }
    with catalog.begin() as connection:
        upsert(connection, intents, pl.DataFrame([row]))


def account(
    catalog: Catalog,
    lake: Path,
    market: Market,
    selection: Selection,
    run_id: str,
    bars: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """Write into the ledger and the counts what the lake holds of a selection, in one transaction.

    `bars` are its minute tables. Gives the ranges of minutes without a valid bar, with their reasons.
    """
    sessions = market.sessions
    fetches = fetches_of(lake, market.name, selection.symbols, selection.dates)
    found = symbol_days(bars, fetches, sessions, *selection)
    evidence = evidence_of(lake, market, selection)
    with catalog.begin() as connection:
        ranges = record(connection, market.name, sessions, found.facts, found.holes, evidence)
        add_counts(connection, run_id, market.name, "ingest", _ingested(found, run_id))
        add_counts(connection, run_id, market.name, "gaps", _gaps(found, ranges))
        ended = sa.delete(intents).where(intents.c.run_id == run_id, intents.c.market == market.name)
        connection.execute(ended)
    return ranges


def evidence_of(lake: Path, market: Market, selection: Selection) -> Evidence:
    """What is known beside the bars of a selection: the market's settings, and its second provider's minutes.

    A record judges again every symbol on the selection's sessions, and its symbols on the sessions around.
    """
    symbols, dates = selection
    if market.reconcile is None or not dates:
        return market.evidence
    known = market.sessions.table["session_date"]
    first, last = known.search_sorted(pl.Series([dates[0], dates[-1]]))
    around = known[max(first - AROUND, 0) : last + AROUND + 1].to_list()
    judged = [(market.symbols, dates), (symbols, [day for day in around if day not in set(dates)])]
    minutes = [read_bars(lake, market.name, SECOND, *part, columns=("symbol", "ts", "session_date")) for part in judged]
    days = [fetches_of(lake, market.name, *part, SECOND).select("symbol", "session_date") for part in judged]
    return market.evidence._replace(second=pl.concat(minutes), second_days=pl.concat(days))


def recover(catalog: Catalog, lake: Path, markets: Mapping[str, Market], instance: dg.DagsterInstance) -> list[str]:
    """Make up the ledger for runs that ended without having written it, and give their ids.

    A run that still goes on, as far as the instance knows, is left alone.
    """
    recovered = []
    for run_id, name, symbols, dates in catalog.frame(
        sa.select(intents.c.run_id, intents.c.market, intents.c.symbols, intents.c.dates)
    ).iter_rows():
        run = instance.get_run_by_id(run_id)
        if name not in markets or (run is not None and not run.is_finished):
            continue
        selection = _still_known(markets[name], json.loads(symbols), json.loads(dates))
        owned = markets[name].sessions.owned_dates(selection.dates)
        restated = restatements_in(lake, name, selection.symbols, owned)
        with catalog.begin() as connection:
            record_restatements(connection, name, restated)
        account(catalog, lake, markets[name], selection, run_id, minute_tables(lake, markets[name], selection))
        recovered.append(run_id)
    return recovered


def minute_tables(lake: Path, market: Market, selection: Selection) -> Mapping[str, pl.DataFrame]:
    """The minute tables of a selection as they are stored."""
    owned = market.sessions.owned_dates(selection.dates)
    return {name: read_bars(lake, market.name, name, selection.symbols, owned) for name in MINUTE_TABLES}


@contextmanager
def timed(catalog: Catalog, market: Market, run_id: str, operation: str, provider: str = "") -> Iterator[None]:
    """Note how long an operation of a run took, once it is done."""
    began = time.monotonic()
    yield
    with catalog.begin() as connection:
        add_seconds(connection, run_id, market.name, {operation: time.monotonic() - began}, provider)


def count(catalog: Catalog, market: Market, run_id: str, operation: str, counts: Mapping[str, int]) -> None:
    """Note what an operation of a run made, by name; 0 is left out."""
    rows = [("", "", name, float(value)) for name, value in counts.items() if value]
    with catalog.begin() as connection:
        add_counts(connection, run_id, market.name, operation, pl.DataFrame(rows, schema=COUNTS, orient="row"))


def _still_known(market: Market, symbols: Sequence[str], dates: Sequence[str]) -> Selection:
    known = set(market.sessions.dates)
    return Selection(symbols, [day for day in map(date.fromisoformat, dates) if day in known])


def _ingested(found: SymbolDays, run_id: str) -> pl.DataFrame:
    """Bars that this run was the first to bring, by provider and feed."""
    ours = found.facts.filter(pl.col("run_id") == run_id, pl.col("raw_bars") > 0)
    rows = ours.group_by("provider", "feed").agg(pl.col("raw_bars").sum().cast(pl.Float64).alias("value"))
    return rows.with_columns(pl.lit("rows").alias("name"), pl.col("provider", "feed").fill_null("")).select(*COUNTS)


def _gaps(found: SymbolDays, ranges: pl.DataFrame) -> pl.DataFrame:
    """Minutes without a valid bar, by reason."""
    whose = found.facts.select("symbol", "session_date", "provider", "feed")
    minutes = ranges.join(whose, on=("symbol", "session_date"), how="left")
    rows = minutes.group_by("provider", "feed", pl.col("reason").alias("name")).agg(
        pl.col("minutes").sum().cast(pl.Float64).alias("value")
    )
    return rows.with_columns(pl.col("provider", "feed").fill_null("")).select(*COUNTS)
