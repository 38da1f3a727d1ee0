"""What the rules say of a folder of real vendor files whose defects are known: found, missed, false alarms.

`python -m marketpipe_assets_tests.realdata FOLDER` prints it after the ingest; by itself:
`python -m marketpipe_assets_tests.realdata_defects FOLDER`. The folder is not part of this project. A finding is an
ERROR or a WARN; a false alarm is an ERROR on bars that are right, and where it is said a WARN.
"""

import gzip
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from marketpipe_assets.bars.quarantine import Split, split_by_rules
from marketpipe_assets.bars.quotes import crossed
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets.bars.schema import VENDOR_COLUMNS
from marketpipe_assets.bars.sessions import Sessions, sessions
from marketpipe_assets.providers import create
from marketpipe_assets.providers.base import ProviderError

LONG = (time(4), time(20))
ANY_PRICE = 10_000  # what equity and Indian files are scaled by
WICKS = {"bad_tick", "impossible_tick"}


class Finding(NamedTuple):
    """A row of the report. `known` is what the folder says is there, the others what the rules say of it."""

    file: str
    known: str
    found: str
    missed: str
    false_alarms: str


class Judged(NamedTuple):
    """Bars with the rules each broke of severity ERROR (`errors`) and WARN (`warnings`)."""

    bars: pl.DataFrame
    calendar: Sessions

    @property
    def errors(self) -> pl.DataFrame:
        return self.bars.filter(pl.col("errors").list.len() > 0)

    def with_rule(self, *rules: str) -> pl.DataFrame:
        broken = pl.concat_list("errors", "warnings")
        return self.bars.filter(pl.any_horizontal(broken.list.contains(rule) for rule in rules))


class Folder(NamedTuple):
    """The files."""

    root: Path

    def lean(self, symbols: Sequence[str], first: str, last: str, security: str, market: str, **where: Any) -> Judged:
        """Minutes through the product's own reader, judged with the calendar and asset class given."""
        calendar = _calendar(where)
        settings = {
            "format": "lean",
            "root": str(self.root / "input/lean/Data"),
            "security": security,
            "market": market,
        }
        source = create("given", "files", settings, {}, {})
        dates = calendar.between(date.fromisoformat(first), date.fromisoformat(last))
        bars = calendar.assign(source.minute_bars(symbols, *calendar.request(dates)))
        return judged(bars.filter(pl.col("session_date").is_in(dates)), calendar, where["asset_class"])

    def hours(self, name: str, first: str, last: str) -> Judged:
        """Hour bars of US shares, judged as if they were minutes: as rules see whole minutes and neighbours."""
        member = _member(self.root / f"input/lean/Data/equity/usa/hour/{name.lower()}.zip")
        names = ("at", "open", "high", "low", "close", "volume")
        rows = pl.read_csv(member, has_header=False, new_columns=list(names))
        local = pl.col("at").str.to_datetime("%Y%m%d %H:%M", time_unit="us").dt.replace_time_zone("America/New_York")
        # the hour from 09:00 holds the minutes from the open on
        begins = pl.when(local.dt.hour() == 9).then(local.dt.offset_by("30m")).otherwise(local)
        prices = [pl.col(each) / ANY_PRICE for each in names[1:5]]
        frame = rows.select(begins.dt.convert_time_zone("UTC").alias("ts"), *prices, pl.col("volume").cast(pl.Float64))
        calendar = sessions("XNYS", date.fromisoformat(first), date.fromisoformat(last))
        return judged(of_symbol(name, frame, calendar), calendar, "equity")

    def table(self, path: str, symbol: str, at: pl.Expr, where: dict[str, Any], **options: Any) -> Judged:
        """Minutes of a text file with columns open, high, low, close and, where it has one, volume."""
        rows = pl.read_csv(self.root / "input" / path, **options)
        volume = pl.col("volume").cast(pl.Float64) if "volume" in rows.columns else pl.lit(0.0).alias("volume")
        prices = [pl.col(each).cast(pl.Float64) for each in ("open", "high", "low", "close")]
        calendar = _calendar(where)
        frame = rows.select(at.alias("ts"), *prices, volume)
        return judged(of_symbol(symbol, frame, calendar), calendar, where["asset_class"])


