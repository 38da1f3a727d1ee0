"""Local times of files as UTC, also those of the hour that comes twice when the clock is put back."""

from collections.abc import Sequence

import polars as pl

from marketpipe_assets.providers.base import BadFile

_MINUTE = pl.duration(minutes=1)


def utc_times(rows: pl.DataFrame, timezone: str, names: Sequence[str]) -> pl.Series:
    """UTC of the column `local`, in the order of the rows; null where it is null or does not exist in the zone.

    Columns used: `file`, `local` (without a zone), and `series`: rows of one are those of one instrument. Where its
    times go back once within the hour that comes twice, those before are of the earlier hour and the others of the
    later one. Where they do not, they are of the hour that follows the minute before, or leads to the minute after.
    Raises `BadFile` where neither or both are so.
    """
    local = rows["local"]
    known = local.dt.replace_time_zone(timezone, ambiguous="null", non_existent="null")
    if known.null_count() == local.null_count():
        return known.dt.convert_time_zone("UTC")
    earlier, later = (
        local.dt.replace_time_zone(timezone, ambiguous=hour, non_existent="null") for hour in ("earliest", "latest")
    )
    hours = rows.select("file", "series", "local").with_columns(known=known, earlier=earlier, later=later)
    times = _told_apart(hours.with_row_index().sort("series", maintain_order=True)).sort("index")
    unclear = times.filter(pl.col("twice") & pl.col("utc").is_null()).head(1)
    if unclear.height:
        file, twice = unclear.select("file", "local").row(0)
        raise BadFile(
            f"{names[file]}: expected UTC, times with an offset, or bars around that tell which hour is meant, "
            f"was {twice:%Y-%m-%d %H:%M}, which comes twice in {timezone}"
        )
    return times["utc"].dt.convert_time_zone("UTC")


def _told_apart(times: pl.DataFrame) -> pl.DataFrame:
    known, earlier, later = pl.col("known"), pl.col("earlier"), pl.col("later")
    follows = (earlier - known.shift().over("series") == _MINUTE).fill_null(False)
    leads = (known.shift(-1).over("series") - later == _MINUTE).fill_null(False)
    went_back = (pl.col("local") < pl.col("local").shift()).fill_null(False).cast(pl.UInt32)
    first, last = pl.col("follows").first().over("run"), pl.col("leads").last().over("run")
    back, backs = pl.col("back"), pl.col("back").max().over("run")
    return (
        times.with_columns(follows.alias("follows"), leads.alias("leads"), twice=(earlier != later).fill_null(False))
        .with_columns(run=pl.struct("series", "twice", pl.col("local").dt.date()).rle_id())
        .with_columns(back=went_back.cum_sum().over("run"))
        .with_columns(
            utc=pl.when(~pl.col("twice"))
            .then(known)
            .when((backs == 1) & (back == 0) | (backs == 0) & first & ~last)
            .then(earlier)
            .when((backs == 1) & (back == 1) | (backs == 0) & last & ~first)
            .then(later)
        )
    )
