"""`marketpipe validate`: judge stored raw bars with the present rules and compare with what is stored."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from marketpipe_assets.cli.display import console, counted, table
from marketpipe_assets.cli.job_id import JobArgument, JobOption, symbol_days_of_job
from marketpipe_assets.cli.options import (
    ConfigOption,
    EndOption,
    MarketOption,
    StartOption,
    SymbolsOption,
    chosen_market,
    configuration,
    listed,
    refuse_beside,
)
from marketpipe_assets.cli.outcome import lake_access, note, say
from marketpipe_assets.cli.report_list import is_report, print_reports
from marketpipe_assets.cli.runs import market_grid
from marketpipe_assets.cli.stored import AllOption, DaysOption, chosen_days, no_bars
from marketpipe_assets.config import Market

if TYPE_CHECKING:
    import polars as pl

    from marketpipe_assets.bars.quarantine import Split
    from marketpipe_assets.defs.partitions import Selection

KEY = ("symbol", "session_date")
SHOWN_DAYS = 20
SHOWN_BARS = 100


class Verdict(NamedTuple):
    """What the rules say of some symbol-days, and where the lake says otherwise.

    `broken` counts bars by rule; `quarantined` counts stored bars by rule and symbol; `differing` are symbol-days
    whose stored bars are not what the rules make of the raw ones, `lost` those whose bars do not add up; `waived`
    counts bars by rule that a waiver excused, `idle` are repairs that found no bar.
    """

    raw: int
    broken: Counter[str]
    quarantined: Counter[tuple[str, str]]
    differing: list[str]
    lost: list[str]
    waived: Counter[str]
    idle: list[str]


def validate(  # noqa: PLR0913, PLR0917  # one per option
    job: JobArgument = None,
    job_id: JobOption = None,
    symbols: SymbolsOption = None,
    days: DaysOption = None,
    every: AllOption = False,
    start: StartOption = None,
    end: EndOption = None,
    reported: Annotated[bool, typer.Option("--list", help="List the reports that runs wrote.")] = False,
    show: Annotated[
        str | None,
        typer.Option(metavar="PATH|SYMBOL", help="Print a report, or the quarantined bars of a symbol."),
    ] = None,
    market: MarketOption = None,
    config: ConfigOption = None,
) -> None:
    """Compare stored bars with what the rules make of the raw ones.

    Judges the stored raw bars with the present rules, waivers and repairs, and changes nothing. Exits 1 where stored
    bars are something else; `marketpipe aggregate` rebuilds them.
    """
    from marketpipe_assets.defs.planner import planned_runs

    loaded = configuration(config)
    asked = job or job_id
    beside = {"--symbols": symbols, "--days": days, "--all": every, "--start": start, "--end": end}
    if reported:
        refuse_beside("--list alone", {"JOB_ID": asked, **beside, "--show": show, "--market": market})
        print_reports(loaded.reports, None)
        return
    if show is not None and is_report(show):
        refuse_beside("--show with a report alone", {"JOB_ID": asked, **beside, "--market": market})
        print_reports(loaded.reports, show)
        return
    if asked:
        chosen, wanted = symbol_days_of_job(loaded, asked, market, {**beside, "--show": show})
    else:
        names = _named(symbols, show)
        chosen = chosen_market(loaded, market, names)
        wanted = chosen_days(loaded.lake, chosen, names, days=days, every=every, start=start, end=end)
    parts = planned_runs(market_grid(loaded, chosen), wanted)
    if show is not None:
        _show_bars(loaded.lake, chosen, parts)
    else:
        _judge(loaded.lake, chosen, parts)


def _named(symbols: list[str] | None, show: str | None) -> list[str]:
    if show is None:
        return listed(symbols)
    refuse_beside("--show alone to name symbols", {"--symbols": symbols})
    return listed([show], "--show")


def _judge(lake: Path, market: Market, parts: Sequence["Selection"]) -> None:
    with lake_access():
        verdict = _together([_judged(lake, market, part) for part in parts])
    if not verdict.raw:
        symbols = sorted({symbol for part in parts for symbol in part.symbols})
        raise no_bars(market, symbols, sorted({day for part in parts for day in part.dates}))
    if verdict.broken or verdict.quarantined:
        console().print(_rule_table(market, verdict))
    for repair in verdict.idle:
        note(f"no bar for the repair of {repair}")
    symbol_days = sum(part.symbol_days for part in parts)
    console().print(f"{verdict.raw:,} raw bars of {counted(symbol_days, 'symbol-day')} judged")
    if verdict.lost or verdict.differing:
        raise typer.Exit(_complain(verdict))
    console().print("stored bars are what the rules make of them")


def _judged(lake: Path, market: Market, selection: "Selection") -> Verdict:
    from marketpipe_assets.bars.quarantine import split_by_rules, without_bar
    from marketpipe_assets.lake.scan import read_bars

    symbols, owned = selection.symbols, market.sessions.owned_dates(selection.dates)
    raw, valid, quarantined = (
        read_bars(lake, market.name, name, symbols, owned) for name in ("raw_bars_1m", "bars_1m", "quarantined_bars_1m")
    )
    rule_set = market.rule_set
    split = split_by_rules(raw, rule_set, market.sessions)
    idle = without_bar(split, rule_set.repairs, market.sessions, *selection)
    by_rule = quarantined.explode("broken_rules").group_by("broken_rules", "symbol").len()
    return Verdict(
        raw.height,
        Counter(split.broken),
        Counter({(rule, symbol): count for rule, symbol, count in by_rule.iter_rows()}),
        _differing(split, valid, quarantined),
        _lost(raw, valid, quarantined),
        Counter(split.waived),
        [f"{each.symbol} at {each.ts:%Y-%m-%d %H:%M} UTC ({each.place})" for each in idle],
    )


def _differing(split: "Split", valid: "pl.DataFrame", quarantined: "pl.DataFrame") -> list[str]:
    pairs = ((split.valid, valid), (split.quarantined.sort("symbol", "ts", maintain_order=True), quarantined))
    return sorted({day for judged, stored in pairs if not judged.equals(stored) for day in _unequal(judged, stored)})


def _unequal(judged: "pl.DataFrame", stored: "pl.DataFrame") -> Iterable[str]:
    ours, theirs = (frame.partition_by(KEY, as_dict=True) for frame in (judged, stored))
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in ours or key not in theirs or not ours[key].equals(theirs[key]):
            yield f"{key[1]}|{key[0]}"


def _lost(raw: "pl.DataFrame", valid: "pl.DataFrame", quarantined: "pl.DataFrame") -> list[str]:
    given, kept, put_aside = (Counter(frame.select(KEY).iter_rows()) for frame in (raw, valid, quarantined))
    days = given.keys() | kept.keys() | put_aside.keys()
    return sorted(f"{day[1]}|{day[0]}" for day in days if given[day] != kept[day] + put_aside[day])


def _together(parts: Iterable[Verdict]) -> Verdict:
    raws, broken, quarantined, differing, lost, waived, idle = zip(*parts, strict=True)
    return Verdict(
        sum(raws),
        sum(broken, Counter[str]()),
        sum(quarantined, Counter[tuple[str, str]]()),
        [day for days in differing for day in days],
        [day for days in lost for day in days],
        sum(waived, Counter[str]()),
        [repair for repairs in idle for repair in repairs],
    )


def _rule_table(market: Market, verdict: Verdict) -> object:
    stored = Counter[str]()
    for (rule, _), count in verdict.quarantined.items():
        stored[rule] += count
    severities = {name: str(rule.severity) for name, rule in market.rule_set.rules.items()}
    found = [name for name in severities if verdict.broken[name] or stored[name]]
    found += sorted(stored.keys() - severities.keys())
    rows = [
        (
            rule,
            severities.get(rule, "unknown"),
            verdict.broken[rule],
            verdict.waived[rule],
            stored[rule],
            _symbols(verdict, rule),
        )
        for rule in found
    ]
    headers = ("rule", "severity", "broken now", "waived", "in quarantine", "symbols in quarantine")
    return table(headers, rows, numbers=("broken now", "waived", "in quarantine"))


def _symbols(verdict: Verdict, rule: str, most: int = 5) -> str:
    counts = Counter({symbol: count for (name, symbol), count in verdict.quarantined.items() if name == rule})
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{symbol} {count:,}" for symbol, count in most_first[:most])
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _complain(verdict: Verdict) -> int:
    if verdict.lost:
        say(f"bars of {_days(verdict.lost)} do not add up: raw is not valid + quarantined", 1)
    return say(
        f"stored bars of {_days(verdict.differing)} are not what the rules make of the raw ones: "
        "marketpipe aggregate rebuilds them",
        1,
    )


def _days(keys: list[str]) -> str:
    shown = ", ".join(keys[:SHOWN_DAYS]) + (" …" if len(keys) > SHOWN_DAYS else "")
    return f"{counted(len(keys), 'symbol-day')} ({shown})"


def _show_bars(lake: Path, market: Market, parts: Iterable["Selection"]) -> None:
    import polars as pl

    from marketpipe_assets.lake.scan import read_bars

    with lake_access():
        bars = pl.concat(
            read_bars(lake, market.name, "quarantined_bars_1m", part.symbols, market.sessions.owned_dates(part.dates))
            for part in parts
        )
    prices = ("open", "high", "low", "close", "volume")
    shown = bars.select(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S"), *prices, "broken_rules")
    console().print(table(("ts (UTC)", *shown.columns[1:]), shown.head(SHOWN_BARS).iter_rows(), prices))
    console().print(f"{min(shown.height, SHOWN_BARS)} of {counted(shown.height, 'quarantined bar')}")
