"""How many of the synthetic provider's faults the rules find, and how much of what they find is one.

By hand: `python -m marketpipe_assets_tests.detection --symbols 40 --sessions 60`. The tests do it with fewer.
"""

import argparse
import sys
from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table

from marketpipe_assets.bars.audit import audit
from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import RULES, RuleSet
from marketpipe_assets.bars.sessions import sessions
from marketpipe_assets.providers.synthetic import FAULTS, INSTRUMENTS, SyntheticProvider

FOUND_BY: Mapping[str, str] = {
    "duplicate": "duplicate_ts",
    "conflicting_duplicate": "duplicate_ts",
    "out_of_order": "out_of_order",
    "ohlc_logic": "ohlc_logic",
    "negative_volume": "negative_volume",
    "non_positive_price": "non_positive_price",
    "not_finite": "not_finite",
    "misaligned_ts": "misaligned_ts",
    "price_jump": "price_jump",
    "bad_tick": "impossible_tick",
    "zero_volume_run": "zero_volume_run",
    "zero_volume_move": "zero_volume_move",
    "stale": "constant_price",
    "huge_volume": "huge_volume",
    "vwap_range": "vwap_range",
    "wick": "bad_tick",
    "repeated": "stale_feed",
    "running_total": "rising_volume",
}
"""Fault → the rule that is meant to find it. Minutes that are missing are the ledger's to find."""

ALSO_BREAKS: Mapping[str, frozenset[str]] = {
    "bad_tick": frozenset({"bad_tick"}),  # what is impossible stands apart as well
    "conflicting_duplicate": frozenset({"bad_tick"}),  # one of the two copies does, by 0.8 %
    "ohlc_logic": frozenset({"bad_tick"}),  # a low above the high is far from it
    "non_positive_price": frozenset({"price_range", "bad_tick"}),
    "huge_volume": frozenset({"volume_spike"}),
    "running_total": frozenset({"volume_spike"}),
    "negative_volume": frozenset({"volume_spike"}),
}
"""Fault → other rules it breaks by what it is."""

PRICES = {"future": 4000.0, "index": 5000.0, "fx": 1.1}
"""Asset class → a price at which its tick is as small as it is in reality; 100 for the others."""

JUMPS_ONCE = "price_jump"  # every bar after it is concerned, but the first alone is wrong


class Score(NamedTuple):
    """`faults` of a kind and how many of them its rule `found`; `hits` of that rule and how many were `right`."""

    fault: str
    rule: str
    faults: int
    found: int
    hits: int
    right: int

    @property
    def recall(self) -> float:
        return self.found / self.faults if self.faults else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.hits if self.hits else 1.0


class Detection(NamedTuple):
    """`scores` by fault, and rows of the audit of rules of severity ERROR or WARN that no fault explains."""

    symbol_days: int
    bars: int
    scores: list[Score]
    unexplained: pl.DataFrame


def detection(
    symbol_count: int,
    session_count: int,
    rate: float,
    asset_class: str = "equity",
    calendar: str = "XNYS",
    seed: int = 0,
) -> Detection:
    """Judge symbols over sessions in which every kind of fault strikes at this rate, and compare with the truth."""
    usable = [name for name in FOUND_BY if not FAULTS[name].needs_volume or INSTRUMENTS[asset_class].volume]
    source = SyntheticProvider(
        calendar=calendar,
        asset_class=asset_class,
        base_price=PRICES.get(asset_class, 100),
        faults=dict.fromkeys(usable, rate),
        seed=seed,
    )
    market = sessions(calendar, date(2024, 1, 1), date(2025, 1, 1))
    dates = market.dates[1 : session_count + 1]
    symbols = [f"S{number:03}" for number in range(symbol_count)]
    span = market.request(dates)
    bars = market.assign(source.minute_bars(symbols, *span)).filter(pl.col("session_date").is_in(dates))
    truth = _regions(source.injected(symbols, *span).filter(pl.col("session_date").is_in(dates)))
    rule_set = RuleSet(asset_class)
    hits = (
        audit(bars, split_by_rules(bars, rule_set, market), rule_set)
        .select(
            "symbol",
            "rule",
            "severity",
            "detail",
            pl.from_epoch(pl.col("ts_ns") // 1000, "us").dt.replace_time_zone("UTC").alias("ts"),
        )
        .with_row_index("hit")
    )
    explained = _explained(hits, truth)
    scores = [_score(fault, FOUND_BY[fault], truth, hits, explained) for fault in usable]
    unexplained = hits.filter(pl.col("severity") != "INFO").join(explained, on="hit", how="anti")
    return Detection(len(symbols) * len(dates), bars.height, scores, unexplained)


def _regions(injected: pl.DataFrame) -> pl.DataFrame:
    """The faults with the minutes they concern: `fault_id`, `symbol`, `fault`, `start`, `end`, both inclusive."""
    bars = pl.when(pl.col("fault") == JUMPS_ONCE).then(1).otherwise(pl.col("bars"))
    return injected.with_row_index("fault_id").select(
        "fault_id",
        "symbol",
        "fault",
        pl.col("ts").alias("start"),
        (pl.col("ts") + pl.duration(minutes=bars)).alias("end"),
    )


def _explained(hits: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """`hit`, `fault_id`: which fault explains which row of the audit."""
    causes = pl.DataFrame(
        [(fault, rule) for fault in FOUND_BY for rule in {FOUND_BY[fault], *ALSO_BREAKS.get(fault, ())}],
        schema=["fault", "rule"],
        orient="row",
    )
    return (
        hits.join(truth.join(causes, on="fault"), on=("symbol", "rule"))
        .filter(pl.col("ts").is_between("start", "end"))
        .select("hit", "fault_id", "fault", "rule")
    )


def _score(fault: str, rule: str, truth: pl.DataFrame, hits: pl.DataFrame, explained: pl.DataFrame) -> Score:
    ours = hits.filter(pl.col("rule") == rule)
    right = ours.join(explained, on="hit", how="semi")
    found = explained.filter(pl.col("fault") == fault, pl.col("rule") == rule)["fault_id"].n_unique()
    return Score(fault, rule, truth.filter(pl.col("fault") == fault).height, found, ours.height, right.height)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=40)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.3, help="of each fault per symbol-session")
    parser.add_argument("--asset-class", choices=INSTRUMENTS, default="equity")
    parser.add_argument("--calendar", default="XNYS")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = detection(asked.symbols, asked.sessions, asked.rate, asked.asset_class, asked.calendar, asked.seed)
    shown = Table(title=f"{found.symbol_days:,} symbol-days of {asked.asset_class}, {found.bars:,} bars")
    for heading in ("fault", "rule", "severity", "injected", "found", "recall", "bars of the rule", "precision"):
        shown.add_column(heading)
    for score in found.scores:
        shown.add_row(
            score.fault,
            score.rule,
            RULES[score.rule].severity.value,
            f"{score.faults:,}",
            f"{score.found:,}",
            f"{score.recall:.2%}",
            f"{score.hits:,}",
            f"{score.precision:.2%}",
        )
    console = Console(width=160)
    console.print(shown)
    console.print(f"rows of ERROR and WARN that no fault explains: {found.unexplained.height:,}")
    if found.unexplained.height:
        console.print(found.unexplained.group_by("rule", "severity").len().sort("len", descending=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
