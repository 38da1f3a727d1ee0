"""Massive flat files: the minutes of the whole US stock market, one gzipped CSV per New York date."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from marketpipe_assets.bars.schema import PRICES
from marketpipe_assets.providers.base import BadFile
from marketpipe_assets.providers.formats.archive import file_bytes
from marketpipe_assets.providers.formats.minutes import check_cadence, check_dates, check_unit
from marketpipe_assets.providers.formats.reader import READ_COLUMNS, DatedFile, Reader, local_dates
from marketpipe_assets.providers.formats.text import require_numbers

_ZONE = "America/New_York"

_COLUMNS: Mapping[str, pl.DataType] = {
    "ticker": pl.String(),
    "volume": pl.Float64(),
    "open": pl.Float64(),
    "close": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "window_start": pl.Int64(),
    "transactions": pl.Int64(),
}


class Massive(Reader):
    """`<root>/us_stocks_sip/minute_aggs_v1/YYYY/MM/YYYY-MM-DD.csv.gz`, columns by name, times in nanoseconds.

    Tickers such as NA, NAN and TRUE are text. Volume may be fractional.
    """

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        folder = self.settings.root / "us_stocks_sip" / "minute_aggs_v1"
        days = [f"{day:%Y-%m-%d}" for day in local_dates(start, end, _ZONE)]
        planned = [DatedFile(folder / day[:4] / day[5:7] / f"{day}.csv.gz", "%Y-%m-%d", day) for day in days]
        files = [file for file in planned if file.path.exists()]
        if not files:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        names = [str(file.path) for file in files]
        rows = pl.concat(self._rows(position, file, symbols) for position, file in enumerate(files))
        require_numbers(rows, names, (*PRICES, "volume", "window_start"))
        check_unit(rows, names, "window_start", "ns")
        bars = rows.with_columns(ts=(pl.col("window_start") // 1000).cast(pl.Datetime("us", "UTC")))
        check_dates(bars.with_columns(label="ts"), files, _ZONE)
        check_cadence(bars, names)
        return bars.with_columns(vwap=pl.lit(None, pl.Float64)).select(*READ_COLUMNS)

    def _rows(self, position: int, file: DatedFile, symbols: Sequence[str]) -> pl.DataFrame:
        content = file_bytes(file.path, self.settings.limits)
        header, _, body = content.partition(b"\n")
        missing = [name for name in _COLUMNS if name not in header.decode(errors="replace").strip("\r").split(",")]
        if missing:
            raise BadFile(f"{file.path}: expected columns {', '.join(_COLUMNS)}; missing: {', '.join(missing)}")
        if not body.strip():
            raise BadFile(f"{file.path}: expected rows below the header, there are none")
        scan = pl.scan_csv(content, infer_schema=False, schema_overrides=dict(_COLUMNS))
        asked = scan.filter(pl.col("ticker").is_in(list(symbols))).select(
            pl.lit(position, pl.UInt32).alias("file"),
            pl.col("ticker").alias("symbol"),
            pl.col("transactions").alias("trade_count"),
            "window_start",
            "volume",
            *PRICES,
        )
        try:
            return asked.collect()
        except pl.exceptions.PolarsError as error:
            raise BadFile(
                f"{file.path}: expected numbers in each column but ticker; reading it ended with: {error}"
            ) from error
