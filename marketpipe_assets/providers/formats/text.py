"""Read many small delimited texts in one call, and say which one is at fault when that fails."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from marketpipe_assets.providers.base import BadFile


class Text(NamedTuple):
    """A delimited text without a header, the name messages give it, and how many lines of its file stand above."""

    name: str
    content: bytes
    above: int = 0


def rows_of(texts: Sequence[Text], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows of all texts in order, with these columns and `file`, the position of the text a row is from.

    Nothing is inferred: text such as NA or TRUE stays text, and an empty cell is null. Raises `BadFile` for an empty
    text, a row with more or fewer columns, and a cell that is not of its column's type.
    """
    # One parse of the joined texts costs a ninth of one parse each (0.08 against 0.71 ms per 390 rows).
    bodies = [_body(text) for text in texts]
    counts = [body.count(b"\n") for body in bodies]
    joined = b"".join(bodies)
    rows = _read(joined, schema)
    if rows is None or rows.height != sum(counts) or joined.count(b",") != rows.height * (len(schema) - 1):
        parts = [_rows_of_one(text, body, schema) for text, body in zip(texts, bodies, strict=True)]
        counts = [part.height for part in parts]
        rows = pl.concat(parts)
    return rows.with_columns(pl.Series("file", np.repeat(np.arange(len(counts), dtype=np.uint32), counts)))


def require_numbers(rows: pl.DataFrame, names: Sequence[str], columns: Sequence[str]) -> None:
    """Raise `BadFile` where one of these columns is empty, infinite or not a number."""
    require_finite(rows, names, columns)
    _refuse(rows, names, pl.any_horizontal(pl.col(columns).is_null()), f"a number in each of {', '.join(columns)}")


def require_finite(rows: pl.DataFrame, names: Sequence[str], columns: Sequence[str]) -> None:
    """Raise `BadFile` where one of these columns is infinite or not a number; null is let through."""
    floats = [name for name in columns if rows.schema[name].is_float()]
    if floats:
        _refuse(rows, names, pl.any_horizontal(~pl.col(floats).is_finite()), "finite numbers")


def _refuse(rows: pl.DataFrame, names: Sequence[str], wrong: pl.Expr, expected: str) -> None:
    found = rows.filter(wrong).head(1)
    if found.height:
        row = found.row(0, named=True)
        name = names[row.pop("file")]
        raise BadFile(f"{name}: expected {expected}, was {', '.join(f'{key}={value}' for key, value in row.items())}")


def _body(text: Text) -> bytes:
    body = text.content.strip(b"\r\n \t")
    if not body:
        raise BadFile(f"{text.name}: expected rows, it is empty")
    return body + b"\n"


def _read(body: bytes, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    try:
        return pl.read_csv(body, has_header=False, schema=dict(schema))
    except pl.exceptions.PolarsError:
        return None


def _rows_of_one(text: Text, body: bytes, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    rows = _read(body, schema)
    ragged = b'"' not in body and body.count(b",") != body.count(b"\n") * (len(schema) - 1)
    if rows is None or ragged:
        first = text.above + 1 + text.content[: text.content.find(body[:1])].count(b"\n")
        raise BadFile(f"{text.name}: {_fault(body, schema, first)}")
    return rows


def _fault(body: bytes, schema: Mapping[str, pl.DataType], first: int) -> str:
    for number, line in enumerate(body.decode(errors="replace").splitlines(), first):
        cells = line.split(",")
        if len(cells) != len(schema):
            return f"expected {len(schema)} columns, line {number} has {len(cells)}: {line[:80]!r}"
        for cell, (name, dtype) in zip(cells, schema.items(), strict=True):
            if dtype.is_numeric() and not _is_number(cell, dtype):
                return f"expected {_KIND[dtype.is_integer()]} as {name}, line {number} has {cell[:40]!r}"
    return "expected comma separated rows, it could not be read as such"


def _is_number(cell: str, dtype: pl.DataType) -> bool:
    try:
        int(cell or 0) if dtype.is_integer() else float(cell or 0)
    except ValueError:
        return False
    return True


_KIND = {True: "a whole number", False: "a number"}
