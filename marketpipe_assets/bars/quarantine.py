"""Split minute bars into the valid and the quarantined. What makes a bar valid is in rules.py."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl

from marketpipe_assets.bars.amendments import Repair, Waiver
from marketpipe_assets.bars.clock import days_of, minutes_of
from marketpipe_assets.bars.neighbours import continuations, followers, overnight_moves, spikes
from marketpipe_assets.bars.rules import Rule, RuleSet, Severity
from marketpipe_assets.bars.schema import BROKEN_RULES, FLAGS, TIMESTAMP
from marketpipe_assets.bars.sessions import Sessions

PAYLOAD = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
"""What two copies of a bar must share to be identical."""


WAIVED, REPAIRED = "waived", "repaired"
"""Flags of a valid bar beside the rules it broke."""


class Split(NamedTuple):
    """Every bar of the input, in exactly one of the two.

    `valid` has `flags`, the rules of severity WARN a bar broke and those that were waived, then `waived` and
    `repaired` (null: none), and is sorted by symbol in the order of arrival, then `ts`; a repaired bar has its
    repaired values. `quarantined` has `broken_rules`, every rule a bar broke, in the order of arrival, as the bar
    arrived. `broken` counts bars by rule, whatever its severity, `waived` those for which it was waived. `mended` are
    the repairs that found their bar. `verdict` is `broken_mask` of the input's rows, with the repairs.
    """

    valid: pl.DataFrame
    quarantined: pl.DataFrame
    broken: Mapping[str, int]
    waived: Mapping[str, int]
    mended: Collection[Repair]
    verdict: pl.Series


def split_by_rules(bars: pl.DataFrame, rule_set: RuleSet, sessions: Sessions) -> Split:
    """Judge bars in the order they arrived, with the rule set's repairs and waivers.

    `bars` has `schema.BAR_COLUMNS`, rows grouped by symbol and session.
    """
    rules = rule_set.rules
    mended, judged = repaired(bars, rule_set.repairs)
    verdict = broken_mask(judged, rule_set, sessions)
    waived = verdict & waived_mask(judged, verdict, rule_set)
    bad = (verdict & _bits(rules, Severity.ERROR)) & ~waived != 0
    flagged = verdict & _bits(rules, Severity.WARN) | waived
    if rule_set.waivers:
        flagged |= (waived != 0).cast(pl.UInt32) * (1 << len(rules))
    if mended:
        flagged |= _is_repaired(bars, mended).cast(pl.UInt32) * (2 << len(rules))
    names = (*rules, WAIVED, REPAIRED)
    valid = judged.with_columns(_names(flagged, names).alias("flags").cast(FLAGS["flags"])).filter(~bad)
    quarantined = bars.filter(bad).with_columns(
        _names(verdict.filter(bad), names).alias("broken_rules").cast(BROKEN_RULES["broken_rules"])
    )
    return Split(_sorted_by_time(valid), quarantined, _counts(verdict, rules), _counts(waived, rules), mended, verdict)


def repaired(bars: pl.DataFrame, repairs: Sequence[Repair]) -> tuple[Sequence[Repair], pl.DataFrame]:
    """The repairs whose bar is among these, and the bars with their values."""
    keys = set(bars.filter(_is_repaired(bars, repairs)).select("symbol", "ts").iter_rows()) if repairs else set()
    mended = [each for each in repairs if (each.symbol, each.ts) in keys]
    if not mended:
        return [], bars
    key = ("symbol", "ts")
    for column in {column: None for each in mended for column in each.values}:
        of_column = [(*each[:2], each.values[column]) for each in mended if column in each.values]
        new = pl.DataFrame(of_column, {"symbol": pl.String, "ts": TIMESTAMP, "new": bars.schema[column]}, orient="row")
        found = bars.select(key).join(
            new.with_columns(set=True), on=key, how="left", maintain_order="left", nulls_equal=True
        )
        value = pl.when(found["set"].fill_null(False)).then(found["new"]).otherwise(pl.col(column))
        bars = bars.with_columns(value.alias(column))
    return mended, bars


def without_bar(
    split: Split, repairs: Sequence[Repair], sessions: Sessions, symbols: Collection[str], dates: Collection[date]
) -> list[Repair]:
    """The repairs of these symbols and sessions that found no bar in the split."""
    mended = {(each.symbol, each.ts) for each in split.mended}
    ours = [each for each in repairs if each.symbol in symbols and (each.symbol, each.ts) not in mended]
    days = sessions.trading_days(minutes_of(pl.Series([each.ts for each in ours], dtype=TIMESTAMP)))
    owned = days_of(pl.Series(sorted(sessions.owned_dates(dates)), dtype=pl.Date))
    return [each for each, day in zip(ours, days, strict=True) if day in owned]


def _is_repaired(bars: pl.DataFrame, repairs: Iterable[Repair]) -> pl.Series:
    keys = pl.DataFrame([each[:2] for each in repairs], {"symbol": pl.String, "ts": TIMESTAMP}, orient="row")
    on = ["symbol", "ts"]
    return bars.select(pl.struct(on).is_in(keys.select(pl.struct(on)).to_series().implode())).to_series()


def waived_mask(bars: pl.DataFrame, verdict: pl.Series, rule_set: RuleSet) -> pl.Series:
    """One integer per bar: bit n is set where a waiver excuses the bar from the n-th of `rule_set.rules`."""
    none = pl.Series("waived", pl.repeat(0, bars.height, dtype=pl.UInt32, eager=True))
    broken = (verdict != 0).arg_true() if rule_set.waivers else none.head(0)
    if broken.is_empty():
        return none
    bits = {name: 1 << number for number, name in enumerate(rule_set.rules)}
    few = bars.select(pl.col("symbol", "session_date").gather(broken))
    days = waived_days(few, rule_set.waivers).group_by("symbol", "session_date")
    masks = days.agg(pl.col("rule").replace_strict(bits, return_dtype=pl.UInt32).sum().alias("mask"))
    found = few.join(masks, on=("symbol", "session_date"), how="left", maintain_order="left")
    return none.scatter(broken, found["mask"].fill_null(0))


def waived_days(bars: pl.DataFrame, waivers: Sequence[Waiver]) -> pl.DataFrame:
    """`symbol`, `session_date`, `rule` and what is said of it, `waived`, of the bars' sessions; the last one counts."""
    said = [(*each[:4], f"waived: {each.reason} ({each.author})") for each in waivers]
    schema = {"symbol": pl.String, "first": pl.Date, "last": pl.Date, "rule": pl.String, "waived": pl.String}
    of_symbol = pl.DataFrame(said, schema, orient="row")
    days = bars.select("symbol", "session_date").unique()
    return (
        days.join(of_symbol, on="symbol", maintain_order="left_right")
        .filter(pl.col("session_date").is_between("first", "last"))
        .unique(("symbol", "session_date", "rule"), keep="last", maintain_order=True)
        .drop("first", "last")
    )


