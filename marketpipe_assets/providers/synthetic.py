"""Invented bars: session-aware, the same on every machine for a symbol and date, with faults on request.

The walk uses integers and IEEE operations that are exact everywhere (+ - * / sqrt), never exp, log or sin, whose last
bit differs between machines.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, field_validator, model_validator

from marketpipe_assets.bars.calendars import is_calendar
from marketpipe_assets.bars.clock import MICROSECONDS_PER_MINUTE, days_of
from marketpipe_assets.bars.resample import resample
from marketpipe_assets.bars.schema import PRICES, TIMESTAMP, VENDOR_COLUMNS, VENDOR_DAY_COLUMNS, empty
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.bars.timeframes import TIMEFRAMES
from marketpipe_assets.providers.base import BarProvider, Capabilities, ProviderError
from marketpipe_assets.providers.days import whole_days

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bars = npt.NDArray[np.void]
"""Records of `BAR`, in order of arrival."""

FLOATS = (*PRICES, "volume", "vwap")
BAR = np.dtype([("ts", np.int64), *((name, np.float64) for name in FLOATS), ("trade_count", np.int64)])
"""`ts` in microseconds; a vwap of NaN and a trade count below 0 stand for null."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = MICROSECONDS_PER_MINUTE
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
ROWS_AT_ONCE = 32  # symbol-sessions per pass: their arrays stay in the processor's cache


class Instrument(NamedTuple):
    """What one asset class looks like. `smile` is how much livelier the ends of a session are than its middle."""

    ticks_per_unit: int
    gap: float
    smile: float
    volume: float = 0
    volume_parts: int = 1
    trade_size: float = 1


INSTRUMENTS: Mapping[str, Instrument] = {
    "equity": Instrument(100, gap=0.3, smile=2, volume=2_000, trade_size=60),
    "future": Instrument(4, gap=0.1, smile=1, volume=300, trade_size=3),
    "spread": Instrument(100, gap=0.1, smile=1, volume=50, trade_size=3),
    "crypto": Instrument(100, gap=0, smile=0, volume=2, volume_parts=1_000_000, trade_size=0.05),
    "index": Instrument(100, gap=0.3, smile=2),
    "fx": Instrument(100_000, gap=0, smile=0),
}
"""Asset class → instrument. Without a volume there is no trade count and no vwap either."""


# Numbers: a counter-based generator, so that any minute of any session can be had without those before it.

GOLDEN, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
LEVEL, GAP, SIZE, STEPS, SHAPES, PRESENCE, FAULTY, HALT, FAILURE = (np.uint64(n) for n in range(1, 10))
LANES = np.uint64(0x0000FFFF0000FFFF)
IRWIN_HALL_MEAN, IRWIN_HALL_DEVIATION = 131_070.0, 37_837.0  # of the sum of four 16-bit numbers


def key_of(text: str) -> Words:
    """The stream of a text, one number."""
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), dtype="<u8").astype(np.uint64)


def mixed(words: Words) -> Words:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): each bit in changes each bit out."""
    words = (words ^ (words >> np.uint64(30))) * FIRST
    words = (words ^ (words >> np.uint64(27))) * SECOND
    found: Words = words ^ (words >> np.uint64(31))
    return found


def branch(keys: Words, number: Words | Integers | np.generic | int) -> Words:
    """The stream that belongs to this number within each stream."""
    numbers = np.atleast_1d(number).astype(np.uint64)  # of arrays an overflow wraps in silence, of scalars it warns
    return mixed(keys + mixed(numbers + GOLDEN))


def drawn(keys: Words, count: int) -> Words:
    """The first `count` numbers of each stream: one row for each key."""
    return mixed(keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def uniform(words: Words, lane: int = 3) -> Floats:
    """Each word's 16-bit lane as a number in [0, 1)."""
    return ((words >> np.uint64(16 * lane)) & np.uint64(0xFFFF)) / 65536.0


def normal(words: Words) -> Floats:
    """The sum of each word's four lanes, as a number of mean 0 and deviation 1, at most 3.5 in size."""
    pairs = (words & LANES) + ((words >> np.uint64(16)) & LANES)
    total = (pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))
    return (total.astype(np.float64) - IRWIN_HALL_MEAN) / IRWIN_HALL_DEVIATION


# Prices: a level for each date, and a bridge between two levels for each session.

