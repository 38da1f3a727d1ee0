"""Where a bar's file lies: table, symbol and period to a path below the lake."""

import re
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from marketpipe_assets.bars.schema import MINUTE_TABLES

PERIOD_FILE = re.compile(r"\d{4}(-(0[1-9]|1[0-2]))?\.parquet", re.ASCII)
SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:^=+-]{0,31}")


def check_symbol(symbol: str) -> str:
    """The symbol itself, if it may name a folder and a partition key.

    Raises `ValueError` for anything else: an empty one, one that begins with a dot, one that holds `|`, `..`, a
    space, a control or a non-ASCII character, or one longer than 32 characters.
    """
    if SYMBOL.fullmatch(symbol) is None or ".." in symbol:
        raise ValueError(
            f"expected a symbol of 1 to 32 letters, digits and . _ / : ^ = + - that begins with a letter or digit, "
            f"was {symbol!r}"
        )
    return symbol


def symbol_folder(symbol: str) -> str:
    """`BTC/USD` → `symbol=BTC%2FUSD`: one folder name, read back by polars, DuckDB and pyarrow."""
    return f"symbol={quote(check_symbol(symbol), safe='')}"


def folder_symbol(folder: str) -> str:
    """The symbol of a `symbol=…` folder."""
    return unquote(folder.removeprefix("symbol="))


def period_of(table: str, day: date) -> str:
    """The file a session date belongs to: its month for minute bars, its year for longer ones."""
    return f"{day.year:04}-{day.month:02}" if table in MINUTE_TABLES else f"{day.year:04}"


class BarFile(NamedTuple):
    """The one file that holds the bars of a symbol over a period."""

    market: str
    table: str
    symbol: str
    period: str

    def below(self, lake: Path) -> Path:
        return lake / f"{self.market}/{self.table}/{symbol_folder(self.symbol)}/{self.period}.parquet"


def bar_file_of(lake: Path, path: Path) -> BarFile:
    """The reverse of `BarFile.below`. Raises `ValueError` for a path that no bars are kept at."""
    parts = path.relative_to(lake).parts
    if len(parts) != 4 or not parts[2].startswith("symbol=") or not PERIOD_FILE.fullmatch(parts[3]):
        raise ValueError(f"expected market/table/symbol=…/period.parquet, was {'/'.join(parts)}")
    file = BarFile(parts[0], parts[1], folder_symbol(parts[2]), parts[3].removesuffix(".parquet"))
    if file.below(lake) != path:
        raise ValueError(f"expected {file.below(lake)}, was {path}")
    return file


def locks_of(lake: Path) -> Path:
    """Where the lake's locks lie: beside it, never in it, and the same by whichever link it is reached."""
    placed = lake.resolve()
    return placed.with_name(f".{placed.name}.locks")
