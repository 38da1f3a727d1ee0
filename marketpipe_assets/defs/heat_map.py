"""Coverage of symbols × sessions as a picture. Which minutes are missing is said by the ledger."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import date
from io import BytesIO

import numpy as np
import numpy.typing as npt
import polars as pl

MOST_SYMBOLS = 60
MOST_SESSIONS = 130
NONE = 0.0
WIDTH, TALL, TOP, LABEL = 1040, 16, 28, 12  # pixels
STOPS = (0, 0.9, 0.99, 1)  # most of what differs lies near the whole
COLOURS = ((165, 0, 38), (244, 109, 67), (254, 224, 139), (26, 152, 80))
GREY = (217, 217, 217)

Shares = npt.NDArray[np.float64]
"""One row per symbol, one column per session; NaN where nothing was fetched."""


def heat_map(days: pl.DataFrame, symbols: Sequence[str], dates: Sequence[date]) -> str:
    """Markdown of a picture: one row per symbol, one column per session, the share of valid minutes as colour.

    `days` has `symbol`, `session_date`, `expected`, `valid`; what has no row is grey: it was never fetched. Of many
    symbols the least covered are shown, of many sessions the newest.
    """
    shown = list(dates)[-MOST_SESSIONS:]
    rows = _least_covered(days.filter(pl.col("session_date").is_in(shown)), symbols)
    shares = np.full((len(rows), len(shown)), np.nan)
    row_of, column_of = ({value: number for number, value in enumerate(values)} for values in (rows, shown))
    share = pl.col("valid") / pl.max_horizontal("expected", 1)
    for symbol, day, value in days.select("symbol", "session_date", share).iter_rows():
        if symbol in row_of and day in column_of:
            shares[row_of[symbol], column_of[day]] = value
    left_out = f"; the {len(rows)} least covered of {len(symbols):,} symbols" if len(rows) < len(symbols) else ""
    title = f"Share of regular minutes with a valid bar, red to green; grey was never fetched{left_out}"
    return f"![coverage](data:image/png;base64,{b64encode(_drawn(shares, rows, shown, title)).decode()})"


def _least_covered(days: pl.DataFrame, symbols: Sequence[str]) -> list[str]:
    if len(symbols) <= MOST_SYMBOLS:
        return list(symbols)
    share = pl.col("valid").sum() / pl.max_horizontal(pl.col("expected").sum(), 1)
    covered = dict(days.group_by("symbol").agg(share.alias("share")).iter_rows())
    return sorted(sorted(symbols, key=lambda symbol: (covered.get(symbol, NONE), symbol))[:MOST_SYMBOLS])


def _drawn(shares: Shares, rows: Sequence[str], dates: Sequence[date], title: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(12), ImageFont.load_default(10)
    left = 12 + max((int(font.getlength(symbol)) for symbol in rows), default=0)
    wide = min(max(WIDTH // max(len(dates), 1), 4), 40)
    low = TOP + TALL * len(rows)
    picture = Image.new("RGB", (max(left + wide * len(dates) + 12, int(font.getlength(title)) + 24), low + 92), "white")
    cells = Image.fromarray(_colours(shares)).resize((wide * len(dates), TALL * len(rows)), Image.Resampling.NEAREST)
    picture.paste(cells, (left, TOP))
    draw = ImageDraw.Draw(picture)
    draw.text((12, 6), title, "black", font)
    for number, symbol in enumerate(rows):
        draw.text((left - 6, TOP + TALL * number + TALL // 2), symbol, "black", font, anchor="rm")
    for number in range(0, len(dates), -(-LABEL // wide)):
        draw.line([(left + wide * number, low), (left + wide * number, low + 4)], "black")
        label = Image.new("RGB", (int(small.getlength(f"{dates[number]}")) + 1, LABEL), "white")
        ImageDraw.Draw(label).text((0, 0), f"{dates[number]}", "black", small)
        picture.paste(label.rotate(90, expand=True), (left + wide * number, low + 6))
    written = BytesIO()
    picture.save(written, "png")
    return written.getvalue()


def _colours(shares: Shares) -> npt.NDArray[np.uint8]:
    """Red for no valid minute, over yellow, to green for all of them; grey for what was never fetched."""
    there = np.nan_to_num(shares)
    colours = [np.interp(there, STOPS, [colour[channel] for colour in COLOURS]) for channel in range(3)]
    unknown = np.isnan(shares)[..., None]
    return np.where(unknown, GREY, np.stack(colours, axis=-1)).astype(np.uint8)
