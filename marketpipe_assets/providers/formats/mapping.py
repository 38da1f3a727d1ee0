"""Files whose columns the user describes: paths from a template, times and prices by explicit settings."""

import re
import string
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import ClassVar, NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import PRICES
from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.local import utc_times
from marketpipe_assets.providers.formats.minutes import UNITS, check_cadence, check_dates, check_unit
from marketpipe_assets.providers.formats.prices import descaled
from marketpipe_assets.providers.formats.reader import (
    OPTIONAL,
    READ_COLUMNS,
    REQUIRED,
    DatedFile,
    Reader,
    Settings,
    folder_name,
    local_dates,
)
from marketpipe_assets.providers.formats.text import require_finite

LABELS = {"start": timedelta(0), "end": timedelta(minutes=1)}
"""Which instant of a bar its time is → how far that lies behind the first."""

MAPPED: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "ts": pl.String(),
    "date": pl.String(),
    "time": pl.String(),
    **{name: dtype for name, dtype in READ_COLUMNS.items() if name not in ("symbol", "ts")},
}
"""Our columns that a file can have; `date` and `time` together stand for `ts`."""

_ISO = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?P<seconds>:\d\d(\.\d+)?)?(?P<offset>Z|[+-]\d\d:?\d\d)?")


class Planned(NamedTuple):
    """A file to read and, where its path names one, its symbol."""

    file: DatedFile
    symbol: str | None


