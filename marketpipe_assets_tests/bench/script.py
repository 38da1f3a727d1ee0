"""The leanest plain script for the same files: what the product is measured against. It uses nothing of the product.

Planned by hand for one market of US shares without extended hours, whose bars come grouped by symbol in the order of
arrival. No merge, no lock, no check, no temporary file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY = 1440
MICROSECONDS = 60_000_000
NEXT_SYMBOL = 1 << 40  # more than the minutes of any time
LABELS = pl.Series(["regular", "pre", "post"], dtype=pl.Categorical())
PAYLOAD = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
COLUMNS = ("ts", "session_date", *PAYLOAD, "session", "provider", "feed")
NAMES = pa.large_list(pa.large_string())
LENGTHS = {"bars_5m": 5, "bars_15m": 15, "bars_1h": 60, "bars_1d": DAY}
WARNINGS = (
    "vwap_range",
    "zero_volume_move",
    "price_jump",
    "bad_tick",
    "stale_feed",
    "constant_price",
    "rising_volume",
    "price_range",
    "huge_volume",
)
COUNTED_ONLY = ("zero_volume_run", "volume_spike", "overnight_jump")
SPLITS = tuple(
    sorted(
        {n / 1 for n in (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)}
        | {1 / n for n in (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)}
        | {3 / 2, 2 / 3, 4 / 3, 3 / 4, 5 / 4, 4 / 5}
    )
)

key, ts, trades = pl.col("key"), pl.col("ts"), pl.col("trade_count")
open_, high, low, close, volume, vwap = (pl.col(name) for name in (*PAYLOAD[:5], "vwap"))
same_session = key == key.shift()

no_volume = volume == 0

goes_on = same_session.shift(-1)
top, bottom = pl.max_horizontal(open_, close), pl.min_horizontal(open_, close)
highest = pl.max_horizontal(
    pl.when(same_session).then(top.shift().fill_null(np.inf)).otherwise(open_),
    pl.when(goes_on).then(top.shift(-1).fill_null(np.inf)).otherwise(close),
)
lowest = pl.min_horizontal(
    pl.when(same_session).then(bottom.shift().fill_null(-np.inf)).otherwise(open_),
    pl.when(goes_on).then(bottom.shift(-1).fill_null(-np.inf)).otherwise(close),
)
apart = pl.max_horizontal(
    (high / pl.when(pl.col("highest") > 0).then("highest")).fill_nan(None),
    (pl.col("lowest") / pl.when(low > 0).then(low)).fill_nan(None),
)
spanned = ((pl.col("highest") / pl.when(pl.col("lowest") > 0).then("lowest") - 1) / 3).fill_nan(None)
same_bar = same_session & pl.all_horizontal(each == each.shift() for each in (open_, high, low, close, volume))
flat = same_session & (high == low) & (close == close.shift()) & (volume > 0)
risen = same_session & (volume > volume.shift())


def run(holds: pl.Expr, bars: int) -> pl.Expr:
    return holds.fill_null(False).cast(pl.Int32).rolling_sum(bars - 1) == bars - 1


BROKEN: Mapping[str, pl.Expr] = {
    "not_finite": ~pl.all_horizontal(
        each.is_finite().fill_null(value=False) for each in (open_, high, low, close, volume)
    ),
    "duplicate_ts": pl.col("copy"),
    "out_of_order": same_session & (ts < ts.shift()),
    "misaligned_ts": ts.to_physical() % MICROSECONDS != 0,
    "ts_range": pl.col("code") != 0,
    "outside_session": pl.col("session").is_null(),
    "non_positive_price": (open_ <= 0) | (high <= 0) | (low <= 0) | (close <= 0),
    "ohlc_logic": (high < open_) | (high < close) | (high < low) | (low > open_) | (low > close),
    "negative_volume": volume < 0,
    "negative_trade_count": trades < 0,
    "impossible_tick": pl.col("apart") - 1 > 2,
    "vwap_range": (vwap < low * (1 - 1e-6)) | (vwap > high * (1 + 1e-6)),
    "zero_volume_move": (volume == 0) & (open_ != close),
    "price_jump": same_session & ((open_ / close.shift() - 1).abs() > 0.5),
    "bad_tick": pl.col("wick"),
    "stale_feed": run(same_bar & ((volume > 0) | (high > low)), 5),
    "constant_price": run(flat, 20),
    "rising_volume": run(risen, 12),
    "price_range": (high > 1_000_000) | (low < 0.01),
    "huge_volume": volume > 1e9,
    "zero_volume_run": pl.all_horizontal(no_volume.shift(bars) for bars in range(5)) & (key == key.shift(4)),
    "volume_spike": (key == key.shift(20)) & (volume > 10 * volume.rolling_mean(20).shift()),
    "overnight_jump": pl.col("overnight") > 0.5,
}


class Hours(NamedTuple):
    """The market's sessions: days since 1970-01-01, UTC minutes of open and close, minutes from UTC to local."""

    day: Integers
    open: Integers
    close: Integers
    offset: Integers

    def by_day(self, first: int, last: int) -> "Hours":
        """The same by calendar day in `[first, last]`, for look-up; on a closed day open and close are -1."""
        days = np.arange(first, last + 1)
        latest = np.maximum(np.searchsorted(self.day, days, side="right") - 1, 0)
        is_open = self.day[latest] == days
        return Hours(
            days,
            np.where(is_open, self.open[latest], -1),
            np.where(is_open, self.close[latest], -1),
            self.offset[latest],
        )


