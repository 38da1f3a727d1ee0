"""`marketpipe metrics`: serve them to Prometheus, or show in the terminal what runs did over time."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.display import console, print_frame, table
from marketpipe_assets.cli.options import ConfigOption, configuration, refuse_beside
from marketpipe_assets.cli.outcome import RunTimeError, UserError, catalogue, formatter_of, note, speak
from marketpipe_assets.cli.runs import instance_of
from marketpipe_assets.config import Config

if TYPE_CHECKING:
    import polars as pl

AGES = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
SINCE = "7d"
WIDTH = 60
"""Characters of the longest bar of a plot."""


def metrics(  # noqa: PLR0913, PLR0917  # one per option
    port: Annotated[
        int | None,
        typer.Option(
            "--port", "-p", min=1, max=65535, envvar="METRICS_PORT", help="Serve metrics here until it is stopped."
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at.")] = "127.0.0.1",
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How often what is served is read anew.")
    ] = 15.0,
    listed: Annotated[bool, typer.Option("--list", help="Print every metric there is.")] = False,
    metric: Annotated[
        str | None, typer.Option("--metric", "-m", metavar="NAME", help="Print what each run added to it.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="From when: 30m, 12h, 7d, or a date.", show_default=SINCE)
    ] = None,
    average: Annotated[
        str | None, typer.Option("--avg", metavar="AGE", help="The mean over windows of this length: 1h, 1d.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the values as bars.")] = False,
    config: ConfigOption = None,
) -> None:
    """Serve metrics to Prometheus with --port, or print what runs did, from the catalogue.

    The exporter reads the catalogue, Dagster's instance and the lake on its own clock; a scrape is answered from
    memory.
    """
    loaded = configuration(config)
    if metric is not None:
        refuse_beside("--metric alone", {"--list": listed})
        _history(loaded, metric, _instant(since or SINCE), average, plot=plot)
        return
    if of_history := [name for name, value in {"--since": since, "--avg": average, "--plot": plot}.items() if value]:
        raise UserError(f"expected --metric with {', '.join(of_history)}, was none")
    if listed or port is None:
        _list(loaded)
    else:
        _serve(loaded, host, port, every)


def _serve(config: Config, host: str, port: int, every: float) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.metrics.exporter import Exporter

    speak(formatter_of(config), config.log.level)
    registry = CollectorRegistry()
    with instance_of(config) as instance:
        exporter = Exporter(config, Catalog(config.catalog_url), instance, every)
        exporter.refresh()
        registry.register(exporter)
        try:
            start_http_server(port, host, registry)
        except OSError as error:
            raise RunTimeError(f"expected to listen at {host}:{port}, was {error.strerror}") from error
        note(f"metrics at http://{host}:{port}/metrics")
        while True:
            time.sleep(1)
            exporter.refresh()


def _list(config: Config) -> None:
    from marketpipe_assets.metrics.history import HISTORIES
    from marketpipe_assets.metrics.names import METRICS

    rows = ((name, ", ".join(kind.labels), name in HISTORIES and "yes", kind.text) for name, kind in METRICS.items())
    console().print(
        table(("metric", "labels", "--metric", "what it says"), ((*row[:2], row[2] or "", row[3]) for row in rows))
    )
    note(f"{config.catalog_url.split('@')[-1]} has the history of those with yes; --port serves all of them")


def _history(config: Config, metric: str, since: datetime, average: str | None, *, plot: bool) -> None:
    from marketpipe_assets.catalog.store import Catalog
    from marketpipe_assets.metrics.history import HISTORIES, averaged, history

    if metric not in HISTORIES:
        raise UserError(f"--metric: expected one of {', '.join(HISTORIES)}, was {metric!r}")
    with catalogue():
        points = history(Catalog(config.catalog_url), metric, since)
    if average is not None:
        _age(average, "--avg")
        points = averaged(points, average)
    if points.is_empty():
        note(f"no run added to {metric} since {since:%Y-%m-%d %H:%M} UTC")
    elif plot:
        _plot(points)
    else:
        print_frame(points)


def _plot(points: "pl.DataFrame") -> None:
    labels = [name for name in points.columns if name not in ("at", "value")]
    most = max(points["value"].max(), 1e-12)  # type: ignore[type-var]  # a column of numbers
    rows = (
        (f"{row['at']:%Y-%m-%d %H:%M}", *(row[name] for name in labels), row["value"], _bar(row["value"] / most))
        for row in points.iter_rows(named=True)
    )
    console().print(table(("at (UTC)", *labels, "value", ""), rows, ["value"]))


def _bar(share: float) -> str:
    eighths = round(share * WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _instant(since: str) -> datetime:
    if re.fullmatch(r"\d+[mhd]", since):
        return datetime.now(UTC) - _age(since, "--since")
    try:
        day = datetime.fromisoformat(since)
        return day.replace(tzinfo=day.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UserError(f"--since: expected 30m, 12h, 7d or a date such as 2024-01-02, was {since!r}") from None


def _age(text: str, option: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", text)  # five digits: three centuries of days
    if found is None:
        raise UserError(f"{option}: expected a time such as 30m, 12h or 7d, was {text!r}")
    return int(found[1]) * AGES[found[2]]
