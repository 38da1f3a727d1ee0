"""Draw the dashboard from what a Prometheus answers: `python -m marketpipe_assets_tests.preview URL FILE`.

Grafana itself is not needed; the picture has its panels, titles and queries, and the numbers are real.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DASHBOARD = Path(__file__).parents[1] / "grafana" / "marketpipe_dashboard.json"
MINUTES = 20
MOST_NAMED = 12
"""Series of a panel above which the legend would hide them."""

STEP = 10
COLUMNS, ROW_HEIGHT = 24, 0.26
INK, FAINT, PAPER, PANEL = "#22252b", "#8e8e93", "#f4f5f5", "#ffffff"
COLORS = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44"}


class Series(NamedTuple):
    """Values at minutes before now."""

    name: str
    times: Sequence[float]
    values: Sequence[float]


def answered(server: str, query: str, legend: str) -> list[Series]:
    """The series of a query over the last minutes, named as the panel's legend says."""
    now = time.time()
    asked = {"query": query.replace("$market", ".*"), "start": now - MINUTES * 60, "end": now, "step": STEP}
    with urllib.request.urlopen(f"{server}/api/v1/query_range?{urlencode(asked)}", timeout=60) as answer:
        found = json.load(answer)["data"]["result"]
    return [
        Series(
            _named(legend, each["metric"]),
            [(float(at) - now) / 60 for at, _ in each["values"]],
            [float(value) for _, value in each["values"]],
        )
        for each in found
    ]


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for name, text in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", text)
    return legend.strip()


def shown(value: float, unit: str) -> str:
    """A number as Grafana would write it in this unit."""
    if unit == "percentunit":
        return f"{value:.2%}"
    if unit == "s":
        return f"{value:.1f} s" if value < 600 else f"{value / 3600:.1f} h"
    for name, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {name}{'B' if unit == 'bytes' else ''}"
    return f"{value:.4g}"


def picture(server: str, file: Path) -> None:
    """Every panel in its place."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams.update({"font.size": 7, "font.family": "DejaVu Sans", "text.color": INK})
    figure = Figure(figsize=(16, rows * ROW_HEIGHT), facecolor=PAPER, dpi=90)
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        bottom, height = 1 - (place["y"] + place["h"]) / rows, place["h"] / rows
        if panel["type"] == "row":
            figure.text(0.006, bottom + height * 0.3, panel["title"], fontsize=9, fontweight="bold")
            continue
        inset = (left + 0.026, bottom + 0.016, width - 0.032, height - 0.03)
        axes = figure.add_axes(inset, facecolor=PANEL)
        axes.set_title(panel["title"], loc="left", fontsize=7.5, pad=3)
        series = [
            each for target in panel["targets"] for each in answered(server, target["expr"], target["legendFormat"])
        ]
        DRAWN[panel["type"]](axes, panel, series)
    figure.savefig(file)


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=FAINT)


def _stat(axes: Axes, panel: Any, series: Sequence[Series]) -> None:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    _plain(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, max(len(series), 1))
    axes.set_ylim(0, 1)
    for number, each in enumerate(series):
        value = each.values[-1]
        color = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
        axes.axvspan(number + 0.02, number + 0.98, color=COLORS[color], alpha=0.85)
        text = shown(value, panel["fieldConfig"]["defaults"]["unit"])
        axes.text(number + 0.5, 0.55, text, ha="center", va="center", color="white", fontsize=11, fontweight="bold")
        axes.text(number + 0.5, 0.18, each.name.lower(), ha="center", va="center", color="white", fontsize=6)


def _bars(axes: Axes, panel: Any, series: Sequence[Series]) -> None:
    _plain(axes)
    values = [each.values[-1] for each in series]
    axes.barh([each.name for each in series], values, color="#5794f2", height=0.6)
    for number, value in enumerate(values):
        axes.text(value, number, f" {shown(value, panel['fieldConfig']['defaults']['unit'])}", va="center")
    axes.set_xticks([])


def _lines(axes: Axes, panel: Any, series: Sequence[Series]) -> None:
    _plain(axes)
    axes.grid(visible=True, color="#ececec", linewidth=0.6)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for each in series:
        axes.plot(each.times, each.values, linewidth=1, label=each.name)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:.0f} min")
    axes.set_xlim(-MINUTES, 0)
    if len(series) <= MOST_NAMED:
        axes.legend(loc="upper left", fontsize=5, frameon=False, ncols=2, handlelength=1)


DRAWN = {"stat": _stat, "bargauge": _bars, "timeseries": _lines}

if __name__ == "__main__":
    picture(sys.argv[1], Path(sys.argv[2]))