def hours_of(table: pl.DataFrame, timezone: str) -> Hours:
    """From a table with `session_date`, `open` and `close`, in the zone of the exchange."""
    opens = table["open"].dt.convert_time_zone(timezone)
    return Hours(
        table["session_date"].to_physical().to_numpy().astype(np.int64),
        table["open"].to_physical().to_numpy() // MICROSECONDS,
        table["close"].to_physical().to_numpy() // MICROSECONDS,
        (opens.dt.base_utc_offset() + opens.dt.dst_offset()).dt.total_minutes().to_numpy(),
    )


class Keys(NamedTuple):
    """By row of a table: `key`, the number of its symbol in `symbols` and its day, and its local minute."""

    symbols: list[str]
    key: Integers
    local: Integers


def pipeline(vendor: pl.DataFrame, hours: Hours, folder: Path) -> None:
    """Write every table of the market's `folder`."""
    frame, keys, codes = assigned(vendor, hours)
    raw = frame.select(COLUMNS).to_arrow()
    _write(folder, "raw_bars_1m", raw, keys)
    good, flags, bad, broken = judged(frame, keys, codes)
    if bad.size:
        rejected = raw.take(bad).append_column("broken_rules", broken)
        _write(folder, "quarantined_bars_1m", rejected, _part(keys, bad))
    if good is not None:
        raw, keys = raw.take(good), _part(keys, good)
    _write(folder, "bars_1m", raw.append_column("flags", flags), keys)
    for table, longer, starts in _longer(raw, keys):
        _write(folder, table, longer, starts)


