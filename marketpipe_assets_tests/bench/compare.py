"""Whether two lakes hold the same: files, columns, metadata, row groups, encodings and rows."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq
from polars.testing import assert_frame_equal

from marketpipe_assets.lake.parquet import FETCHES

TOLERANCE = 1e-9  # sums of the same numbers in another order


def differences(expected: Path, found: Path) -> Sequence[str]:
    """One line for each file that one of the two lacks or that differs; empty: the same work was done."""
    ours, theirs = ({path.relative_to(lake) for path in lake.rglob("*.parquet")} for lake in (expected, found))
    lonely = [f"{path} is in one of the two only" for path in sorted(ours ^ theirs)]
    if not ours:
        return [f"{expected} holds no files"]
    differing = (difference(expected / path, found / path) for path in sorted(ours & theirs))
    return [*lonely, *(each for each in differing if each is not None)]


def difference(expected: Path, found: Path) -> str | None:
    """What differs between two files; None: nothing."""
    with pq.ParquetFile(expected) as ours, pq.ParquetFile(found) as theirs:
        schema, other = (_without_fetches(file.schema_arrow) for file in (ours, theirs))
        if not schema.equals(other, check_metadata=True):
            return f"{found}: expected the columns and metadata {schema}, was {other}"
        if (wanted := _layout(ours)) != (was := _layout(theirs)):
            return f"{found}: expected row groups of {wanted}, was {was}"
        frames = [pl.DataFrame(file.read()).with_columns(cs.categorical().cast(pl.String)) for file in (ours, theirs)]
    try:
        assert_frame_equal(*frames, check_exact=False, rel_tol=TOLERANCE, abs_tol=0)
    except AssertionError as error:
        return f"{found}: {error}"
    return None


def _without_fetches(schema: pa.Schema) -> pa.Schema:
    """When a raw file was fetched, and by which run, differs from run to run."""
    metadata = {name: text for name, text in (schema.metadata or {}).items() if name != FETCHES.encode()}
    return schema.with_metadata(metadata)


def _layout(file: pq.ParquetFile) -> Sequence[object]:
    groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
    return [
        (column.path_in_schema, group.num_rows, column.compression, column.encodings, column.is_stats_set)
        for group in groups
        for column in (group.column(number) for number in range(group.num_columns))
    ]