def broken_mask(bars: pl.DataFrame, rule_set: RuleSet, sessions: Sessions) -> pl.Series:
    """One integer per bar: bit n is set where the n-th of `rule_set.rules` is broken."""
    limits = rule_set.limits
    breaches = ((~rule.holds(limits)).fill_null(False).alias(name) for name, rule in rule_set.rules.items())
    known = bars.with_columns(pl.col(pl.Float64).fill_nan(None), followers(bars))
    facts = known.with_columns(
        copy_numbers(known),
        sessions.in_window(bars) | bars["session"].is_null(),
        *spikes(known, limits["bad_tick_floor"]),
        overnight_moves(known),
        **continuations(limits["constant_price_floor"]),
    )
    broken = facts.select(breaches)
    masks = pl.Series("broken", pl.repeat(0, bars.height, dtype=pl.UInt32, eager=True))
    for number, breach in enumerate(broken):  # most rules hold for all bars, and a bit less is a pass less
        if breach.any():
            masks += breach.cast(pl.UInt32) * (1 << number)
    return masks.rename("broken")


def copy_numbers(bars: pl.DataFrame) -> pl.Series:
    """`copy`: 0 for a minute that comes once and for the first of identical copies; 1 for every other copy.

    Only sessions in which a bar does not come after the one before it can hold copies, so only those are grouped.
    """
    rising = (pl.col("symbol") != pl.col("symbol").shift()) | (pl.col("ts") > pl.col("ts").shift())
    stalled = bars.select(~rising.fill_null(True)).to_series()
    copies = pl.Series("copy", pl.repeat(0, bars.height, dtype=pl.UInt8, eager=True))
    if not stalled.any():
        return copies
    key = ("symbol", "session_date")
    suspects = bars.with_row_index().join(bars.filter(stalled).select(key).unique(), on=key, how="semi")
    repeated = suspects.filter(pl.struct("symbol", "ts").is_duplicated()).with_columns(
        (pl.col("index") == pl.col("index").min()).over("symbol", "ts").alias("first"),
        (pl.struct(PAYLOAD).n_unique() > 1).over("symbol", "ts").alias("conflicting"),
    )
    again = repeated.filter(pl.col("conflicting") | ~pl.col("first"))
    return copies.scatter(again["index"], 1)


def _bits(rules: Mapping[str, Rule], severity: Severity) -> int:
    return sum(1 << number for number, rule in enumerate(rules.values()) if rule.severity == severity)


def _names(masks: pl.Series, rules: Sequence[str]) -> pl.Series:
    if not masks.max():
        return pl.Series("names", pl.repeat(None, masks.len(), dtype=pl.List(pl.String), eager=True))
    distinct = masks.unique()
    names = pl.DataFrame({"mask": distinct, "names": [_broken(mask, rules) or None for mask in distinct]})
    return masks.to_frame("mask").join(names, on="mask", how="left", maintain_order="left")["names"]


def _broken(mask: int, rules: Iterable[str]) -> list[str]:
    return [name for number, name in enumerate(rules) if mask >> number & 1]


def _counts(masks: pl.Series, rules: Mapping[str, Rule]) -> Mapping[str, int]:
    tally = dict(masks.filter(masks != 0).value_counts().iter_rows())
    return {
        name: total
        for number, name in enumerate(rules)
        if (total := sum(count for mask, count in tally.items() if mask >> number & 1))
    }


def _sorted_by_time(bars: pl.DataFrame) -> pl.DataFrame:
    rising = (pl.col("symbol") != pl.col("symbol").shift()) | (pl.col("ts") > pl.col("ts").shift())
    if bars.select(rising.all()).item():
        return bars
    return bars.with_columns(pl.col("symbol").rle_id().alias("arrival")).sort("arrival", "ts").drop("arrival")