def _calendar(where: dict[str, Any]) -> Sessions:
    first, last = where.get("span", ("1998-01-02", "2024-12-31"))
    return sessions(where["calendar"], date.fromisoformat(first), date.fromisoformat(last), where.get("hours"))


def _member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


def of_symbol(symbol: str, frame: pl.DataFrame, calendar: Sessions) -> pl.DataFrame:
    """Bars of one symbol as a provider gives them, with their sessions."""
    rest = {"trade_count": None, "vwap": None, "provider": "given", "feed": "given"}
    whole = frame.with_columns(pl.lit(symbol).alias("symbol"), *(pl.lit(v).alias(n) for n, v in rest.items()))
    return calendar.assign(whole.select(pl.col(name).cast(dtype) for name, dtype in VENDOR_COLUMNS.items()))


def judged(bars: pl.DataFrame, calendar: Sessions, asset_class: str) -> Judged:
    split: Split = split_by_rules(bars, RuleSet(asset_class), calendar)
    rules = list(RuleSet(asset_class).rules.items())

    def names(severity: str) -> pl.Expr:
        of_severity = [(n, name) for n, (name, rule) in enumerate(rules) if rule.severity.value == severity]
        broken = [pl.when(pl.col("verdict") & (1 << n) != 0).then(pl.lit(name)) for n, name in of_severity]
        return pl.concat_list(broken).list.drop_nulls()

    marked = bars.with_columns(split.verdict.alias("verdict"))
    return Judged(marked.with_columns(names("ERROR").alias("errors"), names("WARN").alias("warnings")), calendar)


def minutes_of(found: Judged, day: date) -> tuple[int, int]:
    """Received and expected minutes of the regular session."""
    of_day = found.bars.filter(pl.col("session_date") == day, pl.col("session") == "regular")
    return of_day["ts"].n_unique(), found.calendar.expected_minutes([day])["expected_minutes"].item()


def clock(bars: pl.DataFrame, zone: str = "America/New_York") -> list[str]:
    return bars["ts"].dt.convert_time_zone(zone).dt.strftime("%m-%d %H:%M").to_list()


def _errors(found: Judged) -> str:
    counts = found.errors.explode("errors")["errors"].value_counts(sort=True)
    return ", ".join(f"{count:,} {rule}" for rule, count in counts.rows()) or "none"


US: dict[str, Any] = {"calendar": "XNYS", "asset_class": "equity", "hours": LONG}


def shares(folder: Folder) -> Iterator[Finding]:
    twx = folder.lean(["TWX"], "2014-06-06", "2014-06-07", "equity", "usa", **US)
    received, expected = minutes_of(twx, date(2014, 6, 6))
    yield Finding(
        "twx/20140606",
        "3 regular minutes missing",
        f"{received} of {expected} minutes",
        f"{3 - (expected - received)}",
        _errors(twx),
    )
    bac = folder.lean(["BAC"], "2013-10-07", "2013-10-08", "equity", "usa", **US).with_rule(*WICKS)
    regular, late = bac.filter(pl.col("session") == "regular"), clock(bac.filter(pl.col("session") != "regular"))
    yield Finding(
        "bac/20131007",
        "17:07 bar after hours",
        f"bad_tick at {', '.join(late)}",
        "none" if "10-07 17:07" in late else "10-07 17:07",
        f"{regular.height} regular bars",
    )
    spy = folder.lean(["SPY"], "2013-10-04", "2013-10-12", "equity", "usa", **US)
    wicks = spy.with_rule(*WICKS)
    ticks = set(clock(wicks.filter(pl.col("session") == "regular")))
    known = {"10-08 15:03", "10-08 15:36", "10-11 15:00", "10-11 15:01"}
    others = ticks - known
    right = spy.bars.filter(pl.col("session") == "regular").height - len(known)
    yield Finding(
        "spy/20131008, 20131011",
        "4 wicks in the session",
        f"bad_tick at {', '.join(sorted(ticks & known))}",
        ", ".join(sorted(known - ticks)) or "none",
        f"{len(others)} of {right:,} other regular bars {', '.join(sorted(others))}".rstrip(),
    )
    late = [each for each in clock(wicks.filter(pl.col("high") >= 168.8)) if each.startswith("10-07")]
    yield Finding(
        "spy/20131007",
        "after-hours prints at 168.90",
        f"bad_tick at {', '.join(late)}",
        "none" if any(" 16:" in at for at in late) and any(" 17:" in at for at in late) else "16:00 or 17:00 hour",
        _errors(spy),
    )
    pennies = folder.lean(["SPY"], "2023-08-03", "2023-08-04", "equity", "usa", **US)
    cents = pl.col("open", "high", "low", "close") * 100
    sub_penny = pennies.bars.filter(pl.any_horizontal((cents - cents.round()).abs() > 1e-6)).height
    yield Finding("spy/20230803", "205 bars with parts of a cent: right", f"{sub_penny} kept so", "-", _errors(pennies))


