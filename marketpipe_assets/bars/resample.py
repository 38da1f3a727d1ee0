"""Longer bars from minute bars, for many symbols and sessions in one call."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from marketpipe_assets.bars.clock import Minutes, days_of, minutes_of, timestamps_of, utc_offsets
from marketpipe_assets.bars.order import first_rows
from marketpipe_assets.bars.schema import BAR_COLUMNS, PRICES
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.bars.timeframes import MINUTES_PER_DAY, Timeframe

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
MINUTES_PER_HOUR = 60


class Anchor(StrEnum):
    """Where buckets begin: on the exchange's clock, or counted from the session's open."""

    CLOCK = "clock"
    SESSION = "session"


@dataclass(frozen=True)
class Columns:
    """Bars as arrays, one value per bar, sorted by symbol and time.

    `row` points into the frame they came from, `symbol` numbers its runs, `trades` is null-free and `priced` is
    vwap·volume of bars whose vwap is finite; None: no bar has any. `traded` counts the bars that have a trade count and
    `priced_volume` is the volume of those with a finite vwap; None: all have one.
    """

    row: Integers
    symbol: Integers
    day: Integers
    minute: Minutes
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    regular: npt.NDArray[np.bool_]
    trades: Floats | None
    traded: Floats | None
    priced: Floats | None
    priced_volume: Floats | None

    def where(self, mask: npt.NDArray[np.bool_]) -> "Columns":
        if mask.all():
            return self
        arrays: dict[str, Any] = {name: each if each is None else each[mask] for name, each in vars(self).items()}
        return Columns(**arrays)


def resample(
    bars: pl.DataFrame,
    timeframes: Iterable[Timeframe],
    sessions: Sessions,
    session: str = "regular",
    anchor: Anchor = Anchor.CLOCK,
) -> Mapping[str, pl.DataFrame]:
    """Timeframe label → longer bars of `schema.BAR_COLUMNS`, sorted as `bars`: by symbol, then `ts`.

    `bars` are valid minute bars, sorted by symbol and `ts`, at most one per symbol and minute. `session` says which
    of them count: `regular` or `extended` (pre and post as well); a day is always one session's regular bars.

    A bar's `ts` is its bucket's first instant on the exchange's clock (or counted from the open), so the 09:00 hour
    bar holds 09:30-10:00; no bucket spans two sessions: where the clock would put two in one, the later part begins
    with its session's trading day. The `ts` of a day is local midnight of its session date. `vwap` is
    Σ(vwap·volume)/Σvolume over the bars whose vwap is finite, null if none is or none has volume. `trade_count` is
    the sum of those there are, null if there are none. `session` is regular if any minute is.
    """
    minutes = _columns(bars)
    regular = minutes.where(minutes.regular)
    chosen = regular if session == "regular" else minutes
    done = {1: chosen}
    longer: dict[str, pl.DataFrame] = {}
    for timeframe in sorted(timeframes, key=lambda each: each.minutes):
        if timeframe.minutes == MINUTES_PER_DAY:
            source = done[max(done)] if chosen is regular else regular
            grouped = _grouped(source, sessions.local_midnights(source.day))
        else:
            source = done[max(length for length in done if timeframe.minutes % length == 0)]
            grouped = _grouped(source, STARTS[anchor](source, timeframe.minutes, sessions))
            done[timeframe.minutes] = grouped
        longer[timeframe.label] = _frame(bars, grouped)
    return longer


def _clock_starts(bars: Columns, length: int, sessions: Sessions) -> Minutes:
    offsets = utc_offsets(bars.minute, sessions.timezone)
    starts = (bars.minute + offsets) // length * length - offsets
    if length > MINUTES_PER_HOUR:  # a bucket that holds a change of the clock begins by the offset before it
        starts += offsets - utc_offsets(starts, sessions.timezone)
    return np.maximum(starts, sessions.day_starts(bars.day)) if sessions.rolls_in_the_evening else starts


def _session_starts(bars: Columns, length: int, sessions: Sessions) -> Minutes:
    opens = sessions.opens(bars.day)
    starts = opens + (bars.minute - opens) // length * length
    return np.maximum(starts, sessions.day_starts(bars.day))


STARTS: Mapping[Anchor, Callable[[Columns, int, Sessions], Minutes]] = {
    Anchor.CLOCK: _clock_starts,
    Anchor.SESSION: _session_starts,
}


def _grouped(bars: Columns, starts: Minutes) -> Columns:
    """One bar per run of equal symbol, trading day and start."""
    if starts.size == 0:
        return bars
    first = first_rows(starts, bars.day, bars.symbol)
    last = np.concatenate((first[1:], [starts.size])) - 1
    return Columns(
        row=bars.row[first],
        symbol=bars.symbol[first],
        day=bars.day[first],
        minute=starts[first],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=np.add.reduceat(bars.volume, first),
        regular=bars.regular[first] if bars.regular.all() else np.logical_or.reduceat(bars.regular, first),
        trades=_sums(bars.trades, first),
        traded=_sums(bars.traded, first),
        priced=_sums(bars.priced, first),
        priced_volume=_sums(bars.priced_volume, first),
    )


def _sums(values: Floats | None, first: Integers) -> Floats | None:
    return None if values is None else np.add.reduceat(values, first)


def _columns(bars: pl.DataFrame) -> Columns:
    has_trades, has_vwap = bars["trade_count"].is_not_null(), bars["vwap"].is_finite().fill_null(False)
    volume = bars["volume"].to_numpy()
    all_traded, all_priced = has_trades.all(), has_vwap.all()
    trades = bars["trade_count"] if all_traded else bars["trade_count"].fill_null(0)
    vwap = bars["vwap"] if all_priced else bars["vwap"].set(~has_vwap, 0.0)
    return Columns(
        row=np.arange(bars.height),
        symbol=bars["symbol"].rle_id().to_numpy().astype(np.int64),
        day=days_of(bars["session_date"]),
        minute=minutes_of(bars["ts"]),
        open=bars["open"].to_numpy(),
        high=bars["high"].to_numpy(),
        low=bars["low"].to_numpy(),
        close=bars["close"].to_numpy(),
        volume=volume,
        trades=trades.to_numpy().astype(np.float64) if has_trades.any() else None,
        traded=None if all_traded else has_trades.to_numpy().astype(np.float64),
        priced=vwap.to_numpy() * volume if has_vwap.any() else None,
        priced_volume=None if all_priced else np.where(has_vwap.to_numpy(), volume, 0.0),
        regular=(bars["session"] == "regular").to_numpy(),
    )


def _frame(bars: pl.DataFrame, grouped: Columns) -> pl.DataFrame:
    origin = bars.select("symbol", "session_date", "session", "provider", "feed")[grouped.row]
    if (origin["session"] != "regular").any():
        regular = pl.when(pl.lit(pl.Series(grouped.regular))).then(pl.lit("regular", dtype=pl.Categorical()))
        origin = origin.with_columns(regular.otherwise("session").alias("session"))
    weight = grouped.volume if grouped.priced_volume is None else grouped.priced_volume
    ratio = None if grouped.priced is None else grouped.priced / np.where(weight > 0, weight, 1.0)
    return origin.with_columns(
        timestamps_of(grouped.minute).alias("ts"),
        *(pl.Series(name, getattr(grouped, name)) for name in (*PRICES, "volume")),
        vwap=_where(weight, ratio, pl.Float64()),
        trade_count=_where(grouped.traded, grouped.trades, pl.Int64()),
    ).select(*BAR_COLUMNS)


def _where(counted: Floats | None, values: Floats | None, dtype: pl.DataType) -> pl.Series | pl.Expr:
    """The values where something was counted, else null; all of them without counts, and none without values."""
    if values is None:
        return pl.lit(None, dtype)
    series = pl.Series(values).cast(dtype)
    return series if counted is None else series.set(pl.Series(counted <= 0), None)
