"""The reports that runs wrote, as `marketpipe validate` lists and prints them."""

from collections import Counter
from pathlib import Path

from marketpipe_assets.cli.display import console, counted, some, table
from marketpipe_assets.cli.outcome import user_input

SHOWN_RUNS = 20
SHOWN_ROWS = 100


def is_report(name: str) -> bool:
    """Whether a name is that of a report rather than a symbol."""
    return name.endswith(".csv") or Path(name).is_file()


def print_reports(folder: Path, path: str | None) -> None:
    """Print the report of this path, or the list of them. Raises `UserError` for a file that is none."""
    if path is None:
        console().print(_table(folder))
    else:
        _print(Path(path))


def _table(folder: Path) -> object:
    """A row for each of the last runs: when, which symbols, and how many rows of which severity."""
    from marketpipe_assets.reports import read_report, reports

    by_run: dict[str, list[tuple[str, str, Counter[str]]]] = {}
    for report in reports(folder):
        if report.run_id not in by_run and len(by_run) == SHOWN_RUNS:
            break
        with user_input():
            severities = Counter(read_report(report.path)["severity"].to_list())
        by_run.setdefault(report.run_id, []).append((f"{report.written_at:%Y-%m-%d %H:%M}", report.symbol, severities))
    rows = []
    for run_id, parts in by_run.items():
        found = sum((each for *_, each in parts), Counter[str]())
        symbols = some([symbol for _, symbol, _ in parts])
        rows.append((run_id, parts[0][0], *(found[name] for name in ("ERROR", "WARN", "INFO")), symbols))
    headers = ("run", "written (UTC)", "ERROR", "WARN", "INFO", "symbols")
    return table(headers, rows, numbers=headers[2:5]) if rows else f"no reports in {folder}"


def _print(path: Path) -> None:
    from marketpipe_assets.reports import read_report

    with user_input():
        rows = read_report(path)
    shown = rows.head(SHOWN_ROWS).select("ts", "symbol", "rule", "severity", "detail")
    console().print(table(("ts (UTC)", *shown.columns[1:]), shown.iter_rows()))
    console().print(f"{shown.height} of {counted(rows.height, 'row')}")