def hourly(folder: Folder) -> Iterator[Finding]:
    bac = folder.hours("BAC", "1998-01-02", "2021-04-01")
    days = [date(2001, 6, 8), date(2002, 9, 11)]
    outages = bac.bars.filter(pl.col("session_date").is_in(days))
    wrong = outages.filter(pl.col("errors").list.len() + pl.col("warnings").list.len() > 0)
    yield Finding(
        "hour/bac.zip",
        "outages 2001-06-08, 2002-09-11: right",
        f"{outages.height} hours of the two days valid",
        "-",
        f"{wrong.height} hours",
    )
    for name in ("SPY", "BAC"):
        found = bac if name == "BAC" else folder.hours("SPY", "1998-01-02", "2021-04-01")
        outside = found.with_rule("ts_range")
        early = found.calendar.table.filter(pl.col("expected_minutes") < 390)["session_date"]
        half_days = outside.filter(pl.col("session_date").is_in(early.implode()))
        others = found.errors.filter(~pl.col("errors").list.contains("ts_range"))
        yield Finding(
            f"hour/{name.lower()}.zip",
            "hours after early closes, to 2008",
            f"ts_range: {half_days.height} hours of {half_days['session_date'].n_unique()} half days",
            "none" if half_days["session_date"].n_unique() >= 20 else "some",
            f"{outside.height - half_days.height} ts_range elsewhere; {others.height} other errors",
        )
        crash = found.bars.filter(pl.col("session_date").dt.year().is_in([2008, 2009, 2010, 2020]))
        ticks = found.with_rule(*WICKS).filter(pl.col("session_date").dt.year().is_in([2008, 2009, 2010, 2020]))
        broken = crash.filter(pl.col("errors").list.set_difference(["ts_range"]).list.len() > 0)
        yield Finding(
            f"hour/{name.lower()}.zip",
            "crashes of 2008-2010 and 2020: right",
            f"{crash.height:,} hours judged",
            "-",
            f"{broken.height} errors, {ticks.height} warnings of a bad tick",
        )