OCTAVES = np.arange(13)  # lattices of 1, 2, 4 … 4096 days: a level that wanders for eleven years, yet stays bounded


def levels(keys: Words, days: Integers, volatility: float) -> Floats:
    """The level of each symbol at the close of each day (since 1970-01-01), about 0.

    Value noise whose octaves grow as the square root of their length, as a random walk does; a day's change has the
    deviation `volatility`.
    """
    width = 1 << OCTAVES
    cell = days[:, None] // width
    inside = (days[:, None] - cell * width) / width
    streams = branch(branch(keys, LEVEL)[:, None], OCTAVES)
    here, there = (uniform(branch(streams, cell + step)) - 0.5 for step in (0, 1))
    amplitude = 0.5 * volatility * np.sqrt(12.0 * width)
    octaves = (here + (there - here) * inside) * amplitude
    total: Floats = np.cumsum(octaves, axis=1)[:, -1]  # a sum in one order on every machine
    return total


def bridges(words: Words, counts: Integers, start: Floats, end: Floats, scale: float, smile: float) -> Floats:
    """Paths of `counts` steps from start to end, one row each, with the start as column 0.

    Their middle wanders with the deviation `scale`/2. Columns past a row's count mean nothing.
    """
    position = (2 * np.arange(words.shape[1]) + 1) / counts[:, None] - 1
    weight = 1 + smile * position * position
    walk, variance = np.cumsum(weight * normal(words), axis=1), np.cumsum(weight * weight, axis=1)
    last = (counts - 1)[:, None]
    walk_end, variance_end = np.take_along_axis(walk, last, axis=1), np.take_along_axis(variance, last, axis=1)
    progress = variance / variance_end
    wander = (walk - progress * walk_end) * (scale / np.sqrt(variance_end))
    path = start[:, None] + (end - start)[:, None] * progress + wander
    return np.concatenate([start[:, None], path], axis=1)


def prices(level: Floats, base_price: float) -> Floats:
    """Positive for any level, base_price at 0, and like exp near it: x + sqrt(1 + x²)."""
    return base_price * (level + np.sqrt(1 + level * level))


# A session has up to three segments, each a run of minutes with its own habits.


class Segment(NamedTuple):
    """`volume` and `presence` give, for the position in the segment (0 to 1), a factor and a probability."""

    number: np.uint64
    calm: float
    volume: Callable[[Floats], Floats]
    presence: Callable[[Floats], Floats]


def _u_shape(x: Floats) -> Floats:
    return 1 + 4 * (2 * x - 1) * (2 * x - 1) * (2 * x - 1) * (2 * x - 1)


def _flat(x: Floats) -> Floats:
    return np.ones_like(x)


def _rising(x: Floats) -> Floats:
    square = x * x
    return 0.08 + 2.5 * square * square * square * square


PRE = Segment(np.uint64(11), 0.3, _rising, lambda x: 0.2 + 0.7 * x * x)
REGULAR = Segment(np.uint64(12), 1.0, _u_shape, _flat)
POST = Segment(np.uint64(13), 0.3, lambda x: _rising(1 - x), lambda x: 0.2 + 0.7 * (1 - x) * (1 - x))


class Rows(NamedTuple):
    """Symbol-sessions, one each. Instants are UTC minutes since 1970-01-01; levels are those of `levels`."""

    symbol: Integers
    symbol_key: Words
    key: Words
    day: Integers
    window_start: Integers
    open: Integers
    break_start: Integers
    break_end: Integers
    close: Integers
    window_end: Integers
    before: Floats
    at_open: Floats
    at_close: Floats

    def part(self, which: slice) -> "Rows":
        return Rows(**{name: column[which] for name, column in self._asdict().items()})


class Minutes(NamedTuple):
    """Bars of one segment: a row for each symbol-session, a column for each minute, and which of them exist."""

    columns: Mapping[str, npt.NDArray[Any]]
    exist: npt.NDArray[np.bool_]


# Faults: each takes one symbol-session's bars and the bar to begin at, and gives the bars with the fault in them.

Faulty = tuple[Bars, int]
"""The bars, and how many of them the fault concerns: changed, added or taken away."""


class Fault(NamedTuple):
    """`inject` gets the bars, the position of the first to strike, and how many: between the two lengths."""

    inject: Callable[[Bars, int, int], Faulty]
    shortest: int = 1
    longest: int = 1
    needs_volume: bool = False


