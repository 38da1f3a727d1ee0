"""Why minutes are missing, from evidence: when each reason holds is said here. Which are missing is coverage.py's.

Of a hole the first that holds, minute by minute:

- `quarantined`: bars of the minute were received and broke a rule.
- `not_listed`: the session lies outside the listing that the configuration gives, or comes before the first session of
  which anything was ever received.
- `not_yet_published`: the hole reaches to the end of the session, and was fetched within the market's
  `publication_delay` after it: the vendor may not have been done. Not so once a later answer was the same.
- `halt`: trading stood still. A halt of the calendar's table or of the configuration covers the minute; or no other
  symbol traded, where there are at least three, for so long that it is no chance, between minutes with trades, and a
  second provider has no bar of the minute.
- `vendor_gap`: a second provider has a bar of the minute; or the symbol trades so densely in those of the 41 sessions
  around of which it has any bar that a hole as long comes by chance in fewer than one of twenty sessions; or nothing at
  all is known of the symbol.
- `no_trade`: nothing above holds. Nobody traded, as is usual for this symbol.

Minutes without trades come in bunches, so a hole of n minutes counts as n / 2 independent ones. What the second
provider lacks as well is no vendor gap.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.clock import Minutes, minutes_of
from marketpipe_assets.bars.coverage import HOLES, minute_numbers, run_starts
from marketpipe_assets.bars.grid import Booleans, Grid
from marketpipe_assets.bars.schema import KEY
from marketpipe_assets.bars.sessions import Sessions

REASONS = ("no_trade", "halt", "vendor_gap", "not_yet_published", "not_listed", "quarantined")
NO_TRADE, HALT, VENDOR_GAP, NOT_YET_PUBLISHED, NOT_LISTED, QUARANTINED = range(len(REASONS))

AROUND = 20  # sessions before and after, over which a symbol's density is taken
CHANCE = 0.05  # holes as long per session; what is rarer is no chance
BUNCHED = 2  # minutes without trades that count as one independent one
SILENT_OTHERS = 3  # fewer symbols that stand still tell nothing of the market
SILENT_MINUTES = 3
SILENT_CHANCE = 1e-6

EXPLAINED = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "start": pl.Datetime("us", "UTC"),
    "minutes": pl.Int64(),
    "reason": pl.String(),
}

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]


class Halt(NamedTuple):
    """A span in which trading stood still, of some symbols or of all."""

    start: datetime
    end: datetime
    symbols: tuple[str, ...] | None = None


class Listing(NamedTuple):
    """The first session of a symbol, and the one before which it was taken from the market."""

    first: date | None = None
    end: date | None = None


class Evidence(NamedTuple):
    """What is known beside the bars.

    `first_received` is the first session of which each symbol has any bar, over all that was ever fetched. `second` are
    minutes (`symbol`, `session_date`, `ts`) a second provider has, `second_days` the symbol-days it was asked for.
    """

    listings: Mapping[str, Listing] = {}
    first_received: Mapping[str, date] = {}
    halts: Sequence[Halt] = ()
    publication_delay: timedelta = timedelta(0)
    second: pl.DataFrame | None = None
    second_days: pl.DataFrame | None = None


def explained(days: pl.DataFrame, holes: pl.DataFrame, sessions: Sessions, evidence: Evidence) -> pl.DataFrame:
    """`holes` with their reasons, columns `EXPLAINED`, split where one hole has several.

    `days` are all fetched symbol-days of the sessions concerned and those around them (`symbol`, `session_date`,
    `expected`, `received`, `fetched_at`, `settled_at`), `holes` all of theirs that are to be explained or tell of
    others.
    """
    if holes.is_empty():
        return pl.DataFrame(schema=EXPLAINED)
    grid = Grid(sessions, days["session_date"].unique().to_list())
    facts = _Holes(days, holes, grid)
    codes = _by_density(facts)
    which = np.repeat(np.arange(holes.height), facts.length)
    number = np.repeat(facts.number - _firsts(facts.length), facts.length) + np.arange(which.size)
    code = codes[which]
    proven = np.zeros(code.size, dtype=bool)
    if evidence.second is not None and evidence.second_days is not None:
        proven = _by_second_provider(code, holes, grid, (which, number), evidence.second, evidence.second_days)
    code[_silent(facts, grid)[number] & (facts.others[which] >= SILENT_OTHERS) & ~proven] = HALT
    code[_halted(evidence.halts, holes, grid, which, number)] = HALT
    code[_unpublished(facts, sessions, grid, evidence.publication_delay)[which]] = NOT_YET_PUBLISHED
    code[unlisted(holes, evidence).to_numpy()[which]] = NOT_LISTED
    code[holes["quarantined"].to_numpy()[which]] = QUARANTINED
    return _ranges(code, which, number, holes, grid)


def minutes_by_reason(ranges: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol-day with holes: `symbol`, `session_date` and the minutes of each of `REASONS`."""
    return ranges.group_by(KEY, maintain_order=True).agg(
        pl.col("minutes").filter(pl.col("reason") == reason).sum().alias(reason) for reason in REASONS
    )


