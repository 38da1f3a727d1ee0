"""Retention over files: the plan is what goes, nothing else changes, and what a longer table needs stays."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.bars.schema import columns_of
from marketpipe_assets.lake.facts import Fetch, fetches_of
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.parquet import damage, metadata
from marketpipe_assets.lake.prune import Policy, execute, plan, remove_empty_folders
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.lake.rows import MARKET, bars_of

SYMBOLS = ("ACME", "BTC/USD")
DAYS = [date(2023, 12, 28) + timedelta(days=n) for n in range(0, 50, 3)]
MINUTES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m")
TABLES = (*MINUTES, "bars_5m", "bars_1d")
Stored = Mapping[tuple[str, str], Sequence[date]]


def fill(lake: Path, stored: Stored) -> None:
    for (table, symbol), days in stored.items():
        for day in days:
            bars = bars_of(symbol, day, [float(day.day + 1)] * 3, table=table)
            fetch = Fetch(datetime(2024, 6, 1, tzinfo=UTC), "run", [day]) if table == "raw_bars_1m" else None
            write_bars(lake, MARKET, table, bars, [symbol], [day], fetch)


def bars(lake: Path, table: str) -> pl.DataFrame:
    return read_bars(lake, MARKET, table, SYMBOLS, DAYS)


def disk(lake: Path) -> int:
    return sum(path.stat().st_size for path in lake.rglob("*.parquet"))


def every(days: Sequence[date]) -> Stored:
    return {(table, symbol): days for table in TABLES for symbol in SYMBOLS}


days_of = st.lists(st.sampled_from(DAYS), unique=True)
stores = st.fixed_dictionaries({(table, symbol): days_of for table in TABLES for symbol in SYMBOLS})
ages = st.dictionaries(st.sampled_from(TABLES), st.sampled_from(DAYS), min_size=1)
holds = st.sets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS)), max_size=4)


@settings(max_examples=60)
@given(stored=stores, kept_from=ages, held=holds)
def test_the_plan_lists_exactly_what_goes_and_what_stays_reads_back_equal(
    stored: Stored, kept_from: Mapping[str, date], held: set[tuple[str, date]]
) -> None:
    with TemporaryDirectory() as folder:
        lake = Path(folder) / "backup-2020-01-01" / "lake"  # a date in a parent folder is no date of bars
        fill(lake, stored)
        policy = Policy(kept_from, lambda symbol, day: (symbol, day) in held)
        before, size = {table: bars(lake, table) for table in TABLES}, disk(lake)

        planned = plan(lake, MARKET, policy, ["bars_5m", "bars_1d"])
        unchanged = {table: bars(lake, table) for table in TABLES}
        gone = [execute(lake, cut) for cut in planned.cuts]
        remove_empty_folders(lake, MARKET, TABLES)

        assert all(unchanged[table].equals(before[table]) for table in TABLES)
        assert gone == planned.cuts
        assert size - disk(lake) == sum(cut.bytes for cut in gone)
        removed = {(cut.file.table, cut.file.symbol, day) for cut in gone for day in cut.dates}
        for table in TABLES:
            place = pl.concat_str(pl.lit(table), "symbol", pl.col("session_date").cast(pl.String), separator="|")
            kept = before[table].filter(~place.is_in(["|".join(map(str, each)) for each in removed]))
            assert bars(lake, table).equals(kept)
        assert sum(frame.height for frame in before.values()) - sum(cut.rows for cut in gone) == sum(
            bars(lake, table).height for table in TABLES
        )
        assert removed == _expected(stored, kept_from, held)
        assert not plan(lake, MARKET, policy, ["bars_5m", "bars_1d"]).cuts
        for path in lake.rglob("*.parquet"):
            table, symbol = path.parts[-3], path.parts[-2].removeprefix("symbol=").replace("%2F", "/")
            assert damage(path, metadata(MARKET, table, symbol)) is None
        assert not [path for path in (lake / MARKET).rglob("*") if path.is_dir() and not any(path.iterdir())]


def _expected(stored: Stored, kept_from: Mapping[str, date], held: set[tuple[str, date]]) -> set[tuple[str, str, date]]:
    """Said once more in the words of the policy: too old, not held, and minutes only once longer bars are there."""

    def is_needed(table: str, symbol: str, day: date) -> bool:
        judged = any(day in stored[minutes, symbol] for minutes in MINUTES[1:])
        held = day in stored["bars_1m", symbol] or (day in stored["raw_bars_1m", symbol] and not judged)
        following = [name for name in ("bars_1m", "bars_5m", "bars_1d") if day >= kept_from.get(name, date.min)]
        return table in MINUTES and held and any(day not in stored[name, symbol] for name in following)

    return {
        (table, symbol, day)
        for (table, symbol), days in stored.items()
        for day in days
        if table in kept_from and day < kept_from[table] and (symbol, day) not in held
        if not is_needed(table, symbol, day)
    }


def test_file_in_which_the_age_ends_is_cut_and_the_one_before_it_removed(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(lake, every([date(2023, 12, 31), date(2024, 1, 6), date(2024, 1, 9)]))

    cuts = plan(lake, MARKET, Policy({"bars_1m": date(2024, 1, 9)}), ["bars_1d"]).cuts

    assert [(cut.file.symbol, cut.file.period, cut.rows, cut.whole) for cut in cuts] == [
        ("ACME", "2023-12", 3, True),
        ("ACME", "2024-01", 3, False),
        ("BTC/USD", "2023-12", 3, True),
        ("BTC/USD", "2024-01", 3, False),
    ]


def test_bars_of_the_day_the_age_ends_on_stay(tmp_path: Path) -> None:
    fill(tmp_path / "lake", every([date(2024, 1, 9)]))

    assert not plan(tmp_path / "lake", MARKET, Policy(dict.fromkeys(TABLES, date(2024, 1, 9))), ["bars_1d"]).cuts


def test_minutes_stay_while_a_table_that_is_kept_longer_has_no_bar_of_them(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(lake, every(DAYS[:2]))
    shutil.rmtree(lake / MARKET / "bars_1d" / "symbol=ACME")

    planned = plan(lake, MARKET, Policy(dict.fromkeys(MINUTES, date(2024, 6, 1))), ["bars_5m", "bars_1d"])

    assert {cut.file.symbol for cut in planned.cuts} == {"BTC/USD"}
    assert [tuple(each) for each in planned.kept] == [("ACME", DAYS[:2], "bars_1d")]


def test_raw_minutes_that_were_not_judged_stay_while_a_table_keeps_their_day(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(lake, {("raw_bars_1m", "ACME"): DAYS[:2], ("quarantined_bars_1m", "ACME"): DAYS[:1]})

    kept = plan(lake, MARKET, Policy(dict.fromkeys(MINUTES, date(2024, 6, 1))), ["bars_1d"])
    gone = plan(lake, MARKET, Policy(dict.fromkeys(TABLES, date(2024, 6, 1))), ["bars_1d"])

    assert [(cut.file.table, *cut.dates) for cut in kept.cuts] == [
        ("quarantined_bars_1m", DAYS[0]),
        ("raw_bars_1m", DAYS[0]),
    ]
    assert [tuple(each) for each in kept.kept] == [("ACME", [DAYS[1]], "bars_1d")]
    assert sum(len(cut.dates) for cut in gone.cuts) == 3


def test_raw_file_forgets_that_it_fetched_what_was_removed(tmp_path: Path) -> None:
    lake, days = tmp_path / "lake", [date(2024, 1, 3), date(2024, 1, 6)]
    fill(lake, every(days))
    empty = bars_of("ACME", days[0], [], table="raw_bars_1m")
    write_bars(lake, MARKET, "raw_bars_1m", empty, ["ACME"], days[:1], Fetch(datetime.now(UTC), "run", days[:1]))

    for cut in plan(lake, MARKET, Policy({"raw_bars_1m": days[1]}), ["bars_1d"]).cuts:
        execute(lake, cut)

    assert fetches_of(lake, MARKET, ["ACME"], days)["session_date"].to_list() == days[1:]


def test_bars_that_come_between_plan_and_removal_stay(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(lake, every([date(2024, 1, 3)]))
    (cut, _) = plan(lake, MARKET, Policy({"bars_1m": date(2024, 1, 9)}), []).cuts
    fill(lake, {("bars_1m", "ACME"): [date(2024, 1, 12)]})

    done = execute(lake, cut)

    assert (done.whole, done.rows) == (False, 3)
    assert read_bars(lake, MARKET, "bars_1m", ["ACME"], [date(2024, 1, 3), date(2024, 1, 12)]).height == 3


def test_columns_of_a_cut_file_are_those_of_its_table(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(lake, every([date(2024, 1, 3), date(2024, 1, 12)]))

    for cut in plan(lake, MARKET, Policy(dict.fromkeys(TABLES, date(2024, 1, 9))), []).cuts:
        execute(lake, cut)

    assert all(dict(bars(lake, table).schema) == dict(columns_of(table)) for table in TABLES)