def assigned(vendor: pl.DataFrame, hours: Hours) -> tuple[pl.DataFrame, Keys, pl.Series]:
    minutes = vendor["ts"].to_physical().to_numpy() // MICROSECONDS
    first = int(minutes.min()) // DAY - 1
    known = hours.by_day(first, int(minutes.max()) // DAY + 1)
    local = minutes + known.offset[minutes // DAY - first]
    day = local // DAY
    opens, closes = known.open[day - first], known.close[day - first]
    codes = pl.Series("code", (minutes < opens) + 2 * (minutes >= closes).astype(np.uint32), dtype=pl.UInt32)
    if (opens < 0).any():
        codes = codes.set(pl.Series(opens < 0), None)
    frame = vendor.with_columns(
        pl.Series("session_date", day.astype(np.int32)).cast(pl.Date), LABELS.gather(codes).alias("session")
    )
    number = vendor["symbol"].rle_id().to_numpy().astype(np.int64)
    symbols = vendor["symbol"].gather(_changes(number)).to_list()
    return frame, Keys(symbols, number * NEXT_SYMBOL + day, local), codes


class Verdict(NamedTuple):
    """Rows of valid bars by time (None: all, as they are), their flags, rows of bad bars and the rules these broke."""

    good: Integers | None
    flags: pa.Array
    bad: Integers
    broken: pa.Array


def _counted(bars: pl.DataFrame, keys: Keys, codes: pl.Series) -> tuple[pl.DataFrame, dict[str, int]]:
    """What the rules need to know, and how many bars break each."""
    known = bars.with_columns(pl.Series("key", keys.key), codes)
    facts = known.with_columns(_copies(known), *_wicks(known), _overnight(known))
    counts = _counts(facts)
    if not counts["not_finite"]:
        return facts, counts
    known = known.with_columns(pl.col(pl.Float64).fill_nan(None))
    facts = known.with_columns(facts["copy"], *_wicks(known), _overnight(known))
    return facts, _counts(facts)


def judged(bars: pl.DataFrame, keys: Keys, codes: pl.Series) -> Verdict:
    facts, counts = _counted(bars, keys, codes)
    kept = [rule for rule, count in counts.items() if count and rule not in COUNTED_ONLY]
    if not kept:
        return Verdict(None, pa.nulls(facts.height, NAMES), np.empty(0, np.int64), pa.nulls(0, NAMES))
    broken = facts.select(BROKEN[rule].fill_null(False).alias(rule) for rule in kept)
    warned = [rule for rule in kept if rule in WARNINGS]
    grave = [rule for rule in kept if rule not in WARNINGS]
    is_bad = broken.select(pl.any_horizontal(grave)).to_series().to_numpy() if grave else np.zeros(facts.height, bool)
    good, bad = np.flatnonzero(~is_bad), np.flatnonzero(is_bad)
    times = keys.key[good] // NEXT_SYMBOL * NEXT_SYMBOL + keys.local[good]
    if (np.diff(times) < 0).any():
        good = good[np.argsort(times, kind="stable")]
    return Verdict(good, _names(broken, warned, good), bad, _names(broken, kept, bad))


def _counts(facts: pl.DataFrame) -> dict[str, int]:
    return facts.select(expr.sum().alias(rule) for rule, expr in BROKEN.items()).row(0, named=True)


def _copies(facts: pl.DataFrame) -> pl.Series:
    """True for the later ones of identical copies of a bar, and for all of conflicting ones."""
    copies = pl.Series("copy", pl.repeat(value=False, n=facts.height, eager=True))
    stalled = facts.filter(same_session & (ts <= ts.shift()))["key"]
    if stalled.is_empty():
        return copies
    suspects = facts.with_row_index().filter(key.is_in(stalled.unique().implode()))
    twins = suspects.filter(pl.struct("key", "ts").is_duplicated())
    conflicting = (pl.struct(PAYLOAD).n_unique() > 1).over("key", "ts")
    later = pl.col("index") > pl.col("index").min().over("key", "ts")
    return copies.scatter(twins.filter(conflicting | later)["index"], True)


def _wicks(facts: pl.DataFrame) -> list[pl.Series]:
    """How many times the price around a bar's own reaches, and whether that is a bad tick."""
    found = facts.select(high, low, highest.alias("highest"), lowest.alias("lowest")).select(
        apart.alias("apart"), spanned.alias("spanned")
    )
    above_floor = found["apart"] - 1 > 0.003
    if not above_floor.any():
        return [found["apart"], above_floor.alias("wick")]
    part = ("key", "session")
    suspects = facts.with_row_index().join(
        facts.filter(above_floor).select(part).unique(), on=part, how="semi", nulls_equal=True, maintain_order="left"
    )
    of_part = suspects.select(*part, pl.when((low > 0) & high.is_finite()).then(high / low - 1).alias("range"))
    middle = of_part.select(
        pl.col("range").rolling_median(21, center=True, min_samples=1).over(part).alias("middle"),
        pl.col("range").filter(pl.col("range") > 0).median().over(part).alias("tick"),
    )
    usual = found[suspects["index"]].hstack(middle).select(6 * pl.max_horizontal("spanned", "middle", "tick"))
    broken = (found["apart"].gather(suspects["index"]) - 1 > usual.to_series()) & above_floor.gather(suspects["index"])
    return [found["apart"], (above_floor & False).scatter(suspects["index"], broken).alias("wick")]


def _overnight(facts: pl.DataFrame) -> pl.Series:
    """How far a session opens from the close before it, but for a split; null for every bar after the first."""
    begins = (key != key.shift()) & (pl.col("symbol") == pl.col("symbol").shift())
    moved = pl.col("moved")
    firsts = facts.select(pl.row_index(), moved=(open_ / close.shift()).fill_nan(None)).filter(
        facts.select(begins).to_series()
    )
    far = firsts.filter(~pl.any_horizontal((moved / each - 1).abs() <= 0.05 for each in SPLITS))
    moves = pl.Series("overnight", pl.repeat(None, facts.height, dtype=pl.Float64, eager=True))
    return moves.scatter(far["index"], (far["moved"] - 1).abs())


def _names(broken: pl.DataFrame, rules: list[str], rows: Integers) -> pa.Array:
    """The names of the rules each of these rows broke; null: none."""
    if not rules:
        return pa.nulls(rows.size, NAMES)
    found = broken.select(pl.any_horizontal(rules)).to_series().gather(rows).arg_true()
    if found.is_empty():
        return pa.nulls(rows.size, NAMES)
    names = (pl.when(rule).then(pl.lit(rule)) for rule in rules)
    lists = broken[rows[found]].select(pl.concat_list(names).list.drop_nulls()).to_series()
    place = pl.Series(pl.repeat(None, rows.size, dtype=pl.UInt32, eager=True))
    numbered = place.scatter(found, pl.arange(found.len(), dtype=pl.UInt32, eager=True))
    return lists.gather(numbered).to_arrow().cast(NAMES)


def _part(keys: Keys, rows: Integers) -> Keys:
    return Keys(keys.symbols, keys.key[rows], keys.local[rows])


class Level(NamedTuple):
    """Bars of one length as arrays; `row` is the first minute of each.

    `traded` counts the bars that have a trade count, and `priced` is the volume of those that have a vwap; None: all
    have one.
    """

    row: Integers
    symbol: Integers
    local: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    trades: Integers
    turnover: Floats
    traded: Floats | None
    priced: Floats | None


def _longer(minutes: pa.Table, keys: Keys) -> Iterator[tuple[str, pa.Table, Keys]]:
    """The tables of longer bars, each built from the one before."""
    level = _minutes(minutes, keys)
    origin = minutes.select(["session_date", "session", "provider", "feed"])
    stamps = minutes["ts"].to_numpy().view(np.int64) // MICROSECONDS
    for table, length in LENGTHS.items():
        level = _grouped(level, length)
        ts = (level.local - keys.local[level.row] + stamps[level.row]) * MICROSECONDS
        yield table, _columns(level, ts, origin, minutes.schema), Keys(keys.symbols, keys.key[level.row], level.local)


def _minutes(minutes: pa.Table, keys: Keys) -> Level:
    """Every valid bar is a regular one: the others broke `ts_range`."""
    open_, high, low, close, volume = (minutes[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    counts, prices = minutes["trade_count"], minutes["vwap"]
    return Level(
        np.arange(volume.size),
        keys.key // NEXT_SYMBOL * NEXT_SYMBOL,
        keys.local,
        open_,
        high,
        low,
        close,
        volume,
        (counts.fill_null(0) if counts.null_count else counts).to_numpy(),
        (prices.fill_null(0) if prices.null_count else prices).to_numpy() * volume,
        counts.is_valid().to_numpy().astype(np.float64) if counts.null_count else None,
        np.where(prices.is_valid().to_numpy(), volume, 0) if prices.null_count else None,
    )


def _grouped(bars: Level, length: int) -> Level:
    local = bars.local // length * length
    first = _changes(bars.symbol + local)
    last = np.append(first[1:], local.size) - 1
    return Level(
        bars.row[first],
        bars.symbol[first],
        local[first],
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
        np.add.reduceat(bars.trades, first),
        np.add.reduceat(bars.turnover, first),
        None if bars.traded is None else np.add.reduceat(bars.traded, first),
        None if bars.priced is None else np.add.reduceat(bars.priced, first),
    )


def _columns(bars: Level, ts: Integers, origin: pa.Table, schema: pa.Schema) -> pa.Table:
    there = origin.take(bars.row)
    weight = bars.volume if bars.priced is None else bars.priced
    weightless = weight <= 0
    columns = {
        "ts": pa.array(ts).cast(schema.field("ts").type),
        "open": bars.open,
        "high": bars.high,
        "low": bars.low,
        "close": bars.close,
        "volume": bars.volume,
        "trade_count": pa.array(bars.trades, mask=None if bars.traded is None else bars.traded == 0),
        "vwap": pa.array(bars.turnover / np.where(weightless, 1, weight), mask=weightless),
    }
    arrays = [columns[name] if name in columns else there[name] for name in COLUMNS]
    return pa.table(arrays, schema=pa.schema([schema.field(name) for name in COLUMNS]))


def _changes(values: Integers) -> Integers:
    """The first row of each run of equal values."""
    return np.concatenate(([0], np.flatnonzero(np.diff(values)) + 1)) if values.size else values


def _write(folder: Path, table: str, bars: pa.Table, keys: Keys) -> None:
    """One file for each symbol and period: a month of minutes, a year of longer bars."""
    unit = "Y" if table in LENGTHS else "M"
    runs = _changes(keys.key)
    number, day = np.divmod(keys.key[runs], NEXT_SYMBOL)
    period = day.astype("datetime64[D]").astype(f"datetime64[{unit}]")
    files = _changes(number * NEXT_SYMBOL + period.astype(np.int64))
    ends = np.append(runs[files[1:]], keys.key.size)
    for run, end in zip(files, ends, strict=True):
        symbol = keys.symbols[number[run]]
        below = folder / table / f"symbol={symbol}"
        below.mkdir(parents=True, exist_ok=True)
        about = {
            "schema_version": "1",
            "market": folder.name,
            "table": table,
            "symbol": symbol,
            "adjustment": "raw",
            "label": "start",
        }
        pq.write_table(
            bars.slice(runs[run], end - runs[run]).replace_schema_metadata(about),
            below / f"{period[run]}.parquet",
            compression="lz4",
            use_dictionary=["session", "provider", "feed", "open", "high", "low", "close"],
            column_encoding=dict.fromkeys(("ts", "session_date", "trade_count"), "DELTA_BINARY_PACKED"),
            write_statistics=["ts", "session_date"],
            write_page_checksum=True,
            row_group_size=8192,
        )
