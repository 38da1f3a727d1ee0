"""Bars from local vendor files: a drop folder is a provider like any other. What a file looks like is in formats/."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import ClassVar, Self
from zoneinfo import available_timezones

import polars as pl
from pydantic import Field, model_validator

from marketpipe_assets.bars.schema import VENDOR_COLUMNS, conform
from marketpipe_assets.providers.base import BadRequest, BarProvider, Capabilities, ProviderError
from marketpipe_assets.providers.days import whole_days
from marketpipe_assets.providers.formats import FORMATS
from marketpipe_assets.providers.formats.archive import Limits
from marketpipe_assets.providers.formats.reader import Reader, Settings

_OF_A_FORMAT = [field for field in fields(Settings) if field.name not in ("root", "limits")]


class FilesProvider(BarProvider):
    """Minute bars in files below `root`, of one format.

    Only files that can overlap the range are opened. A file that is absent has no bars; one that is there and cannot
    be trusted raises `BadFile`, and nothing is answered. Settings that the format does not know are refused.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        asset_classes=("equity", "crypto", "future", "index", "fx"),
        history="what the files hold",
        times="as the format says; a CSV or Parquet mapping must say start or end",
        daily_bars=True,
    )

    name: str = Field(default="files", description="Name of the provider, kept with each bar")
    format: str = Field(description=f"Format of the files: {', '.join(FORMATS)}")
    root: str = Field(description="Folder of the files")
    feed: str | None = Field(default=None, description="Feed kept with each bar; the format's name where not given")
    symbols: dict[str, str] = Field(default={}, description="Our symbols → the vendor's, where they differ")
    timezone: str | None = Field(default=None, description="Time zone of local times and of dates in paths")
    scale: float | None = Field(default=None, gt=0, description="Prices are divided by this, e.g. 10000")
    security: str | None = Field(default=None, description="lean: equity, crypto, future, forex …")
    market: str | None = Field(default=None, description="lean: usa, coinbase, cme, fxcm …")
    path: str | None = Field(default=None, description="csv, parquet: below root, e.g. {symbol}/{date:%Y-%m-%d}.csv")
    columns: dict[str, str] | None = Field(default=None, description="csv, parquet: our columns → the file's")
    unit: str | None = Field(default=None, description="csv, parquet: s, ms, us or ns of integer times")
    label: str | None = Field(default=None, description="csv, parquet: start or end, the instant a bar's time is")
    header: bool = Field(default=True, description="csv: the first row has the names; else columns count from 0")
    skip_rows: int = Field(default=0, ge=0, description="csv: rows above the header or the first bar to leave out")
    time_format: str | None = Field(default=None, description="csv, parquet: strftime form of times, if not ISO 8601")
    daily_path: str | None = Field(default=None, description="csv: files of daily bars, e.g. daily/{symbol}.csv")
    daily_columns: dict[str, str] | None = Field(default=None, description="csv: our columns → those of daily files")
    max_members: int = Field(default=Limits().members, gt=0, description="Most members of one archive")
    max_expanded_bytes: int = Field(default=Limits().expanded_bytes, gt=0, description="Most bytes one file may hold")
    max_ratio: int = Field(default=Limits().ratio, gt=0, description="Most expanded bytes per compressed byte")

    @property
    def feed_asked(self) -> str:
        return self.feed or self.format

    @model_validator(mode="after")
    def _settings_fit_the_format(self) -> Self:
        if self.format not in FORMATS:
            raise ValueError(f"format: expected one of {', '.join(FORMATS)}, was {self.format!r}")
        takes = FORMATS[self.format].takes
        given = {field.name for field in _OF_A_FORMAT if getattr(self, field.name) != field.default}
        missing = [name for name, required in takes.items() if required and name not in given]
        unknown = sorted(given - takes.keys())
        if missing or unknown:
            raise ValueError(
                f"format {self.format} takes {', '.join(takes) or 'no settings of its own'}; "
                f"missing: {', '.join(missing) or 'none'}; not of this format: {', '.join(unknown) or 'none'}"
            )
        if self.timezone is not None and self.timezone not in available_timezones():
            raise ValueError(f"timezone: expected a name such as America/New_York, was {self.timezone!r}")
        self._reader()
        return self

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        ours = self._vendor_names(symbols)
        read = self._reader().bars(list(ours), start, end)
        inside = self._named(read.filter(pl.col("ts") >= start, pl.col("ts") < end), ours)
        order = pl.col("symbol").cast(pl.Enum(list(ours.values()))).to_physical()
        return conform(inside.sort(order, maintain_order=True), VENDOR_COLUMNS)

    def daily_bars(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:
        """As `BarProvider` says: files of days beside those of minutes, which lean has and csv is told of."""
        ours = self._vendor_names(symbols)
        return whole_days(self._named(self._reader().days(list(ours), dates), ours), symbols, dates)

    def _vendor_names(self, symbols: Sequence[str]) -> Mapping[str, str]:
        """The vendor's symbols → ours, in the order asked."""
        if not Path(self.root).is_dir():
            raise ProviderError(f"{self.name}: expected a folder at root, there is none: {self.root}")
        theirs = {symbol: self.symbols.get(symbol, symbol) for symbol in symbols}
        ours = {vendor: symbol for symbol, vendor in theirs.items()}
        if len(ours) < len(theirs):
            raise BadRequest(f"{self.name}: expected one symbol for each of the vendor's, was {theirs}")
        return ours

    def _named(self, read: pl.DataFrame, ours: Mapping[str, str]) -> pl.DataFrame:
        return read.with_columns(
            pl.col("symbol").replace_strict(ours, return_dtype=pl.String),
            provider=pl.lit(self.name),
            feed=pl.lit(self.feed or self.format),
        )

    def _reader(self) -> Reader:
        own = {field.name: getattr(self, field.name) for field in _OF_A_FORMAT}
        limits = Limits(self.max_members, self.max_expanded_bytes, self.max_ratio)
        return FORMATS[self.format](Settings(root=Path(self.root), limits=limits, **own))