def _taken_away(bars: Bars, at: int, span: int) -> Faulty:
    return np.delete(bars, slice(at, at + span)), span


def _copied(bars: Bars, at: int, factor: float) -> Bars:
    copy = bars[at : at + 1].copy()
    for name in (*PRICES, "vwap"):
        copy[name] *= factor
    return np.concatenate([bars[: at + 1], copy, bars[at + 1 :]])


def _swapped(bars: Bars, at: int, _: int) -> Faulty:
    bars[[at, at + 1]] = bars[[at + 1, at]]
    return bars, 2


def _changed(**new: Callable[[Bars], Any]) -> Callable[[Bars, int, int], Faulty]:
    def inject(bars: Bars, at: int, span: int) -> Faulty:
        run = bars[at : at + span]
        for name, value in new.items():
            run[name] = value(run)
        return bars, span

    return inject


def _shifted(bars: Bars, at: int, _: int) -> Faulty:
    for name in (*PRICES, "vwap"):
        bars[name][at:] *= 1.6
    return bars, len(bars) - at


def _frozen(volume: Callable[[Bars], Any], **new: Callable[[Bars], Any]) -> Callable[[Bars, int, int], Faulty]:
    price = {name: lambda run: run["open"][0] for name in PRICES}
    return _changed(volume=volume, **new, **price)


def _repeated(bars: Bars, at: int, span: int) -> Faulty:
    for name in (*FLOATS, "trade_count"):
        bars[name][at : at + span] = bars[name][at]
    return bars, span


def _null(_: Bars) -> float:
    return np.nan


def _zero(_: Bars) -> int:
    return 0


def _moved(run: Bars) -> Floats:
    close: Floats = np.where(run["close"] == run["open"], run["open"] * 1.001, run["close"])
    return close