class _Holes:
    """Holes as arrays: the number of the first minute, the length, the session's place, and what else is of use."""

    def __init__(self, days: pl.DataFrame, holes: pl.DataFrame, grid: Grid) -> None:
        self.days = days
        self.number = minute_numbers(holes.select(pl.col("start").alias("ts"), "session_date"), grid)
        self.length = holes["minutes"].to_numpy()
        self.session = grid.session_numbers(holes["session_date"])
        of_day = holes.select(KEY).join(
            days.with_columns(pl.Series("place", grid.session_numbers(days["session_date"]))),
            on=KEY,
            how="left",
            maintain_order="left",
        )
        self.expected = of_day["expected"].to_numpy()
        self.settled_at = of_day.select(pl.max_horizontal("fetched_at", "settled_at")).to_series()
        trading = days.filter(pl.col("received") > 0)
        self.trading = np.bincount(grid.session_numbers(trading["session_date"]), minlength=len(grid.dates))
        self.own_trades = (of_day["received"] > 0).to_numpy()
        self.others = self.trading[self.session] - self.own_trades
        self.around_missing, self.around_expected = _around(days, holes, grid)
        self.absent = ~holes["quarantined"].to_numpy()


def _around(days: pl.DataFrame, holes: pl.DataFrame, grid: Grid) -> tuple[Minutes, Minutes]:
    """Missing and expected minutes of each hole's symbol in the sessions around it of which it has any bar."""
    symbols = days["symbol"].unique(maintain_order=True)
    codes = pl.Enum(symbols)
    row = days["symbol"].cast(codes).to_physical().to_numpy()
    place = grid.session_numbers(days["session_date"])
    of_hole = holes["symbol"].cast(codes).to_physical().to_numpy()
    session = grid.session_numbers(holes["session_date"])
    near = _near(grid)
    sums = []
    known = days.select(pl.when(pl.col("received") > 0).then(name).otherwise(0) for name in ("expected", "received"))
    for values in ((known["expected"] - known["received"]).to_numpy(), known["expected"].to_numpy()):
        table = np.zeros((symbols.len(), len(grid.dates) + 1), dtype=np.int64)
        table[row, place + 1] = values
        running = table.cumsum(axis=1)
        sums.append(running[of_hole, near[1][session]] - running[of_hole, near[0][session]])
    return sums[0], sums[1]


def _near(grid: Grid) -> tuple[Minutes, Minutes]:
    place = np.arange(len(grid.dates))
    return np.maximum(place - AROUND, 0), np.minimum(place + AROUND + 1, place.size)


def _by_density(holes: _Holes) -> Codes:
    """`VENDOR_GAP` where the symbol's usual density makes a hole this long no chance."""
    own = holes.length * holes.own_trades  # what is to be explained is no evidence
    missing = holes.around_missing - own * holes.absent
    seen = holes.around_expected - own
    share = (missing + 1) / (seen + 2)  # of minutes without a trade; one is never certain of none
    log_chance = np.log(np.maximum(holes.expected, 1)) + holes.length / BUNCHED * np.log(share)
    return np.where(log_chance < np.log(CHANCE), VENDOR_GAP, NO_TRADE).astype(np.int8)


def _silent(holes: _Holes, grid: Grid) -> Booleans:
    """Minutes of spells in which no symbol traded, between minutes of the same session in which some did."""
    change = np.zeros(grid.size + 1, dtype=np.int64)
    of_trading = holes.own_trades & holes.absent
    np.add.at(change, holes.number[of_trading], 1)
    np.add.at(change, (holes.number + holes.length)[of_trading], -1)
    traded = np.repeat(holes.trading, grid.lengths) - change[:-1].cumsum()
    first = run_starts((traded == 0).astype(np.int8), _session_begins(grid))
    length = np.diff(np.append(first, grid.size))
    session = grid.sessions_of(first)
    ends = first + length == (grid.starts + grid.lengths)[session]
    inner = (traded[first] == 0) & (first != grid.starts[session]) & ~ends & (length >= SILENT_MINUTES)
    spell = inner & (_log_silence(holes, grid)[session] * length / BUNCHED < np.log(SILENT_CHANCE))
    return np.repeat(spell, length)


def _log_silence(holes: _Holes, grid: Grid) -> Floats:
    """Per session the logarithm of the chance that every symbol that trades lacks a minute."""
    trading = holes.days.filter(pl.col("received") > 0)
    absent = (trading["expected"] - trading["received"]).to_numpy()
    share = (absent + 1) / (trading["expected"].to_numpy() + 2)
    place = grid.session_numbers(trading["session_date"])
    return np.bincount(place, weights=np.log(share), minlength=len(grid.dates)).astype(np.float64)


