"""Formats of local vendor files. A new format is one module here and one line of the table."""

from collections.abc import Mapping

from marketpipe_assets.providers.formats.binance import Binance
from marketpipe_assets.providers.formats.csv import Csv
from marketpipe_assets.providers.formats.dbn import Dbn
from marketpipe_assets.providers.formats.lean import Lean
from marketpipe_assets.providers.formats.massive import Massive
from marketpipe_assets.providers.formats.parquet import Parquet
from marketpipe_assets.providers.formats.reader import Reader

FORMATS: Mapping[str, type[Reader]] = {
    "lean": Lean,
    "dbn": Dbn,
    "csv": Csv,
    "parquet": Parquet,
    "binance": Binance,
    "massive": Massive,
}
"""Name of a format → its reader."""
