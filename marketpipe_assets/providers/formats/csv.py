"""Delimited text described by the user, plain or compressed (`.csv`, `.csv.gz`, `.csv.zst`)."""

import csv
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import ClassVar, NamedTuple

import polars as pl

from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.archive import file_bytes
from marketpipe_assets.providers.formats.mapping import MAPPED, Mapped, check_daily, require_prices
from marketpipe_assets.providers.formats.prices import descaled
from marketpipe_assets.providers.formats.reader import DAY_COLUMNS, OPTIONAL, DatedFile, Settings, folder_name
from marketpipe_assets.providers.formats.text import Text, require_finite, rows_of


class Sheet(NamedTuple):
    """A file's column names and the rows below them."""

    header: tuple[str, ...]
    body: Text


class Csv(Mapped):
    """Comma separated text. Without a header, `columns` counts the columns from 0. Nothing is inferred: NA is text."""

    takes: ClassVar[Mapping[str, bool]] = {
        **Mapped.takes,
        "header": OPTIONAL,
        "skip_rows": OPTIONAL,
        "daily_path": OPTIONAL,
        "daily_columns": OPTIONAL,
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.daily_columns = dict(settings.daily_columns or {})
        if settings.daily_path is not None:
            check_daily(settings.daily_path, self.daily_columns)

    def days(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """The rows of `daily_path`, a file for each symbol, columns by `daily_columns`: `date` as 2024-01-02."""
        if self.settings.daily_path is None:
            return super().days(symbols, dates)
        paths = {
            symbol: self.settings.root / self.settings.daily_path.format(symbol=folder_name(symbol))
            for symbol in symbols
        }
        held = {symbol: path for symbol, path in paths.items() if path.exists()}
        frames = [self._days_of(symbol, path) for symbol, path in held.items()]
        return pl.concat([pl.DataFrame(schema=dict(DAY_COLUMNS)), *frames])

    def _days_of(self, symbol: str, path: Path) -> pl.DataFrame:
        sheet = self._sheet(DatedFile(path), self.daily_columns)
        types = {**DAY_COLUMNS, "date": pl.String()}
        rows = rows_of([sheet.body], _schema(sheet.header, self.daily_columns, types))
        names = [name for name in DAY_COLUMNS if name in rows.columns]
        require_finite(rows, [str(path)], names)
        day = pl.col("date").str.to_date("%Y-%m-%d", strict=False)
        absent = {name: dtype for name, dtype in DAY_COLUMNS.items() if name not in (*names, "symbol", "session_date")}
        days = descaled(rows, self.settings.scale or 1.0).with_columns(
            day.alias("session_date"),
            pl.lit(symbol).alias("symbol"),
            *(pl.lit(None, dtype).alias(name) for name, dtype in absent.items()),
        )
        if (wrong := days.filter(pl.col("session_date").is_null()).head(1)).height:
            raise BadFile(f"{path}: expected a date such as 2024-01-02, was {wrong['date'][0]!r}")
        return days.select(*DAY_COLUMNS)

    def rows(self, files: Sequence[DatedFile]) -> pl.DataFrame:
        sheets = [self._sheet(file, self.columns) for file in files]
        parts: list[pl.DataFrame] = []
        read = 0
        for header, group in groupby(sheets, key=lambda sheet: sheet.header):
            texts = [sheet.body for sheet in group]
            types = {**MAPPED, "ts": pl.Int64() if self.settings.unit else pl.String()}
            part = rows_of(texts, _schema(header, self.columns, types)).select("file", *self.columns)
            require_prices(part, [text.name for text in texts])
            parts.append(part.with_columns(pl.col("file") + read))
            read += len(texts)
        return pl.concat(parts)

    def _sheet(self, file: DatedFile, columns: Mapping[str, str]) -> Sheet:
        content = file_bytes(file.path, self.settings.limits).removeprefix(b"\xef\xbb\xbf")
        body = content.split(b"\n", self.settings.skip_rows)[-1] if self.settings.skip_rows else content
        first, _, below = body.partition(b"\n")
        try:
            cells = next(csv.reader([first.decode(errors="replace").strip("\r")]), [])
        except csv.Error as error:  # lines that end in \r alone are one line
            raise BadFile(
                f"{file.path}: expected rows that end with a line feed, was a first one with: {error}"
            ) from error
        header = tuple(cells) if self.settings.header else tuple(str(position) for position in range(len(cells)))
        wrong = [name for name in columns.values() if header.count(name) != 1]
        if wrong:
            expected = f"expected one column each named {', '.join(map(repr, wrong))}"
            raise BadFile(f"{file.path}: {expected}, its header is {', '.join(map(repr, header))}")
        above = content.count(b"\n") - body.count(b"\n")
        if not self.settings.header:
            return Sheet(header, Text(str(file.path), body, above))
        return Sheet(header, Text(str(file.path), below, above + 1))


def _schema(
    header: Sequence[str], columns: Mapping[str, str], types: Mapping[str, pl.DataType]
) -> dict[str, pl.DataType]:
    """A name and type for each column of a file; those that nobody asked for are text under the name of their place."""
    ours = {theirs: name for name, theirs in columns.items()}
    return {
        ours.get(theirs, f"column {position}"): types[ours[theirs]] if theirs in ours else pl.String()
        for position, theirs in enumerate(header)
    }