def _session_begins(grid: Grid) -> Booleans:
    begins = np.zeros(grid.size, dtype=bool)
    begins[grid.starts[grid.lengths > 0]] = True
    return begins


def _halted(halts: Sequence[Halt], holes: pl.DataFrame, grid: Grid, which: Minutes, number: Minutes) -> Booleans:
    halted = np.zeros(which.size, dtype=bool)
    if not halts:
        return halted
    minute = minutes_of(grid.instants(number))
    for halt in halts:
        first, end = (int(instant.timestamp()) // 60 for instant in (halt.start, halt.end))
        inside = (minute >= first) & (minute < end)
        if halt.symbols is not None:
            inside &= holes["symbol"].is_in(halt.symbols).to_numpy()[which]
        halted |= inside
    return halted


def _unpublished(holes: _Holes, sessions: Sessions, grid: Grid, delay: timedelta) -> Booleans:
    last = holes.number + holes.length == (grid.starts + grid.lengths)[holes.session]
    published = sessions.publication(grid.dates, delay)["published_at"].gather(holes.session)
    early: Booleans = (holes.settled_at < published).fill_null(False).to_numpy()
    both: Booleans = last & early
    return both


def unlisted(days: pl.DataFrame, evidence: Evidence) -> pl.Series:
    """Whether each row's `symbol` was not listed on its `session_date`, in their order."""
    symbols = days["symbol"].unique().to_list()
    known = pl.DataFrame(
        [
            (symbol, evidence.listings.get(symbol, Listing()).first, evidence.listings.get(symbol, Listing()).end)
            for symbol in symbols
        ],
        schema={"symbol": pl.String(), "first": pl.Date(), "end": pl.Date()},
        orient="row",
    ).with_columns(
        pl.col("symbol")
        .replace_strict(evidence.first_received, default=None, return_dtype=pl.Date())
        .alias("first_received")
    )
    day = pl.col("session_date")
    before = day < pl.col("first").fill_null(pl.col("first_received"))
    outside = before.fill_null(False) | (day >= pl.col("end")).fill_null(False)
    return days.join(known, on="symbol", how="left", maintain_order="left").select(outside).to_series()


def _by_second_provider(
    code: Codes,
    holes: pl.DataFrame,
    grid: Grid,
    minutes: tuple[Minutes, Minutes],
    second: pl.DataFrame,
    second_days: pl.DataFrame,
) -> Booleans:
    """Tell gaps by what the second provider has, and give the minutes that it has: in those trading went on."""
    which, number = minutes
    asked = holes.select(KEY).join(second_days.with_columns(asked=True), on=KEY, how="left", maintain_order="left")
    was_asked = asked["asked"].fill_null(False).to_numpy()[which]
    symbols = pl.Enum(holes["symbol"].unique())
    theirs = second.filter(pl.col("symbol").is_in(symbols.categories.to_list()))
    there = minute_numbers(theirs, grid)
    keys = theirs["symbol"].cast(symbols).to_physical().to_numpy().astype(np.int64) * grid.size + there
    wanted = holes["symbol"].cast(symbols).to_physical().to_numpy().astype(np.int64)[which] * grid.size + number
    has = np.isin(wanted, keys[there >= 0])
    code[was_asked] = np.where(has[was_asked], VENDOR_GAP, NO_TRADE)
    return was_asked & has


def _firsts(lengths: Minutes) -> Minutes:
    return np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)


def _ranges(code: Codes, which: Minutes, number: Minutes, holes: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    """Runs of one reason within a hole."""
    begins = np.zeros(which.size, dtype=bool)
    begins[_firsts(np.bincount(which, minlength=holes.height))] = True
    first = run_starts(code, begins)
    return (
        holes.select(KEY)[which[first]]
        .with_columns(
            grid.instants(number[first]).alias("start"),
            pl.Series("minutes", np.diff(np.append(first, which.size))),
            pl.Series("reason", REASONS, dtype=pl.String).gather(code[first]).alias("reason"),
        )
        .cast(EXPLAINED)  # type: ignore[arg-type]  # names to types
    )


def bare(ranges: pl.DataFrame) -> pl.DataFrame:
    """Explained ranges as the holes they were: neighbours joined again where only the reason told them apart."""
    kept = ranges.sort(*KEY, "start").with_columns((pl.col("reason") == "quarantined").alias("quarantined"))
    end = pl.col("start") + pl.duration(minutes="minutes")
    same = (
        (pl.col("symbol") == pl.col("symbol").shift())
        & (pl.col("session_date") == pl.col("session_date").shift())
        & (pl.col("start") == end.shift())
        & (pl.col("quarantined") == pl.col("quarantined").shift())
    ).fill_null(False)
    return (
        kept.with_columns((~same).cum_sum().alias("hole"))
        .group_by("hole", maintain_order=True)
        .agg(pl.col(*KEY, "start", "quarantined").first(), pl.col("minutes").sum())
        .select(*HOLES)
    )
