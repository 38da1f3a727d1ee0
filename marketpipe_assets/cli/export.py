"""Frames as text and files: CSV that spreadsheets take as data, JSON, Parquet; written whole or not at all."""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marketpipe_assets.cli.display import print_frame
from marketpipe_assets.cli.outcome import RunTimeError, UserError

if TYPE_CHECKING:
    import polars as pl
    from polars._typing import PolarsDataType

FORMULA = r"^[=+\-@\t\r]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
ISO = "%Y-%m-%dT%H:%M:%S%.f%:z"
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}

Format = Literal["table", "csv", "json", "parquet"]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="How to print them.", show_default="as --output is named, else table"),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file to write instead of printing.")
]


def format_of(form: Format | None, output: Path | None) -> str:
    """The format that is asked for, by name or by the file's. Raises `UserError` where neither says one."""
    if form == "parquet" and output is None:
        raise UserError("expected --output with --format parquet: it is not text")
    if form is not None or output is None:
        return form or "table"
    if output.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output: expected a name that ends in {', '.join(SUFFIXES)}, or --format, was {output}")
    return SUFFIXES[output.suffix.lower()]


def csv(frame: "pl.DataFrame") -> bytes:
    """CSV with a header. Text that a spreadsheet would run gets a ' before it; lists are joined by spaces.

    Raises `UserError` for a column that is neither plain nor a list of what is.
    """
    import polars as pl

    for name, dtype in frame.schema.items():
        held = dtype.inner if isinstance(dtype, pl.List) else dtype
        if held.is_nested() or held == pl.Binary:
            raise _unwritable("CSV", name, dtype)

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

    Decimals, which DuckDB makes of sums, are numbers: integers where they have no places, else floats. Raises
    `UserError` for a column with bytes, which JSON does not know.
    """
    import polars as pl

    for name, dtype in frame.schema.items():
        if any(each == pl.Binary for each in _plain_types(dtype)):
            raise _unwritable("JSON", name, dtype)
    decimals = {name: dtype for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal)}
    plain = with_iso_times(frame).with_columns(
        pl.col(name).cast(pl.Float64 if dtype.scale else pl.Int128) for name, dtype in decimals.items()
    )
    return f'{{"count": {frame.height}, "results": {plain.write_json()}}}\n'.encode()


def parquet(frame: "pl.DataFrame") -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def text_table(frame: "pl.DataFrame") -> bytes:
    text = StringIO()
    print_frame(frame, text)
    return text.getvalue().encode()


FORMATS: Mapping[str, "Callable[[pl.DataFrame], bytes]"] = {
    "table": text_table,
    "csv": csv,
    "json": json,
    "parquet": parquet,
}


def _plain_types(dtype: "PolarsDataType") -> "Iterator[PolarsDataType]":
    """The types within a nested one, or itself."""
    import polars as pl

    match dtype:
        case pl.List(inner=inner) | pl.Array(inner=inner):
            parts = [inner]
        case pl.Struct(fields=fields):
            parts = [field.dtype for field in fields]
        case pl.Map(key=key, value=value):
            parts = [key, value]
        case _:
            yield dtype
            return
    for part in parts:
        yield from _plain_types(part)


def _unwritable(form: str, name: str, dtype: "PolarsDataType") -> UserError:
    return UserError(f"expected columns that {form} can hold, was {name} of {dtype}: cast it to text, or take it apart")


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