class Mapped(Reader):
    """A reader of files described by `path`, `columns`, `label` and what their times and prices need.

    `columns` maps ours to theirs: `ts` (or `date` and `time`), open, high, low, close; volume (absent: 0.0),
    trade_count and vwap; `symbol` where the path has no `{symbol}`. `scale`: prices are divided by it. A file whose
    path has a `{date}` holds that date of `timezone` (UTC where none is given) and no other.
    """

    takes: ClassVar[Mapping[str, bool]] = {
        "path": REQUIRED,
        "columns": REQUIRED,
        "label": REQUIRED,
        "timezone": OPTIONAL,
        "unit": OPTIONAL,
        "scale": OPTIONAL,
        "time_format": OPTIONAL,
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.label not in LABELS:
            raise ValueError(f"label: expected start or end, was {settings.label!r}; it is not guessed")
        if settings.unit is not None and settings.unit not in UNITS:
            raise ValueError(f"unit: expected one of {', '.join(UNITS)}, was {settings.unit!r}")
        self.columns = dict(settings.columns or {})
        self.label = LABELS[settings.label]
        self.template = settings.path or ""
        self.zone = settings.timezone or "UTC"
        self.parts = _template_fields("path", self.template)
        _check_columns(self.columns, self.parts)

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        planned = self._planned(symbols, start, end)
        if not planned:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        files = [plan.file for plan in planned]
        names = [str(file.path) for file in files]
        rows = self._named(self.rows(files), planned).filter(pl.col("symbol").is_in(list(symbols)))
        bars = self._timed(rows, names)
        check_dates(bars, files, self.zone)
        check_cadence(bars, names)
        return bars.select(*READ_COLUMNS)

    @abstractmethod
    def rows(self, files: Sequence[DatedFile]) -> pl.DataFrame:
        """Rows of the files in order: `file` and our names of the mapped columns, prices as numbers."""

    def _planned(self, symbols: Sequence[str], start: datetime, end: datetime) -> list[Planned]:
        days = local_dates(start, end + self.label, self.zone) if "date" in self.parts else [start.date()]
        named: Sequence[str | None] = symbols if "symbol" in self.parts else [None]
        pattern = "|".join(self.parts.get("date", []))
        files = {
            self.settings.root
            / self.template.format(symbol=None if symbol is None else folder_name(symbol), date=day): Planned(
                DatedFile(self.settings.root, pattern, f"{day:{pattern}}" if pattern else ""), symbol
            )
            for symbol in named
            for day in days
        }
        return [plan._replace(file=plan.file._replace(path=path)) for path, plan in files.items() if path.exists()]

    def _named(self, rows: pl.DataFrame, planned: Sequence[Planned]) -> pl.DataFrame:
        if "symbol" not in self.parts:
            return rows.with_columns(pl.col("symbol").cast(pl.String))
        symbols = pl.Series([plan.symbol for plan in planned], dtype=pl.String)
        return rows.with_columns(pl.lit(symbols).gather(pl.col("file")).alias("symbol"))

    def _timed(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        priced = descaled(rows, self.settings.scale or 1.0)
        filled = priced.with_columns(
            pl.lit(value, READ_COLUMNS[name]).alias(name)
            for name, value in (("volume", 0.0), ("trade_count", None), ("vwap", None))
            if name not in rows.columns
        )
        times = filled.with_columns(label=self._instants(filled, names))
        missing = times.filter(pl.col("label").is_null()).head(1)
        if missing.height:
            row = missing.row(0, named=True)
            raise BadFile(
                f"{names[row['file']]}: expected a time ({self._expected_time()}), was {self._time_of(row)!r}"
            )
        return times.with_columns(ts=pl.col("label") - self.label)

    def _instants(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.Series:
        times = rows["ts"] if "ts" in rows.columns else rows["date"] + " " + rows["time"]
        if times.dtype.is_integer():
            return self._from_integers(rows, names)
        if times.dtype == pl.String:
            times = _parsed(times, self.settings.time_format)
        if not isinstance(times.dtype, pl.Datetime):
            raise BadFile(f"{names[0]}: expected times as text, integers or date-times, was {times.dtype}")
        if times.dtype.time_zone is None:
            times = self._localized(rows.with_columns(local=times, series=pl.col("symbol")), names)
        return times.dt.convert_time_zone("UTC").dt.cast_time_unit("us")

    def _from_integers(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.Series:
        if self.settings.unit is None:
            raise BadFile(f"{names[0]}: its times are integers: expected the setting `unit`, one of {', '.join(UNITS)}")
        present = rows.filter(pl.col("ts").is_not_null())
        check_unit(present, names, "ts", self.settings.unit)
        factor = UNITS[self.settings.unit]
        micros = rows["ts"].cast(pl.Int64) * (factor // 1000) if factor >= 1000 else rows["ts"].cast(pl.Int64) // 1000
        return micros.cast(pl.Datetime("us", "UTC"))

    def _localized(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.Series:
        if self.settings.timezone is None:
            raise BadFile(f"{names[0]}: its times have no offset: expected the setting `timezone`")
        return utc_times(rows, self.settings.timezone, names)

    def _expected_time(self) -> str:
        return self.settings.time_format or self.settings.unit or "ISO 8601, the same form in each row"

    def _time_of(self, row: Mapping[str, object]) -> object:
        return row["ts"] if "ts" in row else f"{row['date']} {row['time']}"


def require_prices(rows: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise `BadFile` where a number is infinite or not a number; an empty cell is a bar the rules will judge."""
    require_finite(rows, names, [name for name in rows.columns if name in READ_COLUMNS])


def _template_fields(key: str, template: str) -> dict[str, list[str]]:
    path = PurePosixPath(template)
    if not template or path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"{key}: expected a path below root such as {{symbol}}/{{date:%Y-%m-%d}}.csv, was {template!r}"
        )
    expected = f"{key}: expected {{symbol}} and {{date:%Y-%m-%d}} as fields"
    fields: dict[str, list[str]] = {}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{expected}, was {template!r}: {error}") from error
    for _, name, pattern, conversion in parts:
        if name is None:
            continue
        field = f"{name}!{conversion}" if conversion else name
        if field not in ("symbol", "date") or (field == "date") != bool(pattern):
            raise ValueError(f"{expected}, was {{{field}}} in {template!r}")
        fields.setdefault(field, []).append(pattern or "")
    return fields


def check_daily(template: str, columns: Mapping[str, str]) -> None:
    """Raise `ValueError` unless files of daily bars are described whole: a path by symbol, `date` and prices."""
    fields = _template_fields("daily_path", template)
    known = {"date", *PRICES, "volume", "trade_count", "vwap"}
    missing, unknown = sorted({"date", *PRICES} - columns.keys()), sorted(columns.keys() - known)
    if fields.keys() != {"symbol"}:
        raise ValueError(f"daily_path: expected a file for each symbol such as daily/{{symbol}}.csv, was {template!r}")
    if missing or unknown:
        raise ValueError(
            f"daily_columns: expected {', '.join(sorted(known))}; missing: {missing or 'none'}; "
            f"unknown: {unknown or 'none'}"
        )


def _check_columns(columns: Mapping[str, str], path_fields: Collection[str]) -> None:
    unknown = [name for name in columns if name not in MAPPED]
    times = {"ts"} if "ts" in columns else {"date", "time"}
    needed = {*PRICES, *times} | ({"symbol"} - set(path_fields))
    missing = sorted(needed - columns.keys())
    if unknown or missing:
        raise ValueError(
            f"columns: expected {', '.join(MAPPED)}; missing: {missing or 'none'}; unknown: {unknown or 'none'}"
        )
    if "symbol" in path_fields and "symbol" in columns:
        raise ValueError("columns: expected no `symbol` beside {symbol} in path; one of the two names the symbol")
    if "ts" in columns and {"date", "time"} & columns.keys():
        raise ValueError("columns: expected either `ts` or `date` and `time`")
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"columns: expected each column of the file once, was {dict(columns)}")


def _parsed(times: pl.Series, time_format: str | None) -> pl.Series:
    if time_format is not None:
        return times.str.to_datetime(time_format, time_unit="us", strict=False)
    first = _ISO.fullmatch(times.drop_nulls().head(1).str.join("").item())
    if first is None:
        return pl.Series(times.name, [None] * len(times), dtype=pl.Datetime("us", "UTC"))
    pattern = "%Y-%m-%d %H:%M" + (":%S%.f" if first["seconds"] else "") + ("%z" if first["offset"] else "")
    plain = times.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    return plain.str.to_datetime(pattern, time_unit="us", strict=False)