def derivatives(folder: Folder) -> Iterator[Finding]:
    eurex = {
        "calendar": "XEUR",
        "asset_class": "future",
        "hours": (time(0), time(23, 59)),
        "span": ("2024-01-02", "2024-12-30"),
    }
    fesx = folder.lean(["FESX.202406", "FESX.202409"], "2024-06-03", "2024-06-04", "future", "eurex", **eurex)
    twice = fesx.with_rule("duplicate_ts")
    yield Finding(
        "eurex/fesx/20240603",
        "202406: 2,304 rows are 1,152 minutes twice",
        f"duplicate_ts: {twice.height:,} rows of {', '.join(twice['symbol'].unique())}",
        f"{fesx.bars.filter(pl.col('symbol') == 'FESX.202406')['ts'].n_unique() - twice['ts'].n_unique()} minutes",
        f"{fesx.errors.filter(pl.col('symbol') == 'FESX.202409').height} rows of 202409",
    )
    spx = folder.lean(["SPX"], "2023-06-30", "2023-07-04", "index", "usa", calendar="XNYS", asset_class="index")
    half = spx.bars.filter(pl.col("session_date") == date(2023, 7, 3)).height
    flagged = spx.bars.filter(pl.col("warnings").list.len() > 0).height
    yield Finding(
        "spx/20230630, 20230703",
        "no volume, half day: right",
        f"{half} bars of the half day",
        "-",
        f"{_errors(spx)}; {flagged} warnings",
    )
    late = folder.lean(
        ["SPX"],
        "2021-01-04",
        "2021-01-05",
        "index",
        "usa",
        calendar="XNYS",
        asset_class="index",
        hours=(time(9, 30), time(17)),
    )
    after = late.bars.filter(pl.col("session") == "post")
    stale = after.filter(
        pl.col("warnings").list.contains("stale_feed") | pl.col("warnings").list.contains("constant_price")
    )
    yield Finding(
        "spx/20210104",
        "rows past the close",
        f"{after.height} labelled post, {stale.height} of them stale",
        "none" if after.height else "all",
        _errors(late),
    )
    cme = {"calendar": "CME_GLOBEX", "asset_class": "future", "span": ("2024-01-02", "2024-12-30")}
    at = pl.col("timestamp_utc").str.to_datetime(time_unit="us").dt.replace_time_zone("UTC")
    euro = folder.table("nautilus/tests/test_data/xcme/6EH4.XCME_1min_bars_20240101_20240131.csv.gz", "6EH4", at, cme)
    at_close = [each.endswith(" 16:00") for each in clock(euro.errors, "America/Chicago")]
    noon = sum(not each for each in at_close)
    yield Finding(
        "6EH4",
        "daily and weekly breaks: right",
        f"{euro.bars.height:,} minutes judged",
        "-",
        f"{_errors(euro)}: {sum(at_close)} at the close of 16:00, for the file labels minutes by their end, and {noon} "
        "after noon of a holiday on which index futures, whose calendar this is, stop",
    )


def currencies(folder: Folder) -> Iterator[Finding]:
    fx: dict[str, Any] = {"calendar": "FX", "asset_class": "fx", "span": ("2007-01-02", "2018-12-31")}
    sides = ["EURUSD.ask", "EURUSD.bid"]
    for first, last in (("2011-10-31", "2011-11-01"), ("2014-05-01", "2014-05-16")):
        found = folder.lean(sides, first, last, "forex", "fxcm", **fx)
        days = crossed(found.bars).filter(pl.col("crossed") > 0)
        least, most = days.select(pl.min("crossed").alias("least"), pl.max("crossed").alias("most")).row(0)
        yield Finding(
            f"fxcm/minute/eurusd {first}",
            "12-62 crossed minutes on most days",
            f"{days.height} of {crossed(found.bars).height} days, {least}-{most} minutes",
            "none" if days.height else "all",
            _errors(found),
        )
    names = ["at", *(f"{side}_{each}" for side in ("bid", "ask") for each in ("open", "high", "low", "close", "size"))]
    rows = pl.read_csv(
        _member(folder.root / "input/lean/Data/forex/fxcm/hour/eurusd.zip"), has_header=False, new_columns=names
    )
    at = pl.col("at").str.to_datetime("%Y%m%d %H:%M", time_unit="us").dt.replace_time_zone("UTC")
    hours = pl.concat(
        rows.select(
            pl.lit(f"EURUSD.{side}").alias("symbol"),
            at.alias("ts"),
            at.dt.date().alias("session_date"),
            pl.col(f"{side}_close").alias("close"),
        )
        for side in ("bid", "ask")
    )
    total = crossed(hours)["crossed"].sum()
    yield Finding(
        "fxcm/hour/eurusd.zip",
        "2,613 of 69,928 hours crossed",
        f"{total:,} of {rows.height:,}",
        f"{2613 - total}",
        "-",
    )
    at = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%z", time_unit="us")
    yen_where = {**fx, "span": ("2013-01-01", "2013-12-31")}
    sides_of_yen = [
        folder.table(f"nautilus/tests/test_data/fxcm/usdjpy-m1-{side}-2013.csv", f"USDJPY.{side}", at, yen_where)
        for side in ("bid", "ask")
    ]
    total = crossed(pl.concat([each.bars for each in sides_of_yen]))["crossed"].sum()
    yield Finding(
        "usdjpy-m1-*-2013",
        "683 of 28,761 minutes crossed; weekends: right",
        f"{total:,}",
        f"{683 - total}",
        "; ".join(map(_errors, sides_of_yen)),
    )