FAULTS: Mapping[str, Fault] = {
    "missing_minutes": Fault(_taken_away, 1, 15),
    "duplicate": Fault(lambda bars, at, _: (_copied(bars, at, 1), 1)),
    "conflicting_duplicate": Fault(lambda bars, at, _: (_copied(bars, at, 1.008), 2)),
    "out_of_order": Fault(_swapped, 2, 2),
    "ohlc_logic": Fault(_changed(high=lambda run: run["low"] * 0.995, vwap=_null)),
    "negative_volume": Fault(_changed(volume=lambda run: -run["volume"] - 1)),
    "non_positive_price": Fault(_changed(low=lambda run: -run["low"] - 1_000)),
    "not_finite": Fault(_changed(high=_null)),
    "misaligned_ts": Fault(_changed(ts=lambda run: run["ts"] + MINUTE // 2)),
    "price_jump": Fault(_shifted),
    "bad_tick": Fault(_changed(high=lambda run: run["high"] * 5)),
    "zero_volume_run": Fault(
        _frozen(volume=_zero, vwap=_null, trade_count=_zero), 15, 25, needs_volume=True
    ),  # a crypto market's limit is 15, an equity's 5
    "zero_volume_move": Fault(
        _changed(
            close=_moved,
            high=lambda run: np.maximum(run["high"], run["close"]),
            volume=_zero,
            trade_count=_zero,
        ),
        needs_volume=True,
    ),
    "stale": Fault(_frozen(volume=lambda run: run["volume"], vwap=lambda run: run["open"][0]), 30, 30),
    "huge_volume": Fault(_changed(volume=lambda _: 5e12), needs_volume=True),
    "vwap_range": Fault(_changed(vwap=lambda run: run["high"] * 1.05), needs_volume=True),
    "wick": Fault(_changed(high=lambda run: np.maximum(run["open"], run["close"]) * 1.03)),
    "repeated": Fault(_repeated, 8, 15, needs_volume=True),
    "running_total": Fault(_changed(volume=lambda run: np.cumsum(run["volume"])), 20, 30, needs_volume=True),
}
"""Fault → how it is put into one symbol-session. Wider ones stand below."""

WHOLE_SESSION, EVERY_SYMBOL = "missing_session", "halt"
FAULT_NAMES = (*FAULTS, WHOLE_SESSION, EVERY_SYMBOL)
NUMBER_OF = {name: number for number, name in enumerate(FAULT_NAMES)}


class Injected(NamedTuple):
    fault: str
    ts: int
    bars: int


def times_drawn(keys: Words, rate: float) -> list[int]:
    """How often something of this rate happens in each: its whole part, and once more with the chance of the rest."""
    times: list[int] = (int(rate) + (uniform(drawn(keys, 1))[:, 0] < rate % 1)).tolist()
    return times


def placed(drawn_faults: Sequence[str], first: int, end: int, key: Words) -> Iterator[tuple[str, int, int]]:
    """Fault, position and span in bars `[first, end)`, the last position first.

    Each has a slot of its own that begins with an untouched bar, so that no fault hides another; one that finds no
    room in its slot is left out.
    """
    words = drawn(branch(key, FAULTY), 3 * len(drawn_faults)).reshape(3, -1)
    shuffled = [drawn_faults[index] for index in np.argsort(words[0], kind="stable")]
    lengths, places = uniform(words[1]), uniform(words[2])
    slots = np.linspace(first, end, len(shuffled) + 1).astype(int)
    for index in reversed(range(len(shuffled))):
        fault = FAULTS[shuffled[index]]
        room = int(slots[index + 1] - slots[index]) - 1
        span = fault.shortest + int(lengths[index] * (fault.longest - fault.shortest + 1))
        if room >= span:
            yield shuffled[index], int(slots[index]) + 1 + int(places[index] * (room - span + 1)), span


class SyntheticProvider(BarProvider):
    """Invented bars that follow a calendar. The same symbol, date and settings give the same bars everywhere.

    `faults` maps a name of `FAULT_NAMES` to its rate per symbol-session: 0.1 puts one in a tenth of them, 3 three in
    each. `halt` strikes all symbols of a date at the same minutes. `volatility` is the deviation of a day's change.
    `fail_probability` is the share of symbol-days that cannot be fetched, ever.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=tuple(INSTRUMENTS),
        feeds=("synthetic",),
        history="any date",
        times="start of the bar; the regular session is whole unless a fault is asked for",
        daily_bars=True,
    )

    name: str = Field(default="synthetic", description="Name of the provider, kept with each bar")
    feed: str = Field(default="synthetic", description="Feed kept with each bar")
    calendar: str = Field(default="XNYS", description="Calendar whose sessions the bars follow")
    asset_class: str = Field(default="equity", description=f"One of {', '.join(INSTRUMENTS)}")
    extended_hours: list[str] | None = Field(default=None, description="Local times, e.g. 04:00 and 20:00")
    seed: int = Field(default=0, description="Another seed gives other bars")
    base_price: float = Field(default=100, gt=0, description="Level about which prices wander")
    volatility: float = Field(default=0.02, ge=0, description="Deviation of the change in one day")
    fail_probability: float = Field(default=0, ge=0, le=1, description="Share of symbol-days that cannot be fetched")
    supported_symbols: list[str] | None = Field(default=None, description="Symbols it knows; any where not given")
    faults: dict[str, float] = Field(default={}, description=f"Rates per symbol-session of {', '.join(FAULT_NAMES)}")

    @property
    def feed_asked(self) -> str:
        return self.feed

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, calendar: str) -> str:
        if not is_calendar(calendar):
            raise ValueError(f"expected a calendar such as XNYS, 24/7, FX, CME_GLOBEX, was {calendar!r}")
        return calendar

    @field_validator("asset_class")
    @classmethod
    def _known_asset_class(cls, asset_class: str) -> str:
        if asset_class not in INSTRUMENTS:
            raise ValueError(f"expected one of {', '.join(INSTRUMENTS)}, was {asset_class!r}")
        return asset_class

    @field_validator("extended_hours")
    @classmethod
    def _two_clock_times(cls, hours: list[str] | None) -> list[str] | None:
        if hours is not None and (len(hours) != 2 or not all(map(CLOCK.fullmatch, hours))):
            raise ValueError(f"expected two local times such as 04:00 and 20:00, was {hours}")
        return hours

    @model_validator(mode="after")
    def _faults_apply(self) -> "SyntheticProvider":
        without_volume = INSTRUMENTS[self.asset_class].volume == 0
        usable = [name for name in FAULT_NAMES if not (without_volume and name in FAULTS and FAULTS[name].needs_volume)]
        unknown = sorted(self.faults.keys() - set(usable))
        if unknown:
            raise ValueError(f"faults: expected {', '.join(usable)} for {self.asset_class}, was {', '.join(unknown)}")
        negative = sorted(name for name, rate in self.faults.items() if not 0 <= rate < float("inf"))
        if negative:
            raise ValueError(
                f"faults: expected rates of 0 or more, was {', '.join(f'{n}: {self.faults[n]}' for n in negative)}"
            )
        return self

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        self._refuse(symbols, start, end)
        pieces = [(symbol, bars) for symbol, _, bars, _ in self._symbol_sessions(symbols, start, end)]
        bars = np.concatenate([np.empty(0, BAR), *(piece for _, piece in pieces)])
        owner = np.repeat([symbol for symbol, _ in pieces] or [0], [len(piece) for _, piece in pieces] or [0])
        asked = (bars["ts"] >= _microseconds(start)) & (bars["ts"] < _microseconds(end))
        if not asked.all():
            bars, owner = bars[asked], owner[asked]
        column = {name: pl.Series(name, np.ascontiguousarray(bars[name])) for name in BAR.names or ()}
        trades = pl.col("trade_count")
        return pl.DataFrame(column).select(
            pl.Series("symbol", list(symbols), dtype=pl.String).gather(owner),
            pl.col("ts").cast(TIMESTAMP),
            *PRICES,
            "volume",
            pl.when(trades >= 0).then(trades).alias("trade_count"),
            pl.col("vwap").fill_nan(None),
            pl.lit(self.name, dtype=VENDOR_COLUMNS["provider"]).alias("provider"),
            pl.lit(self.feed, dtype=VENDOR_COLUMNS["feed"]).alias("feed"),
        )

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """The days without any fault: what minutes with faults do not add up to."""
        if not symbols or not dates:
            return empty(VENDOR_DAY_COLUMNS)
        around = sessions(self.calendar, min(dates) - timedelta(days=7), max(dates) + timedelta(days=7))
        held = around.between(min(dates), max(dates) + timedelta(days=1))
        if not held:
            return empty(VENDOR_DAY_COLUMNS)
        clean = self.model_copy(update={"faults": {}, "extended_hours": None})
        minutes = around.assign(clean.minute_bars(list(dict.fromkeys(symbols)), *around.request(held)))
        days = resample(minutes, [TIMEFRAMES["1d"]], around)["1d"]
        return whole_days(days, symbols, dates)

    def injected(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        """The faults that begin in `[start, end)`: `symbol`, `session_date`, `fault`, `ts`, `bars`, in order of `ts`.

        `ts` is the first bar concerned and `bars` how many are: taken away, added, or changed (both bars of a swap or
        a conflict, every bar after a price jump, the whole session of a missing one).
        """
        rows = [
            (symbols[symbol], day, fault.fault, fault.ts, fault.bars)
            for symbol, day, _, faults in self._symbol_sessions(symbols, start, end)
            for fault in sorted(faults, key=lambda fault: fault.ts)
            if _microseconds(start) <= fault.ts < _microseconds(end)
        ]
        plain = {"symbol": pl.String, "session_date": pl.Int32, "fault": pl.String, "ts": pl.Int64, "bars": pl.Int64}
        return pl.DataFrame(rows, schema=plain, orient="row").with_columns(
            pl.col("session_date").cast(pl.Date), pl.col("ts").cast(TIMESTAMP)
        )

    def _refuse(self, symbols: Sequence[str], start: datetime, end: datetime) -> None:
        known = self.supported_symbols
        foreign = [symbol for symbol in symbols if known is not None and symbol not in known]
        if foreign:
            raise ProviderError(f"{self.name}: expected symbols of {', '.join(known or ())}, was {', '.join(foreign)}")
        if self.fail_probability == 0:
            return
        rows = self._rows(symbols, self._asked_sessions(start, end))
        failed = np.flatnonzero(uniform(branch(rows.key, FAILURE)) < self.fail_probability)
        if failed.size:
            day = EPOCH.date() + timedelta(days=int(rows.day[failed[0]]))
            raise ProviderError(f"{self.name}: {symbols[rows.symbol[failed[0]]]} of {day} cannot be fetched")

    def _asked_sessions(self, start: datetime, end: datetime) -> pl.DataFrame:
        hours = self.extended_hours
        extended = (time.fromisoformat(hours[0]), time.fromisoformat(hours[1])) if hours else None
        # whole years, so that requests day by day share one table, and a month more for the session before the first
        around: Sessions = sessions(self.calendar, date(start.year - 1, 11, 1), date(end.year + 1, 3, 1), extended)
        day = pl.col("session_date")
        return around.table.with_columns(day.shift().fill_null(day.dt.offset_by("-1d")).alias("previous")).filter(
            (pl.col("window_start") < end) & (pl.col("window_end") > start)
        )

    def _rows(self, symbols: Sequence[str], table: pl.DataFrame) -> Rows:
        symbol = np.repeat(np.arange(len(symbols)), table.height)
        keys = np.concatenate([np.empty(0, np.uint64), *(key_of(f"{self.seed}|{symbol}") for symbol in symbols)])[
            symbol
        ]
        day, previous = (np.tile(days_of(table[name]), len(symbols)) for name in ("session_date", "previous"))
        instants = {
            name: np.tile(table[name].fill_null(strategy="zero").to_physical().to_numpy() // MINUTE, len(symbols))
            for name in ("window_start", "open", "break_start", "break_end", "close", "window_end")
        }
        key = branch(keys, day)
        before, at_close = levels(keys, previous, self.volatility), levels(keys, day, self.volatility)
        gap = INSTRUMENTS[self.asset_class].gap * self.volatility * normal(branch(key, GAP))
        return Rows(symbol, keys, key, day, **instants, before=before, at_open=before + gap, at_close=at_close)

    def _symbol_sessions(
        self, symbols: Sequence[str], start: datetime, end: datetime
    ) -> Iterator[tuple[int, int, Bars, list[Injected]]]:
        """Position of the symbol, day since 1970-01-01, bars, faults; by symbol as asked, then by session."""
        rows = self._rows(symbols, self._asked_sessions(start, end))
        for first in range(0, len(rows.symbol), ROWS_AT_ONCE):
            some = rows.part(slice(first, first + ROWS_AT_ONCE))
            bars, counts = self._clean(some)
            times = self._times(some)
            for index, session in enumerate(np.split(bars, np.cumsum(counts.sum(axis=1))[:-1])):
                pre, regular, _ = counts[index].tolist()
                here = {name: drawn_times[index] for name, drawn_times in times.items() if drawn_times[index]}
                found, faults = self._faulty(session, (pre, pre + regular), some.part(slice(index, index + 1)), here)
                yield int(some.symbol[index]), int(some.day[index]), found, faults

    def _times(self, rows: Rows) -> Mapping[str, Sequence[int]]:
        """Fault → how often it strikes each symbol-session."""
        keys = {name: branch(rows.key, FAULTY) for name in self.faults}
        if EVERY_SYMBOL in keys:
            keys[EVERY_SYMBOL] = self._halt_keys(rows.day)
        return {name: times_drawn(branch(keys[name], NUMBER_OF[name]), rate) for name, rate in self.faults.items()}

    def _halt_keys(self, days: Integers) -> Words:
        return branch(branch(key_of(str(self.seed)), HALT), days)

    def _clean(self, rows: Rows) -> tuple[Bars, Integers]:
        """Bars of all rows, one after another, and how many are before, in and after each regular session."""
        segments = [
            self._segment(rows, PRE, rows.window_start, rows.open, (rows.before, rows.at_open)),
            self._segment(rows, REGULAR, rows.open, rows.close, (rows.at_open, rows.at_close)),
            self._segment(rows, POST, rows.close, rows.window_end, (rows.at_close, rows.at_close)),
        ]
        exist = np.concatenate([segment.exist for segment in segments], axis=1)
        bars = np.empty(int(exist.sum()), BAR)
        for name in BAR.names or ():
            bars[name] = np.concatenate([segment.columns[name] for segment in segments], axis=1)[exist]
        return bars, np.stack([segment.exist.sum(axis=1) for segment in segments], axis=1)

    def _segment(
        self, rows: Rows, segment: Segment, first: Integers, end: Integers, between: tuple[Floats, Floats]
    ) -> Minutes:
        instrument = INSTRUMENTS[self.asset_class]
        counts = np.maximum(end - first, 1)
        minutes = np.arange(int(counts.max()))
        instants = first[:, None] + minutes
        position = (minutes + 0.5) / counts[:, None]
        key = branch(rows.key, segment.number)
        shapes = drawn(branch(key, SHAPES), minutes.size)
        presence = drawn(branch(key, PRESENCE), minutes.size)
        scale = 0.8 * segment.calm * self.volatility
        path = bridges(drawn(branch(key, STEPS), minutes.size), counts, *between, scale, instrument.smile)
        ticks = np.maximum(np.rint(prices(path, self.base_price) * instrument.ticks_per_unit), 1)
        wick = 2.5 * scale * ticks[:, :-1] / np.sqrt(counts)[:, None]
        price = _candles(ticks, wick, shapes, presence, instrument.ticks_per_unit)
        in_break = (instants >= rows.break_start[:, None]) & (instants < rows.break_end[:, None])
        return Minutes(
            {
                "ts": instants * MINUTE,
                **price,
                **_sizes(rows, instrument, segment.volume(position), shapes, presence, price),
            },
            (instants < end[:, None]) & ~in_break & (uniform(presence) < segment.presence(position)),
        )

    def _faulty(
        self, bars: Bars, regular: tuple[int, int], row: Rows, times: Mapping[str, int]
    ) -> tuple[Bars, list[Injected]]:
        first, end = regular
        if not times or end == first:
            return bars, []
        if WHOLE_SESSION in times:
            return bars[:0], [Injected(WHOLE_SESSION, int(bars["ts"][first]), end - first)]
        holes = self._halts(bars["ts"][first:end], row.day, times.get(EVERY_SYMBOL, 0))
        injected = [Injected(EVERY_SYMBOL, *hole) for hole in holes]
        halted = np.zeros(len(bars), dtype=bool)
        for _, start, count in injected:
            at = int(np.searchsorted(bars["ts"], start))
            halted[at : at + count] = True
        bars, end = bars[~halted], end - int(halted.sum())
        wanted = [name for name in FAULTS for _ in range(times.get(name, 0))]
        for name, at, span in placed(wanted, first, end, row.key):
            begins = int(bars["ts"][at])
            bars, concerned = FAULTS[name].inject(bars, at, span)
            injected.append(Injected(name, begins, concerned))
        return bars, injected

    def _halts(self, regular: Integers, day: Integers, times: int) -> Iterator[tuple[int, int]]:
        """First instant and minutes of each hole that all symbols of this day have, no two of them overlapping."""
        words = drawn(branch(self._halt_keys(day), FAULTY), max(times, 1))[0]
        slots = np.linspace(0, len(regular), times + 1).astype(int)
        for slot in range(times):
            room = int(slots[slot + 1] - slots[slot]) - 1
            span = min(5 + int(25 * uniform(words[slot], 0)), room)
            if span > 0:
                yield int(regular[slots[slot] + int(uniform(words[slot], 1) * (room - span + 1))]), span


def _candles(ticks: Floats, wick: Floats, shapes: Words, presence: Words, ticks_per_unit: int) -> dict[str, Floats]:
    close = ticks[:, 1:]
    open_ = np.maximum(ticks[:, :-1] + np.floor(uniform(presence, 0) * 3) - 1, 1)
    up, down = uniform(shapes, 0), uniform(shapes, 1)
    high = np.maximum(open_, close) + np.floor(wick * up * up)
    low = np.maximum(np.minimum(open_, close) - np.floor(wick * down * down), 1)
    whole = {"open": open_, "high": high, "low": low, "close": close}
    return {name: price / ticks_per_unit for name, price in whole.items()}


def _sizes(
    rows: Rows, instrument: Instrument, shape: Floats, shapes: Words, presence: Words, price: Mapping[str, Floats]
) -> dict[str, npt.NDArray[Any]]:
    if instrument.volume == 0:
        zero = np.zeros(shape.shape)
        return {"volume": zero, "vwap": zero + np.nan, "trade_count": zero - 1}
    activity = (1 + 20 * uniform(branch(rows.symbol_key, SIZE))) * (0.6 + 0.8 * uniform(branch(rows.key, SIZE)))
    burst = uniform(shapes, 2) * uniform(shapes, 2)
    wanted = instrument.volume * activity[:, None] * shape * (0.25 + 3 * burst * burst)
    volume = (np.floor(wanted * instrument.volume_parts) + 1) / instrument.volume_parts
    return {
        "volume": volume,
        "vwap": price["low"] + (price["high"] - price["low"]) * (0.1 + 0.8 * uniform(shapes, 3)),
        "trade_count": np.floor(volume / (instrument.trade_size * (0.5 + uniform(presence, 1)))) + 1,
    }


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)
