"""Frames as text and files: CSV that spreadsheets take as data, JSON, Parquet; written whole or not at all."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from marketpipe_assets.cli.outcome import RunTimeError, UserError

if TYPE_CHECKING:
    import polars as pl

FORMULA = r"^[=+\-@\t\r]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
ISO = "%Y-%m-%dT%H:%M:%S%.f%:z"


def csv(frame: "pl.DataFrame") -> bytes:
    """CSV with a header. Text that a spreadsheet would run gets a ' before it; lists are joined by spaces."""
    import polars as pl

    def inert(name: str) -> pl.Expr:
        text = pl.col(name).cast(pl.String)
        runs = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
        return pl.when(runs).then("'" + text).otherwise(text).alias(name)

    words = [
        pl.col(name).cast(pl.List(pl.String)).list.join(" ")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.List)
    ]
    plain = with_iso_times(frame).with_columns(words)
    texts = [name for name, dtype in plain.schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum)]
    return plain.with_columns(map(inert, texts)).write_csv().encode()


def json(frame: "pl.DataFrame") -> bytes:
    """`{"count": n, "results": [...]}`; times are ISO 8601, what is not a finite number is null.

    Decimals, which DuckDB makes of sums, are numbers: integers where they have no places, else floats.
    """
    import polars as pl

    decimals = {name: dtype for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal)}
    plain = with_iso_times(frame).with_columns(
        pl.col(name).cast(pl.Float64 if dtype.scale else pl.Int128) for name, dtype in decimals.items()
    )
    return f'{{"count": {frame.height}, "results": {plain.write_json()}}}\n'.encode()


def parquet(frame: "pl.DataFrame") -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


FORMATS: Mapping[str, "Callable[[pl.DataFrame], bytes]"] = {"csv": csv, "json": json, "parquet": parquet}


def with_iso_times(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The frame with its aware times as text of ISO 8601."""
    import polars as pl

    aware = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime) and dtype.time_zone]
    return frame.with_columns(pl.col(name).dt.strftime(ISO) for name in aware)


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, so that no reader sees half of it."""
    if not path.parent.is_dir() or path.is_dir():
        raise UserError(f"--output: expected a file in a folder that exists, was {path}")
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunTimeError(f"{path} was not written: {error.strerror}") from error
