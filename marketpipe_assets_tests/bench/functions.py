"""The product's functions, called as its assets call them, without Dagster."""

from pathlib import Path

import polars as pl

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.resample import resample
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.timeframes import timeframe
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets_tests.bench.case import MARKET, TIMEFRAMES, Case


def pipeline(case: Case, lake: Path) -> None:
    """Store, judge and resample the case's vendor bars."""
    dates = case.sessions.owned_dates(case.dates)

    def store(table: str, bars: pl.DataFrame) -> None:
        write_bars(lake, MARKET, table, bars, case.symbols, dates)

    raw = case.sessions.assign(case.vendor_bars)
    store("raw_bars_1m", raw)
    split = split_by_rules(raw, RuleSet("equity"), case.sessions)
    store("bars_1m", split.valid)
    store("quarantined_bars_1m", split.quarantined)
    longer = resample(split.valid, map(timeframe, TIMEFRAMES), case.sessions)
    for label, bars in longer.items():
        store(timeframe(label).table, bars)
