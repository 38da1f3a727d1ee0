"""Ingest a folder of real vendor files through the product and compare with its expected results.

Run it by hand: `python -m marketpipe_assets_tests.realdata FOLDER`. The folder, its `check.py` and its results are not
part of this project, and no test depends on them. Prints what was ingested, what the rules found, which of the known
defects are among it, and `check.py`'s verdict, with which it exits.
"""

import logging
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl

from marketpipe_assets.bars.clock import next_day
from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.config import Config, Market, export_dagster_home, load_config
from marketpipe_assets.defs.jobs import ingest_job_name
from marketpipe_assets.defs.launch import run_job
from marketpipe_assets.defs.partitions import Grid
from marketpipe_assets.defs.planner import planned_runs
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.realdata_defects import show as show_defects

CONFIGURATION = """
config_version: 1
lake: ./lake
providers:
  us_shares: {{type: files, format: lean, root: {root}, security: equity, market: usa}}
  us_indices: {{type: files, format: lean, root: {root}, security: index, market: usa}}
  coinbase: {{type: files, format: lean, root: {root}, security: crypto, market: coinbase}}
  bybit: {{type: files, format: lean, root: {root}, security: cryptofuture, market: bybit}}
  cme: {{type: files, format: lean, root: {root}, security: future, market: cme}}
  eurex: {{type: files, format: lean, root: {root}, security: future, market: eurex}}
  fxcm: {{type: files, format: lean, root: {root}, security: forex, market: fxcm}}
markets:
  us_equities:
    calendar: XNYS
    asset_class: equity
    extended_hours: ["04:00", "20:00"]
    provider: us_shares
    symbols: [BAC, FOXA, SPY, TWX]
    start: 2013-07-01
  us_index:
    calendar: XNYS
    asset_class: index
    extended_hours: ["09:30", "17:00"]
    provider: us_indices
    symbols: [SPX]
    start: 2021-01-04
  coinbase:
    calendar: 24/7
    asset_class: crypto
    provider: coinbase
    symbols: [BTCUSD, ETHUSD]
    start: 2016-10-07
  bybit:
    calendar: 24/7
    asset_class: crypto
    provider: bybit
    symbols: [BTCUSDT]
    start: 2022-12-13
  cme:
    calendar: CME_GLOBEX
    asset_class: future
    provider: cme
    symbols: [ES.201312, ES.201403, ES.201406, ES.201409, ES.201412]
    start: 2013-10-07
  eurex:
    calendar: XEUR
    asset_class: future
    extended_hours: ["00:00", "23:59"]
    provider: eurex
    symbols: [FESX.202406, FESX.202409]
    start: 2024-06-03
  fx:
    calendar: FX
    asset_class: fx
    provider: fxcm
    symbols: [EURUSD.ask, EURUSD.bid]
    start: 2011-03-07
"""

CONTRACTS = ("ES.201312", "ES.201403", "ES.201406", "ES.201409", "ES.201412")
DAYS = (
    ("us_equities", ("BAC",), "2013-10-04", "2013-10-11"),
    ("us_equities", ("SPY",), "2013-10-04", "2013-10-11"),
    ("us_equities", ("FOXA",), "2013-07-01", "2013-07-02"),
    ("us_equities", ("TWX",), "2014-06-05", "2014-06-09"),
    ("us_equities", ("SPY",), "2023-08-03", "2023-08-03"),
    ("us_index", ("SPX",), "2021-01-04", "2021-01-04"),
    ("us_index", ("SPX",), "2023-06-30", "2023-07-03"),
    ("coinbase", ("BTCUSD",), "2016-10-07", "2016-10-09"),
    ("coinbase", ("BTCUSD", "ETHUSD"), "2017-09-03", "2017-09-04"),
    ("bybit", ("BTCUSDT",), "2022-12-13", "2022-12-13"),
    ("cme", CONTRACTS, "2013-10-07", "2013-10-11"),
    ("cme", CONTRACTS, "2013-10-29", "2013-10-30"),
    ("cme", CONTRACTS, "2013-11-18", "2013-11-19"),
    ("eurex", ("FESX.202406", "FESX.202409"), "2024-06-03", "2024-06-03"),
    ("fx", ("EURUSD.ask", "EURUSD.bid"), "2011-03-07", "2011-03-07"),
    ("fx", ("EURUSD.ask", "EURUSD.bid"), "2011-10-31", "2011-10-31"),
    ("fx", ("EURUSD.ask", "EURUSD.bid"), "2014-05-01", "2014-05-15"),
    ("fx", ("EURUSD.ask", "EURUSD.bid"), "2018-04-03", "2018-04-04"),
)
"""Market, symbols next to each other in it, first and last session that has files."""


def main(folder: Path) -> int:
    """Exit code of the folder's `check.py` on the lake made from its files."""
    work = Path(tempfile.mkdtemp(prefix="realdata-"))
    written = work / "marketpipe.yaml"
    written.write_text(CONFIGURATION.format(root=folder / "input" / "lean" / "Data"))
    config = load_config(written)
    export_dagster_home(config)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    with dg.DagsterInstance.get() as instance:
        for market, symbols, first, last in DAYS:
            _ingest(instance, config.markets[market], symbols, first, last)
    _report(config)
    show_defects(folder)
    checked = subprocess.run(
        [sys.executable, folder / "check.py", "--product", config.lake, "--timeframes", "5m,15m,1h,1d"], check=False
    )
    print(f"lake: {config.lake}")
    return checked.returncode


def _ingest(instance: dg.DagsterInstance, market: Market, symbols: tuple[str, ...], first: str, last: str) -> None:
    dates = market.sessions.between(date.fromisoformat(first), next_day(date.fromisoformat(last)))
    grid = Grid(market)
    for selection in planned_runs(grid, dict.fromkeys(dates, symbols)):
        steps = run_job(instance, ingest_job_name(market.name), grid.tags(selection))
        failures = [each.failure for each in steps if each.failure]
        print(f"{market.name}: {', '.join(selection.symbols)} {dates[0]} to {dates[-1]}: {failures or 'ingested'}")


def _report(config: Config) -> None:
    for market in config.markets.values():
        raw = read_bars(config.lake, market.name, "raw_bars_1m", market.symbols, market.sessions.dates)
        split = split_by_rules(raw, market.rule_set, market.sessions)
        print(
            f"{market.name}: {raw.height} raw, {split.valid.height} valid, {split.quarantined.height} quarantined; "
            f"by rule: {dict(split.broken) or 'none'}"
        )
        by_session = split.quarantined.group_by("symbol", "session_date").agg(
            pl.len(), pl.col("broken_rules").list.explode().unique().sort()
        )
        if by_session.height:
            print(by_session)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
