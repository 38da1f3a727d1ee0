"""Parquet files described by the user."""

from collections.abc import Sequence

import polars as pl

from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.mapping import MAPPED, Mapped
from marketpipe_assets.providers.formats.reader import DatedFile

_AS_IN_FILE = ("ts",)


class Parquet(Mapped):
    """Parquet with named columns; times are date-times, integers of `unit`, or text."""

    def rows(self, files: Sequence[DatedFile]) -> pl.DataFrame:
        parts = [self._part(position, file) for position, file in enumerate(files)]
        other = next((i for i, part in enumerate(parts) if part.schema != parts[0].schema), None)
        if other is not None:
            raise BadFile(f"{files[other].path}: expected times as in {files[0].path}, was {parts[other].schema}")
        return pl.concat(parts)

    def _part(self, position: int, file: DatedFile) -> pl.DataFrame:
        if not file.path.stat().st_size:
            raise BadFile(f"{file.path}: expected rows, the file is empty")
        try:
            scan = pl.scan_parquet(file.path, hive_partitioning=False)
            self._check_columns(file, scan)
            mapped = scan.select(
                pl.lit(position, pl.UInt32).alias("file"), *(self._column(name) for name in self.columns)
            )
            part = mapped.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BadFile(
                f"{file.path}: expected a whole Parquet file with numbers as prices; reading it ended with: {error}"
            ) from error
        if not part.height:
            raise BadFile(f"{file.path}: expected rows, it has none")
        return part

    def _check_columns(self, file: DatedFile, scan: pl.LazyFrame) -> None:
        names = scan.collect_schema()
        missing = [name for name in self.columns.values() if name not in names]
        if missing:
            raise BadFile(f"{file.path}: expected columns {', '.join(missing)}, it has {', '.join(names)}")
        text = [
            theirs
            for ours, theirs in self.columns.items()
            if MAPPED[ours].is_numeric() and not names[theirs].is_numeric()
        ]
        if text:
            raise BadFile(
                f"{file.path}: expected numbers, was {', '.join(f'{name} as {names[name]}' for name in text)}"
            )

    def _column(self, name: str) -> pl.Expr:
        column = pl.col(self.columns[name]).alias(name)
        return column if name in _AS_IN_FILE else column.cast(MAPPED[name])
