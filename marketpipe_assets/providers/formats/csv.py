"""Delimited text described by the user, plain or compressed (`.csv`, `.csv.gz`, `.csv.zst`)."""

import csv
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import ClassVar, NamedTuple

import polars as pl

from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.archive import file_bytes
from marketpipe_assets.providers.formats.mapping import MAPPED, Mapped, require_prices
from marketpipe_assets.providers.formats.reader import OPTIONAL, DatedFile
from marketpipe_assets.providers.formats.text import Text, rows_of


class Sheet(NamedTuple):
    """A file's column names and the rows below them."""

    header: tuple[str, ...]
    body: Text


class Csv(Mapped):
    """Comma separated text. Without a header, `columns` counts the columns from 0. Nothing is inferred: NA is text."""

    takes: ClassVar[Mapping[str, bool]] = {**Mapped.takes, "header": OPTIONAL, "skip_rows": OPTIONAL}

    def rows(self, files: Sequence[DatedFile]) -> pl.DataFrame:
        sheets = [self._sheet(file) for file in files]
        parts: list[pl.DataFrame] = []
        read = 0
        for header, group in groupby(sheets, key=lambda sheet: sheet.header):
            texts = [sheet.body for sheet in group]
            part = rows_of(texts, self._schema(header)).select("file", *self.columns)
            require_prices(part, [text.name for text in texts])
            parts.append(part.with_columns(pl.col("file") + read))
            read += len(texts)
        return pl.concat(parts)

    def _sheet(self, file: DatedFile) -> Sheet:
        content = file_bytes(file.path, self.settings.limits).removeprefix(b"\xef\xbb\xbf")
        body = content.split(b"\n", self.settings.skip_rows)[-1] if self.settings.skip_rows else content
        first, _, below = body.partition(b"\n")
        cells = next(csv.reader([first.decode(errors="replace").strip("\r")]), [])
        header = tuple(cells) if self.settings.header else tuple(str(position) for position in range(len(cells)))
        wrong = [name for name in self.columns.values() if header.count(name) != 1]
        if wrong:
            expected = f"expected one column each named {', '.join(wrong)}"
            raise BadFile(f"{file.path}: {expected}, its header is {', '.join(header)}")
        return Sheet(header, Text(str(file.path), below if self.settings.header else body))

    def _schema(self, header: Sequence[str]) -> dict[str, pl.DataType]:
        ours = {theirs: name for name, theirs in self.columns.items()}
        types = {**MAPPED, "ts": pl.Int64() if self.settings.unit else pl.String()}
        return {
            ours.get(theirs, f"column {position}"): types[ours[theirs]] if theirs in ours else pl.String()
            for position, theirs in enumerate(header)
        }
