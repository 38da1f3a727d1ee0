"""Read bars: `load_bars` for notebooks, `connect` for SQL. Nothing here imports Dagster."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import BAR_COLUMNS, SECOND, SUPERSEDED, VENDOR_DAYS, columns_of, empty
from marketpipe_assets.bars.timeframes import COMPUTED_ON_READING, TIMEFRAMES
from marketpipe_assets.config import Config, Market, load_config
from marketpipe_assets.guesses import did_you_mean
from marketpipe_assets.lake.scan import held, read_bars, table_dataset

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

SESSIONS = ("regular", "pre", "post")
MEMORY = "4GB"
SECONDS = 60.0
MOST_ROWS = 1_000_000
Moment = str | date | datetime | None
"""A session date (`2024-01-02`) or an aware instant; a naive time is refused."""

Configuration = Config | Path | str | None
"""A configuration or the path of its file; None is the one that `load_config` finds."""


def load_bars(  # noqa: PLR0913  # each is a word of the reader's question
    symbols: str | Sequence[str],
    timeframe: str = "1m",
    start: Moment = None,
    end: Moment = None,
    *,
    market: str | None = None,
    session: Literal["regular", "pre", "post"] | None = None,
    adjustment: Literal["raw"] = "raw",
    as_of: str | datetime | None = None,
    config: Configuration = None,
) -> pl.DataFrame:
    """Valid bars, sorted by symbol in the order asked, then `ts`.

    Columns: `symbol`, `ts` (UTC, the bar's first instant), `session_date`, `open`, `high`, `low`, `close` (unadjusted),
    `volume`, `trade_count`, `vwap`, `session`, `provider`, `feed`; 1m has `flags` as well. The range is half-open: a
    date means that session, so `end="2024-01-05"` ends with the session before; an aware datetime cuts by `ts`.
    `timeframe` is one the market builds, `1m`, or `1w` and `1M`, which are computed from 1d: weeks from Monday and
    calendar months, whose `ts` and `session_date` are those of the last session in them, by which the range chooses
    them. They are of all their sessions since the market's `start`, whatever the range. `session="regular"` leaves out
    pre- and post-market bars.

    `as_of` is an aware instant: the bars are then those that stood at it, before what the provider has given
    otherwise since; longer bars are built from them. Prices are as traded: `raw` is the one `adjustment`.

    `market` is the one that holds all the symbols where it is not named. Symbols without bars have no rows. `config`
    is a configuration or the path of its file. Raises `ValueError` for a timeframe, market, symbol or time it does not
    know and for a range that runs backwards, `ConfigError` for a file it cannot read.
    """
    config, asked = _configured(config), _asked(symbols)
    chosen = market_of(config, asked, market)
    if adjustment != "raw":
        raise ValueError(f"expected adjustment 'raw', the only one there is, was {adjustment!r}")
    if session not in (None, *SESSIONS):
        raise ValueError(f"expected a session of {', '.join(SESSIONS)}, was {session!r}")
    period = COMPUTED_ON_READING.get(timeframe)
    source = "1d" if period else timeframe
    _check_timeframe(chosen, timeframe, source)
    first, last = _range(start, end)
    dates = _dates(chosen, first, last)
    read = _Reader(config.lake, chosen, TIMEFRAMES[source].table, asked, _instant(as_of))
    if period:
        days = read.bars(_whole_periods(chosen, dates, period))
        bars = _calendar_bars(days, period).filter(pl.col("session_date").is_in(list(dates)))
    else:
        bars = read.bars(dates)
    return _filtered(bars, [*_instants(first, last), *([pl.col("session") == session] if session else [])])


def load_table(
    table: str,
    symbols: str | Sequence[str],
    start: Moment = None,
    end: Moment = None,
    *,
    market: str | None = None,
    as_of: str | datetime | None = None,
    config: Configuration = None,
) -> pl.DataFrame:
    """Any table of a market, `raw_bars_1m` and `quarantined_bars_1m` among them, as `load_bars` gives valid bars.

    Raw bars keep their order of arrival within a session; those of a closed day come with the session after it. With
    `as_of` it is what the table held at that instant.
    """
    config, asked = _configured(config), _asked(symbols)
    chosen = market_of(config, asked, market)
    known = [each for each in tables_of(chosen) if as_of is None or each not in (SUPERSEDED, SECOND, VENDOR_DAYS)]
    if table not in known:
        raise ValueError(f"expected a table of {', '.join(known)}, was {table!r}")
    first, last = _range(start, end)
    owned = chosen.sessions.owned_dates(_dates(chosen, first, last))  # raw bars may be of a closed day
    bars = _Reader(config.lake, chosen, table, asked, _instant(as_of)).bars(owned)
    return _filtered(bars, _instants(first, last))


class _Reader(NamedTuple):
    """Where bars are read from: a table as it is, or as it was at an instant."""

    lake: Path
    market: Market
    table: str
    symbols: Sequence[str]
    moment: datetime | None

    def bars(self, dates: Sequence[date]) -> pl.DataFrame:
        lake, market, table, symbols, moment = self
        if not dates:
            return empty(columns_of(table))
        if moment is None:
            return read_bars(lake, market.name, table, symbols, dates)
        from marketpipe_assets.as_of import bars_as_of

        return bars_as_of(lake, market, table, symbols, dates, moment)


def load_ohlcv(
    symbols: str | Sequence[str],
    start: Moment = None,
    end: Moment = None,
    timeframe: str = "1m",
    *,
    market: str | None = None,
    as_polars: bool = False,
    root: Path | None = None,
) -> "pd.DataFrame | pl.DataFrame":
    """`load_bars` for pandas: indexed by UTC `timestamp`, or (`timestamp`, `symbol`) for several symbols.

    Columns `open`, `high`, `low`, `close`, `volume`. `as_polars=True` gives a polars frame with `timestamp` and
    `symbol` as columns. `market` is that of `load_bars`; `root` is another lake of the same configuration.
    """
    config = load_config()
    placed = config if root is None else config.model_copy(update={"lake": Path(root).absolute()})
    bars = load_bars(symbols, timeframe, start, end, market=market, config=placed)
    ohlcv = bars.select(pl.col("ts").alias("timestamp"), "symbol", "open", "high", "low", "close", "volume")
    if as_polars:
        return ohlcv
    index = "timestamp" if isinstance(symbols, str) else ["timestamp", "symbol"]
    frame = ohlcv.to_pandas().set_index(index).sort_index()
    return frame.drop(columns="symbol") if isinstance(symbols, str) else frame


def connect(config: Configuration = None, *, memory: str = MEMORY) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection with one view per table, in one schema per market: `us_equities.bars_5m`.

    The first market's views are also there without the schema. Views have `symbol` as text, and show the files there
    are when the connection is made; their pages are verified as they are read. The connection itself can read and write
    no file, load no extension, see no variable of the caller, and use no more than `memory` (`"500MB"`), since it does
    not spill to disk; its settings are locked. Raises `ValueError` for a memory it cannot read.
    """
    import duckdb

    config = _configured(config)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for number, market in enumerate(config.markets.values()):
        connection.execute(f'CREATE SCHEMA "{market.name}"')
        for table in tables_of(market):
            files = f"{market.name}__{table}"
            connection.register(files, table_dataset(config.lake, market.name, table))
            for schema in (market.name, "main")[: 1 + (number == 0)]:
                view = f'CREATE VIEW "{schema}"."{table}" AS SELECT * FROM "{files}"'  # noqa: S608  # our own names
                connection.execute(view)
    try:
        connection.execute("SET memory_limit = ?", [memory])
    except duckdb.Error as error:
        raise ValueError(f"expected a memory such as 500MB or 4GB, was {memory!r}") from error
    for setting in LOCKS:
        connection.execute(f"SET {setting}")
    return connection


LOCKS = (
    "temp_directory = ''",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
"""What holds a connection to the lake. The last one holds the others."""


def tables_of(market: Market) -> Sequence[str]:
    """The tables a market has, raw first, what they are compared with and what was replaced last."""
    longer = (TIMEFRAMES[each].table for each in market.timeframes)
    second = (SECOND,) if market.reconcile is not None else ()
    days = (VENDOR_DAYS,) if market.tie_out is not None else ()
    return ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", *longer, *second, *days, SUPERSEDED)


def select(
    connection: "duckdb.DuckDBPyConnection", sql: str, *, seconds: float = SECONDS, most_rows: int = MOST_ROWS
) -> pl.DataFrame:
    """The answer to exactly one SELECT, which may take some seconds and give some rows.

    Raises `ValueError` for any other statement, for several in one text, for more rows than that, and for an answer of
    types that a frame does not have, such as an interval of months: cast it. Raises `TimeoutError` where the time is
    over, and `duckdb.OutOfMemoryException` where the connection's memory is.
    """
    _check_one_select(connection, sql)
    with _interrupted_after(connection, seconds):
        table = connection.sql(sql).limit(most_rows + 1).to_arrow_table()
    if table.num_rows > most_rows:
        raise ValueError(f"expected at most {most_rows:,} rows, was more: add a LIMIT, or ask for less")
    if foreign := [f"{each.name} of {each.type}" for each in table.schema if not _is_of_frames(each.type)]:
        raise ValueError(f"expected columns of types that a frame has, was {', '.join(foreign)}: cast them")
    answer: pl.DataFrame = pl.from_arrow(table)  # type: ignore[assignment]  # a table never becomes a Series
    return answer


def _is_of_frames(kind: "pa.DataType") -> bool:
    """Whether polars has the type and those within it: at the others it panics, if they are nested."""
    import pyarrow as pa

    if pa.types.is_interval(kind) or pa.types.is_union(kind):
        return False
    return all(_is_of_frames(kind.field(number).type) for number in range(kind.num_fields))


def explain(connection: "duckdb.DuckDBPyConnection", sql: str) -> str:
    """How DuckDB would answer exactly one SELECT, which is not run. Raises `ValueError` as `select` does."""
    _check_one_select(connection, sql)
    return connection.sql(sql).explain()


def _check_one_select(connection: "duckdb.DuckDBPyConnection", sql: str) -> None:
    """EXPLAIN is refused too: EXPLAIN ANALYZE runs what it explains, a COPY as well."""
    import duckdb

    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        names = ", ".join(kind.name for kind in kinds) or "none"
        raise ValueError(f"expected exactly one SELECT, was {names}")


@contextmanager
def _interrupted_after(connection: "duckdb.DuckDBPyConnection", seconds: float) -> Iterator[None]:
    import duckdb

    timer = Timer(seconds, connection.interrupt)
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise TimeoutError(f"expected an answer within {seconds:g} s, was none") from error
    finally:
        timer.cancel()


def market_of(config: Config, symbols: Sequence[str], name: str | None = None) -> Market:
    """The one market that has all these symbols, configured or retired with bars still held.

    Raises `ValueError` where none or several have them and none is named, and where the named one does not exist or
    lacks one.
    """
    if name is None:
        return _holding(config, symbols)
    if name not in config.markets:
        raise ValueError(f"expected a market of {', '.join(config.markets)}, was {name!r}")
    market = config.markets[name]
    if unknown := sorted(set(symbols) - _known_symbols(config, [market])):
        raise ValueError(f"expected symbols of {name}, was {misspelt(config, [market], unknown)}")
    return market


def markets_with(config: Config, markets: Iterable[Market], symbols: Iterable[str]) -> list[Market]:
    """Those configured with all the symbols; where there is none, those that still have bars of them."""
    candidates, wanted = list(markets), set(symbols)
    holding = [each for each in candidates if wanted <= set(each.symbols)]
    return holding or [each for each in candidates if wanted <= _known_symbols(config, [each])]


def misspelt(config: Config, markets: Iterable[Market], symbols: Iterable[str]) -> str:
    """Symbols that none of the markets has, each with the one it was likely meant to be."""
    known = _known_symbols(config, markets)
    return ", ".join(f"{symbol}{did_you_mean(symbol, known)}" for symbol in symbols)


def _configured(config: Configuration) -> Config:
    if isinstance(config, Config):
        return config
    return load_config(None if config is None else Path(config))


def _asked(symbols: str | Sequence[str]) -> list[str]:
    asked = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
    if not asked:
        raise ValueError("expected at least one symbol, was none")
    if not all(isinstance(each, str) for each in asked):
        raise TypeError(f"expected symbols as text, was {asked}")
    return asked


def _holding(config: Config, symbols: Sequence[str]) -> Market:
    holding = markets_with(config, config.markets.values(), symbols)
    if len(holding) == 1:
        return holding[0]
    if holding:
        found = ", ".join(each.name for each in holding)
        raise ValueError(f"expected one market with {', '.join(symbols)}, was {found}: name the market")
    markets = list(config.markets.values())
    if unknown := sorted(set(symbols) - _known_symbols(config, markets)):
        raise ValueError(f"expected symbols of {', '.join(config.markets)}, was {misspelt(config, markets, unknown)}")
    raise ValueError(
        f"expected symbols of one market, was {', '.join(symbols)} of several: ask for each market's apart"
    )


def _known_symbols(config: Config, markets: Iterable[Market]) -> set[str]:
    """Symbols that the configuration names, and those of which the lake has a folder."""
    return {
        symbol
        for market in markets
        for symbols in (market.symbols, *held(config.lake, market.name).values())
        for symbol in symbols
    }


def _check_timeframe(market: Market, timeframe: str, source: str) -> None:
    built = ("1m", *market.timeframes)
    if source not in built:
        computed = tuple(COMPUTED_ON_READING) if "1d" in built else ()
        raise ValueError(f"expected a timeframe of {', '.join((*built, *computed))}, was {timeframe!r}")


def _dates(market: Market, start: date | None, end: date | None) -> Sequence[date]:
    """Sessions that can hold a bar in the range; an instant may belong to the day before's or the next one's."""
    first = market.start if start is None else _day(start, -1)
    last = date.max if end is None else _day(end, 2)
    return market.sessions.between(first, last)


def _day(moment: date, slack: int) -> date:
    """A date, or so many days from an instant's; the calendar's end where there are not so many."""
    if not isinstance(moment, datetime):
        return moment
    try:
        return moment.date() + timedelta(days=slack)
    except OverflowError:
        return date.min if slack < 0 else date.max


def _whole_periods(market: Market, dates: Sequence[date], step: str) -> Sequence[date]:
    """The sessions of every week or month that these sessions touch: a bar of a part would look like one of all."""
    if not dates:
        return []
    ends = pl.Series([dates[0], dates[-1]]).dt.truncate(step)
    return market.sessions.between(ends[0], ends.dt.offset_by(step)[1])


def _instants(start: date | None, end: date | None) -> list[pl.Expr]:
    """Conditions on `ts` for bounds that are instants; dates are met by the sessions read."""
    after = [pl.col("ts") >= start] if isinstance(start, datetime) else []
    return [*after, pl.col("ts") < end] if isinstance(end, datetime) else after


def _filtered(bars: pl.DataFrame, conditions: Sequence[pl.Expr]) -> pl.DataFrame:
    """polars goes through all rows for no condition as well."""
    return bars.filter(*conditions) if conditions else bars


def _range(start: Moment, end: Moment) -> tuple[date | None, date | None]:
    first, last = _moment(start), _moment(end)
    if first is not None and last is not None and _is_reversed(first, last):
        raise ValueError(f"expected a start before the end, was {start} and {end}")
    return first, last


def _is_reversed(start: date, end: date) -> bool:
    if isinstance(start, datetime) == isinstance(end, datetime):
        return start > end
    return _day(start, -1) > _day(end, 2)  # which session an instant belongs to, the calendar knows


def _moment(moment: Moment) -> date | None:
    if isinstance(moment, str):
        moment = _parsed(moment)
    if not isinstance(moment, date | None):
        raise TypeError(f"expected a date or a time such as 2024-01-02, was {moment!r}")
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise ValueError(f"expected a date or a time with its zone, was {moment.isoformat()}")
    return _in_utc(moment) if isinstance(moment, datetime) else moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"expected a time that UTC has as well, was {moment.isoformat()}") from None


def _instant(moment: str | datetime | None) -> datetime | None:
    at = _moment(moment)
    if at is None or isinstance(at, datetime):
        return at
    raise ValueError(f"expected an instant with its zone, such as 2024-01-05T09:00:00+00:00, was {moment}")


def _parsed(moment: str) -> date:
    try:
        return date.fromisoformat(moment) if len(moment) <= len("2024-01-02") else datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f"expected a date or a time such as 2024-01-02, was {moment!r}") from None


def _calendar_bars(days: pl.DataFrame, step: str) -> pl.DataFrame:
    """Weeks from Monday, or calendar months, of session dates; labelled with the last session in them."""
    priced = pl.col("volume").filter(pl.col("vwap").is_not_null()).sum()
    counted = pl.col("trade_count").is_not_null().any()
    return (
        days.group_by("symbol", pl.col("session_date").dt.truncate(step).alias("period"), maintain_order=True)
        .agg(
            pl.col("ts", "session_date").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.when(counted).then(pl.col("trade_count").sum()).alias("trade_count"),
            pl.when(priced > 0).then((pl.col("vwap") * pl.col("volume")).sum() / priced).alias("vwap"),
            pl.col("session", "provider", "feed").first(),
        )
        .select(*BAR_COLUMNS)
    )
