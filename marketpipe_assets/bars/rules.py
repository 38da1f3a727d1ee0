"""The table of rules: what holds for a good bar, how grave a breach is, and the thresholds by asset class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.amendments import Repair, Waiver
from marketpipe_assets.bars.neighbours import close, high, low, open_, same_session, volume

Limits = Mapping[str, float]
"""Threshold by rule id. Three more bound what a rule looks at: `price_floor` is the lower bound of `price_range`,
`bad_tick_floor` the share of the price up to which a wick is none, and `constant_price_floor` the volume above which a
bar counts as traded."""


class Severity(StrEnum):
    """What follows from a broken rule: ERROR quarantines the bar, WARN flags it, INFO counts it."""

    ERROR = "ERROR"
    WARN = "WARN"
    INFO = "INFO"


class Rule(NamedTuple):
    """`holds` gives, for a market's limits, an expression that is true for a good bar; null counts as true.

    It is asked of bars in the order of arrival, their NaN made null: what is not a number is `not_finite`, and broken
    by no other rule. Beside the bars' columns it may use the facts that quarantine.py adds to them.
    """

    holds: Callable[[Limits], pl.Expr]
    severity: Severity
    sentence: str
    needs_volume: bool = False


vwap, ts = pl.col("vwap"), pl.col("ts")
numbers = (open_, high, low, close, volume)
lowest = pl.min_horizontal(open_, high, low, close)


def in_a_row(fact: str, count: float) -> pl.Expr:
    """Whether it is so of a bar and of those that arrived before it, so many together."""
    return pl.all_horizontal(pl.col(fact).shift(n) for n in range(int(count))) if count >= 1 else pl.lit(True)


jump = (open_ / close.shift() - 1).abs().fill_nan(None)

RULES: Mapping[str, Rule] = {
    "not_finite": Rule(
        lambda _: pl.all_horizontal(number.is_finite() for number in numbers).fill_null(False),
        Severity.ERROR,
        "prices and volume are finite numbers",
    ),
    "duplicate_ts": Rule(
        lambda _: pl.col("copy") == 0,
        Severity.ERROR,
        "a minute comes once; of identical copies the first is kept, of conflicting ones none",
    ),
    "out_of_order": Rule(
        lambda _: ~same_session | (ts >= ts.shift()),
        Severity.ERROR,
        "a bar is not earlier than the one that arrived before it",
    ),
    "misaligned_ts": Rule(
        lambda _: ts.to_physical() % 60_000_000 == 0,
        Severity.ERROR,
        "a bar begins on a whole minute",
    ),
    "ts_range": Rule(
        lambda _: pl.col("in_window"),
        Severity.ERROR,
        "a bar lies within the hours asked for",
    ),
    "outside_session": Rule(
        lambda _: pl.col("session").is_not_null(),
        Severity.ERROR,
        "a bar lies on a day on which the calendar is open",
    ),
    "non_positive_price": Rule(
        lambda limits: lowest >= limits["non_positive_price"] if limits["non_positive_price"] else lowest > 0,
        Severity.ERROR,
        "prices are above zero, or not below what an instrument of its kind can cost",
    ),
    "ohlc_logic": Rule(
        lambda _: (high >= pl.max_horizontal(open_, close, low)) & (low <= pl.min_horizontal(open_, close)),
        Severity.ERROR,
        "high and low enclose open and close",
    ),
    "negative_volume": Rule(lambda _: volume >= 0, Severity.ERROR, "volume is not negative"),
    "negative_trade_count": Rule(
        lambda _: pl.col("trade_count") >= 0, Severity.ERROR, "the number of trades is not negative"
    ),
    "impossible_tick": Rule(
        lambda limits: pl.col("apart") <= limits["impossible_tick"] - 1,
        Severity.ERROR,
        "no price is many times, or a small part of, those of the bars before and after it",
    ),
    "vwap_range": Rule(
        lambda limits: (
            (vwap >= low - low.abs() * limits["vwap_range"]) & (vwap <= high + high.abs() * limits["vwap_range"])
        ),
        Severity.WARN,
        "the volume-weighted price lies between low and high",
        needs_volume=True,
    ),
    "zero_volume_move": Rule(
        lambda _: (volume != 0) | (open_ == close),
        Severity.WARN,
        "the price does not move without volume",
        needs_volume=True,
    ),
    "price_jump": Rule(
        lambda limits: ~same_session | (jump <= limits["price_jump"]),
        Severity.WARN,
        "a bar opens near the close before it, within a session",
    ),
    "bad_tick": Rule(
        lambda limits: (
            (pl.col("apart") <= limits["bad_tick_floor"]) | (pl.col("apart") <= limits["bad_tick"] * pl.col("usual"))
        ),
        Severity.WARN,
        "high and low do not stand apart from the bars before and after, by the range bars around have",
    ),
    "stale_feed": Rule(
        lambda limits: ~in_a_row("same_bar", limits["stale_feed"] - 1),
        Severity.WARN,
        "a bar does not come again minute after minute, with the same prices and the same volume",
    ),
    "constant_price": Rule(
        lambda limits: ~in_a_row("flat", limits["constant_price"] - 1),
        Severity.WARN,
        "the price does not stand still while it is traded",
    ),
    "rising_volume": Rule(
        lambda limits: ~in_a_row("risen", limits["rising_volume"] - 1),
        Severity.WARN,
        "volume does not rise bar after bar, as a running total does",
        needs_volume=True,
    ),
    "price_range": Rule(
        lambda limits: (high <= limits["price_range"]) & (low >= limits["price_floor"]),
        Severity.WARN,
        "prices are of a size an instrument of its kind has",
    ),
    "huge_volume": Rule(
        lambda limits: volume <= limits["huge_volume"],
        Severity.WARN,
        "volume is of a size seen in one minute",
        needs_volume=True,
    ),
    "zero_volume_run": Rule(
        lambda limits: (
            ~(in_a_row("no_volume", limits["zero_volume_run"]) & in_a_row("follows", limits["zero_volume_run"] - 1))
        ),
        Severity.INFO,
        "bars without volume do not follow one another",
        needs_volume=True,
    ),
    "volume_spike": Rule(
        lambda limits: ~in_a_row("follows", 20) | (volume <= limits["volume_spike"] * volume.rolling_mean(20).shift()),
        Severity.INFO,
        "volume is not many times the mean of the twenty bars before",
        needs_volume=True,
    ),
    "overnight_jump": Rule(
        lambda limits: pl.col("overnight") <= limits["overnight_jump"],
        Severity.INFO,
        "a session opens near the last close before it, but for a split",
    ),
}
"""Rule id → rule. Ids stand in files, metadata and metrics: they are never reused."""

LIMITS: Mapping[str, Limits] = {
    "equity": {
        "non_positive_price": 0,
        "impossible_tick": 3,
        "vwap_range": 1e-6,
        "price_jump": 0.5,
        "overnight_jump": 0.5,
        "bad_tick": 6,
        "bad_tick_floor": 0.003,
        "stale_feed": 5,
        "constant_price": 20,
        "constant_price_floor": 0,
        "rising_volume": 12,
        "price_range": 1_000_000,
        "price_floor": 0.01,
        "huge_volume": 1e9,
        "zero_volume_run": 5,
        "volume_spike": 10,
    },
    "crypto": {
        "impossible_tick": inf,  # there crashes of a moment by the thousandfold were real trades
        "overnight_jump": 0.2,  # no hours without trading lie between two sessions
        "bad_tick": 10,
        "bad_tick_floor": 0.01,
        "constant_price": 60,  # coins that follow a currency stand still
        "price_range": 10_000_000,
        "price_floor": 0,
        "huge_volume": 1e12,
        "zero_volume_run": 15,
        "volume_spike": 50,
    },
    "index": {
        "impossible_tick": 1.5,
        "price_jump": 0.2,
        "overnight_jump": 0.25,
        "bad_tick_floor": 0.002,
        "constant_price_floor": -1,
        "price_range": 10_000_000,
    },
    "fx": {
        "impossible_tick": 1.5,
        "price_jump": 0.1,
        "overnight_jump": 0.1,
        "bad_tick": 10,
        "bad_tick_floor": 0.002,
        "constant_price": 30,  # in the hour after the roll hardly anybody quotes
        "constant_price_floor": -1,
        "price_range": 100_000,
        "price_floor": 0,
    },
    "future": {
        "non_positive_price": -50,
        "impossible_tick": 10,  # near zero a price is many times another quickly
        "price_jump": 0.2,
        "overnight_jump": 0.25,
        "bad_tick_floor": 0.003,
        "constant_price": 30,
        "price_floor": -50,
        "huge_volume": 1e7,
        "volume_spike": 20,
    },
    "spread": {
        "non_positive_price": -1000,
        "impossible_tick": inf,  # a spread is about zero, so that no share of it means anything
        "price_jump": inf,
        "overnight_jump": inf,
        "bad_tick": inf,
        "bad_tick_floor": inf,
        "constant_price": 60,
        "price_range": 1000,
        "price_floor": -1000,
        "huge_volume": 1e7,
        "volume_spike": 20,
    },
}
"""Asset class → limits, where they differ from an equity's."""

