"""Read bars: `load_bars` for notebooks, `connect` for SQL. Nothing here imports Dagster."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marketpipe_assets.bars.schema import BAR_COLUMNS, columns_of, empty
from marketpipe_assets.bars.timeframes import COMPUTED_ON_READING, TIMEFRAMES
from marketpipe_assets.config import Config, Market, load_config
from marketpipe_assets.lake.scan import held, read_bars

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

Moment = str | date | datetime | None
"""A session date (`2024-01-02`) or an aware instant; a naive time is refused."""


def load_bars(
    symbols: str | Sequence[str],
    timeframe: str = "1m",
    start: Moment = None,
    end: Moment = None,
    *,
    market: str | None = None,
    session: str | None = None,
    config: Config | None = None,
) -> pl.DataFrame:
    """Valid bars, sorted by symbol in the order asked, then `ts`.

    Columns: `symbol`, `ts` (UTC, the bar's first instant), `session_date`, `open`, `high`, `low`, `close` (unadjusted),
    `volume`, `trade_count`, `vwap`, `session`, `provider`, `feed`; 1m has `flags` as well. The range is half-open: a
    date means that session, so `end="2024-01-05"` ends with the session before; an aware datetime cuts by `ts`.
    `timeframe` is one the market builds, `1m`, or `1w` and `1M`, which are computed from 1d: their `ts` and
    `session_date` are those of the last session in them. `session="regular"` leaves out pre- and post-market bars.

    `market` is the one that holds all the symbols where it is not named. Symbols without bars have no rows. Raises
    `ValueError` for a timeframe, market, symbol or time it does not know.
    """
    config = config or load_config()
    asked = [symbols] if isinstance(symbols, str) else list(symbols)
    chosen = _market(config, market, asked)
    source = "1d" if timeframe in COMPUTED_ON_READING else timeframe
    _check_timeframe(chosen, timeframe, source)
    table = TIMEFRAMES[source].table
    first, last = _moment(start), _moment(end)
    dates = _dates(chosen, first, last)
    bars = read_bars(config.lake, chosen.name, table, asked, dates) if dates else empty(columns_of(table))
    bars = bars.filter(*_instants(first, last), *([pl.col("session") == session] if session else []))
    return _calendar_bars(bars, COMPUTED_ON_READING[timeframe]) if timeframe in COMPUTED_ON_READING else bars


def load_ohlcv(
    symbols: str | Sequence[str],
    start: Moment = None,
    end: Moment = None,
    timeframe: str = "1m",
    *,
    as_polars: bool = False,
    root: Path | None = None,
) -> "pd.DataFrame | pl.DataFrame":
    """`load_bars` for pandas: indexed by UTC `timestamp`, or (`timestamp`, `symbol`) for several symbols.

    Columns `open`, `high`, `low`, `close`, `volume`. `as_polars=True` gives a polars frame with `timestamp` and
    `symbol` as columns. `root` is another lake of the same configuration.
    """
    config = load_config()
    placed = config if root is None else config.model_copy(update={"lake": Path(root).absolute()})
    bars = load_bars(symbols, timeframe, start, end, config=placed)
    ohlcv = bars.select(pl.col("ts").alias("timestamp"), "symbol", "open", "high", "low", "close", "volume")
    if as_polars:
        return ohlcv
    index = "timestamp" if isinstance(symbols, str) else ["timestamp", "symbol"]
    frame = ohlcv.to_pandas().set_index(index).sort_index()
    return frame.drop(columns="symbol") if isinstance(symbols, str) else frame


def connect(config: Config | None = None) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection with one view per table, in one schema per market: `us_equities.bars_5m`.

    The first market's views are also there without the schema. Views have `symbol` as text. The connection reads the
    lake and no other file, and its settings are locked.
    """
    import duckdb

    config = config or load_config()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for number, market in enumerate(config.markets.values()):
        connection.execute(f'CREATE SCHEMA "{market.name}"')
        for table in tables_of(market):
            for schema in (market.name, "main")[: 1 + (number == 0)]:
                connection.execute(f'CREATE VIEW "{schema}"."{table}" AS {_scan(config.lake, market.name, table)}')
    connection.execute(f"SET allowed_directories = ['{_quoted(config.lake)}/']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def tables_of(market: Market) -> Sequence[str]:
    """The tables a market has, raw first."""
    return ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", *(TIMEFRAMES[each].table for each in market.timeframes))


def select(connection: "duckdb.DuckDBPyConnection", sql: str) -> pl.DataFrame:
    """The answer to exactly one SELECT.

    Raises `ValueError` for any other statement, or for several in one text: `COPY … TO` would write into the lake.
    """
    import duckdb

    statements = connection.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if kinds != [duckdb.StatementType.SELECT]:
        names = ", ".join(kind.name for kind in kinds) or "none"
        raise ValueError(f"expected exactly one SELECT, was {names}")
    table = connection.sql(sql).to_arrow_table()
    answer: pl.DataFrame = pl.from_arrow(table)  # type: ignore[assignment]  # a table never becomes a Series
    return answer


def _market(config: Config, name: str | None, symbols: Sequence[str]) -> Market:
    if name is not None:
        if name not in config.markets:
            raise ValueError(f"expected a market of {', '.join(config.markets)}, was {name!r}")
        _check_symbols(config, config.markets[name], symbols)
        return config.markets[name]
    holding = [each for each in config.markets.values() if set(symbols) <= set(_known(config, each))]
    if len(holding) != 1:
        found = ", ".join(each.name for each in holding) or "none"
        raise ValueError(f"expected one market with {', '.join(symbols)}, was {found}: name it with market=")
    return holding[0]


def _known(config: Config, market: Market) -> Sequence[str]:
    """Configured symbols, and those retired from the configuration whose bars are still there."""
    return (*market.symbols, *held(config.lake, market.name).get("bars_1m", ()))


def _check_symbols(config: Config, market: Market, symbols: Sequence[str]) -> None:
    if unknown := [symbol for symbol in symbols if symbol not in _known(config, market)]:
        raise ValueError(f"expected symbols of {market.name}, was {', '.join(unknown)}")


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
    if isinstance(moment, datetime):
        return (moment.astimezone(UTC) + timedelta(days=slack)).date()
    return moment


def _instants(start: date | None, end: date | None) -> list[pl.Expr]:
    """Conditions on `ts` for bounds that are instants; dates are met by the sessions read."""
    after = [pl.col("ts") >= start] if isinstance(start, datetime) else []
    return [*after, pl.col("ts") < end] if isinstance(end, datetime) else after


def _moment(moment: Moment) -> date | None:
    if isinstance(moment, str):
        moment = _parsed(moment)
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise ValueError(f"expected a date or a time with its zone, was {moment.isoformat()}")
    return moment


def _parsed(moment: str) -> date:
    try:
        return date.fromisoformat(moment) if len(moment) <= len("2024-01-02") else datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f"expected a date or a time such as 2024-01-02, was {moment!r}") from None


def _calendar_bars(days: pl.DataFrame, step: str) -> pl.DataFrame:
    """Weeks from Monday, or calendar months, of session dates; labelled with the last session in them."""
    price = pl.col("vwap") * pl.col("volume")
    volume = pl.col("volume").filter(pl.col("vwap").is_not_null())
    return (
        days.group_by("symbol", pl.col("session_date").dt.truncate(step).alias("period"), maintain_order=True)
        .agg(
            pl.col("ts", "session_date").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume", "trade_count").sum(),
            (price.sum() / volume.sum()).alias("vwap"),
            pl.col("session", "provider", "feed").first(),
        )
        .select(*BAR_COLUMNS)
    )


def _scan(lake: Path, market: str, table: str) -> str:
    folder = lake / market / table
    columns = ", ".join(f'"{name}"' for name in columns_of(table))
    if not any(folder.glob("symbol=*/*.parquet")):
        typed = ", ".join(f'CAST(NULL AS {_sql_type(dtype)}) AS "{name}"' for name, dtype in columns_of(table).items())
        return f"SELECT {typed} WHERE false"
    files = f"'{_quoted(folder)}/symbol=*/*.parquet'"
    hive = "hive_partitioning = true, hive_types = {'symbol': VARCHAR}"
    return f"SELECT {columns} FROM read_parquet({files}, {hive})"  # noqa: S608  # names and paths of our own


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


SQL_TYPES = {
    pl.String: "VARCHAR",
    pl.Categorical: "VARCHAR",
    pl.Float64: "DOUBLE",
    pl.Int64: "BIGINT",
    pl.Date: "DATE",
    pl.Datetime: "TIMESTAMPTZ",
    pl.List: "VARCHAR[]",
}


def _sql_type(dtype: pl.DataType) -> str:
    return SQL_TYPES[type(dtype)]
