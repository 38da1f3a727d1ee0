"""What follows from stored raw bars, rebuilt without a run: of symbols that have no partitions any more."""

from pathlib import Path
from uuid import uuid4

import polars as pl

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.resample import Anchor, resample
from marketpipe_assets.bars.schema import QUARANTINED, RAW, VALID
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.assets.resampled import timeframes_of
from marketpipe_assets.defs.ledger import account, begin, minute_tables
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.defs.retention import spared
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.scan import read_bars


def rebuild_retired(catalog: Catalog, lake: Path, market: Market, selection: Selection) -> None:
    """Rebuild every table and the ledger's rows. Of a killed one the ledger is made up by the market's next run."""
    run_id = f"{uuid4()}"
    begin(catalog, market, run_id, selection)
    rebuild_tables(catalog, lake, market, selection)
    account(catalog, lake, market, selection, run_id, minute_tables(lake, market, selection))


def rebuild_tables(catalog: Catalog, lake: Path, market: Market, selection: Selection) -> None:
    """Judge stored raw bars again and store valid, quarantined and longer bars of the same symbols and sessions.

    What was built from bars that retention has removed stays.
    """

    def store(table: str, bars: pl.DataFrame) -> None:
        old = spared(catalog, lake, market, table, symbols, owned)
        write_bars(lake, market.name, table, bars, symbols, owned, spared=old)

    symbols, owned = selection.symbols, market.sessions.owned_dates(selection.dates)
    raw = read_bars(lake, market.name, RAW, symbols, owned)
    split = split_by_rules(raw, market.rule_set, market.sessions)
    store(VALID, split.valid)
    store(QUARANTINED, split.quarantined)
    valid = read_bars(lake, market.name, VALID, symbols, owned)
    timeframes = timeframes_of(market)
    longer = resample(valid, timeframes, market.sessions, market.session, Anchor(market.anchor))
    for each in timeframes:
        store(each.table, longer[each.label])