STRUCTURAL = frozenset(
    {"not_finite", "duplicate_ts", "misaligned_ts", "outside_session", "ts_range", "ohlc_logic", "negative_volume"}
)
"""Rules that contract.py and longer bars rest on: always ERROR."""

ACROSS_SESSIONS = frozenset({"overnight_jump"})
"""Rules that compare with the session before, which is whatever was judged together with this one: always INFO, so that
what is stored of a session follows from that session alone."""

FEWEST_BARS: Mapping[str, int] = {"stale_feed": 2, "constant_price": 2, "rising_volume": 2, "zero_volume_run": 1}
"""Rules whose limit is how many bars come in a row → the fewest that say something."""

ABOVE: Mapping[str, float] = {"non_positive_price": -inf, "impossible_tick": 1}
"""What the limits of other rules are above, where that is not 0: from there down they would break for every bar."""

WITHOUT_VOLUME = frozenset({"index", "fx"})
"""Asset classes whose vendors send no volume, or a count of ticks in its place."""


@dataclass(frozen=True)
class RuleSet:
    """The rules of one market: which apply, how grave each is, its limit, and what is waived or repaired."""

    asset_class: str
    severities: Mapping[str, Severity] = field(default_factory=dict)
    own_limits: Limits = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    repairs: tuple[Repair, ...] = ()

    def __post_init__(self) -> None:
        if self.asset_class not in LIMITS:
            raise ValueError(f"expected an asset class of {', '.join(LIMITS)}, was {self.asset_class!r}")
        unknown = sorted({*self.severities, *self.own_limits} - RULES.keys())
        if unknown:
            raise ValueError(f"expected rules of {', '.join(RULES)}, was {', '.join(unknown)}")
        without = sorted(self.own_limits.keys() - LIMITS["equity"].keys())
        if without:
            limited = ", ".join(name for name in RULES if name in LIMITS["equity"])
            raise ValueError(f"expected a rule with a limit, {limited}, was {', '.join(without)}")
        _check_limits(self.own_limits)
        lowered = sorted(name for name in STRUCTURAL if self.severities.get(name, Severity.ERROR) != Severity.ERROR)
        if lowered:
            raise ValueError(f"expected severity ERROR for {', '.join(lowered)}: longer bars rest on it")
        raised = sorted(name for name in ACROSS_SESSIONS if self.severities.get(name, Severity.INFO) != Severity.INFO)
        if raised:
            raise ValueError(f"expected severity INFO for {', '.join(raised)}: it looks at another session")
        for waiver in self.waivers:
            if waiver.rule not in self.waivable:
                raise ValueError(f"expected a rule of {', '.join(self.waivable)}, was {waiver.rule!r}")

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules that apply, with the market's severities."""
        return {
            name: rule._replace(severity=self.severities.get(name, rule.severity))
            for name, rule in RULES.items()
            if not (rule.needs_volume and self.asset_class in WITHOUT_VOLUME)
        }

    @property
    def waivable(self) -> tuple[str, ...]:
        """Rules whose breach does something that a waiver can undo."""
        return tuple(
            name for name, rule in self.rules.items() if name not in STRUCTURAL and rule.severity != Severity.INFO
        )

    @property
    def limits(self) -> Limits:
        return {**LIMITS["equity"], **LIMITS[self.asset_class], **self.own_limits}


def _check_limits(limits: Limits) -> None:
    for name, limit in limits.items():
        fewest, above = FEWEST_BARS.get(name), ABOVE.get(name, 0)
        if fewest is not None and not (limit >= fewest and limit % 1 == 0):
            raise ValueError(f"expected a whole number of {fewest} or more as the limit of {name}, was {limit:g}")
        if limit <= above:
            raise ValueError(f"expected a limit above {above:g} for {name}, was {limit:g}")
