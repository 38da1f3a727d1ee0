"""Coverage of symbols × sessions as a picture. Which minutes are missing is said by the ledger."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import date
from io import BytesIO

import numpy as np
import polars as pl

MOST_SYMBOLS = 60
MOST_SESSIONS = 130
LABELS = 26
FULL, NONE = 1.0, 0.0


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
    title = f"Share of regular minutes with a valid bar{left_out}"
    return f"![coverage](data:image/png;base64,{b64encode(_drawn(shares, rows, shown, title)).decode()})"


def _least_covered(days: pl.DataFrame, symbols: Sequence[str]) -> list[str]:
    if len(symbols) <= MOST_SYMBOLS:
        return list(symbols)
    share = pl.col("valid").sum() / pl.max_horizontal(pl.col("expected").sum(), 1)
    covered = dict(days.group_by("symbol").agg(share.alias("share")).iter_rows())
    return sorted(sorted(symbols, key=lambda symbol: (covered.get(symbol, NONE), symbol))[:MOST_SYMBOLS])


def _drawn(
    shares: np.ndarray[tuple[int, int], np.dtype[np.float64]], rows: list[str], dates: list[date], title: str
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.3 + 0.19 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#d9d9d9")
    image = axes.imshow(shares, aspect="auto", cmap="RdYlGn", vmin=NONE, vmax=FULL, interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    step = max(1, -(-len(dates) // LABELS))
    labels = [f"{day}" for day in dates[::step]]
    axes.set_xticks(range(0, len(dates), step), labels, fontsize=6, rotation=90)
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, fraction=0.02, format="{x:.0%}").ax.tick_params(labelsize=6)
    picture = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png")
    return picture.getvalue()