def coins(folder: Folder) -> Iterator[Finding]:
    where = {"calendar": "24/7", "asset_class": "crypto", "span": ("2017-01-02", "2022-12-30")}
    bybit = folder.lean(["BTCUSDT"], "2022-12-13", "2022-12-14", "cryptofuture", "bybit", **where)
    received, expected = minutes_of(bybit, date(2022, 12, 13))
    yield Finding(
        "bybit/20221213",
        "ends at 12:00, 721 of 1,440 minutes",
        f"{received} of {expected}",
        f"{abs(received - 721)}",
        _errors(bybit),
    )
    path = folder.root / "input/freqtrade/tests/testdata/UNITTEST_BTC-1m.json"
    path = path if path.exists() else path.with_name(path.name + ".gz")
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = pl.DataFrame(json.loads(text), ["at", "open", "high", "low", "close", "volume"], orient="row")
    frame = rows.with_columns(
        pl.from_epoch("at", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("ts")
    ).drop("at")
    calendar = _calendar(where)
    thin = judged(of_symbol("UNITTEST_BTC", frame, calendar), calendar, "crypto")
    ts = thin.bars["ts"]
    between = int((ts.max() - ts.min()).total_seconds() // 60) + 1 - ts.n_unique()  # type: ignore[operator,union-attr]
    yield Finding(
        "UNITTEST_BTC-1m", "717 minutes without a trade: right", f"{between} missing, none filled", "-", _errors(thin)
    )


def elsewhere(folder: Folder) -> Iterator[Finding]:
    where = {
        "calendar": "XNSE",
        "asset_class": "equity",
        "hours": (time(9), time(16)),
        "span": ("2019-01-02", "2019-12-30"),
    }
    india = folder.lean(["YESBANK"], "2019-07-09", "2019-07-12", "equity", "india", **where)
    after = india.bars.filter(pl.col("session") == "post")
    yield Finding(
        "india/yesbank",
        "a bar of the closing session at 15:40",
        f"{after.height} bars labelled post: {', '.join(sorted(set(clock(after, 'Asia/Kolkata'))))}",
        "none" if after.height else "all",
        _errors(india),
    )
    settings = {
        "format": "csv",
        "root": str(folder.root / "input/backtrader/datas"),
        "path": "{symbol}.txt",
        "timezone": "Europe/Berlin",
        "columns": {"ts": "Date"},
    }
    try:
        create("given", "files", settings, {}, {}).minute_bars(
            ["2006-01-02-volume-min-001"], datetime(2006, 1, 2).astimezone(), datetime(2006, 1, 3).astimezone()
        )
        said = ""
    except (ProviderError, ValidationError, ValueError) as error:
        said = str(error).splitlines()[-1 if "label" in str(error).splitlines()[-1] else 0]
    yield Finding(
        "backtrader 2006 minutes",
        "bars labelled by their end",
        "refused until the label is told" if "label" in said else said[:60],
        "none" if "label" in said else "label",
        "-",
    )


NOT_JUDGED = (
    Finding(
        "UNITTEST_BTC-8m, NOPAIR-4m",
        "name and cadence differ; empty file",
        "-",
        "not judged: the product reads no such JSON",
        "-",
    ),
    Finding("yfinance *bad*", "daily and weekly bars", "-", "not judged: the rules are for minutes", "-"),
)


def findings(root: Path) -> Iterator[Finding]:
    folder = Folder(root)
    parts: Sequence[Callable[[Folder], Iterator[Finding]]] = (shares, hourly, derivatives, currencies, coins, elsewhere)
    for part in parts:
        yield from part(folder)
    yield from NOT_JUDGED


def show(root: Path) -> None:
    """Print the table."""
    shown = Table(title="known defects, and oddities that are right")
    for heading in ("file", "known", "found", "missed", "false alarms (errors)"):
        shown.add_column(heading, overflow="fold")
    for each in findings(root):
        shown.add_row(*each)
    Console(width=190).print(shown)


if __name__ == "__main__":
    show(Path(sys.argv[1]).absolute())
