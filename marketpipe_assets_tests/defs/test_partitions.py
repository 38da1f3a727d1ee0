from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.catalog.groups import keep_order, order_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import SESSIONS_TAG, SYMBOLS_TAG, Grid, Selection, grid_of, keep_groups
from marketpipe_assets.defs.planner import planned_runs

SYMBOLS = ["ACME", "BOLT", "CASK", "DUNE", "ECHO"]
JANUARY = [date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10, 11, 12, 16, 17, 18, 19, 22, 23, 24, 25, 26, 29, 30, 31)]


def market(
    symbols: list[str],
    start: date = date(2024, 1, 2),
    calendar: str = "XNYS",
    **more: object,
) -> Market:
    return Market.model_validate(
        {
            "name": "shares",
            "calendar": calendar,
            "asset_class": "equity",
            "provider": "given",
            "symbols": tuple(symbols),
            "start": start,
            **more,
        }
    )


def grouped(symbols: list[str], size: int = 2, dates: str = "month", **more: object) -> Market:
    return market(symbols, **{"partition": {"symbols": size, "dates": dates}, **more})  # type: ignore[arg-type]  # any


# one symbol on one session


def test_days_without_a_session_have_no_partition() -> None:
    keys = Grid(market(["ACME"])).definition.get_partition_keys()

    assert "2024-01-12|ACME" in keys
    assert not {"2024-01-13|ACME", "2024-01-15|ACME"} & set(keys)


def test_sessions_that_begin_the_evening_before_are_keyed_by_their_own_date() -> None:
    keys = Grid(market(["ESH4"], calendar="CME_GLOBEX")).definition.get_partition_keys()

    assert keys[:2] == ["2024-01-02|ESH4", "2024-01-03|ESH4"]
    assert "2024-01-07|ESH4" not in keys


def test_market_with_too_many_keys_names_the_partition_that_fits() -> None:
    with pytest.raises(
        ValueError,
        match=r"at most 100,000 partitions in market shares, was .*`partition: \{symbols: 30, dates: month\}` makes",
    ):
        Grid(market([f"S{n}" for n in range(30)], date(2010, 1, 1), "24/7"))


def test_keys_of_a_rectangle_become_its_symbols_and_dates() -> None:
    keys = [f"2024-01-0{day}|{symbol}" for day in (3, 2) for symbol in ("BOLT", "ACME")]

    assert Grid(market(SYMBOLS)).selection(keys) == Selection(["ACME", "BOLT"], [date(2024, 1, 2), date(2024, 1, 3)])


def test_keys_that_leave_out_a_corner_are_refused() -> None:
    with pytest.raises(dg.Failure, match="was 3 keys of 2 symbols × 2 sessions"):
        Grid(market(SYMBOLS)).selection(["2024-01-02|ACME", "2024-01-02|BOLT", "2024-01-03|ACME"])


def test_keys_of_symbols_and_days_the_market_does_not_have_are_refused() -> None:
    with pytest.raises(dg.Failure, match="expected partitions of shares, was 2024-01-06, ZETA"):
        Grid(market(SYMBOLS)).selection(["2024-01-06|ZETA"])


# groups and months


def test_months_begin_on_the_first_of_the_month_the_market_begins_in() -> None:
    keys = Grid(grouped(["ACME"], 1)).definition.get_partition_keys()

    assert keys[:2] == ["2024-01-01|ACME", "2024-02-01|ACME"]


def test_the_month_that_runs_has_a_key_from_its_first_day() -> None:
    first = datetime(2026, 11, 1, 5, tzinfo=UTC)  # midnight has passed in New York

    keys = Grid(grouped(["ACME"], 1)).definition.get_partition_keys(current_time=first)

    assert keys[-1] == "2026-11-01|ACME"


def test_a_group_and_month_are_its_symbols_on_every_session_of_the_month() -> None:
    grid = Grid(grouped(SYMBOLS))

    assert list(grid.columns) == ["group-00", "group-01", "group-02"]
    assert grid.selection(["2024-01-01|group-01"]) == Selection(["CASK", "DUNE"], JANUARY)
    assert grid.selection(["2024-01-01|group-02"]).symbols == ["ECHO"]


def test_a_group_on_a_day_is_its_symbols_on_that_session() -> None:
    grid = Grid(grouped(SYMBOLS, dates="day"))

    assert grid.selection(["2024-01-03|group-00"]) == Selection(["ACME", "BOLT"], [date(2024, 1, 3)])


def test_of_the_month_that_runs_only_sessions_that_are_over_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(grouped(["ACME"], calendar="24/7", start=date(2024, 1, 1)))
    noon = datetime(2024, 2, 15, 12, tzinfo=UTC)
    monkeypatch.setattr("marketpipe_assets.defs.partitions.datetime", _Clock(noon))

    selection = grid.selection(["2024-02-01|group-00"])

    assert list(selection.dates) == [date(2024, 2, day) for day in range(1, 15)]


def test_a_month_of_which_no_session_is_over_is_refused_as_not_published() -> None:
    grid = Grid(grouped(["ACME"]))
    row = next(row for row, dates in grid.rows.items() if dates[0] > datetime.now(UTC).date())

    with pytest.raises(dg.Failure, match=r"expected sessions of shares that are over, was .*: not published yet"):
        grid.selection([f"{row}|group-00"])


def test_every_step_of_a_run_sees_the_same_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(grouped(["ACME"], calendar="24/7", start=date(2024, 1, 1)))
    run = dg.DagsterRun(job_name="shares_ingest", run_id="8d9a3f0e-1111-4222-8333-444455556666")
    month = next(row for row, dates in reversed(list(grid.rows.items())) if grid.finished(dates))

    asked = grid.selection([f"{month}|group-00"], run)
    later = datetime.now(UTC) + timedelta(days=3)
    monkeypatch.setattr("marketpipe_assets.defs.partitions.datetime", _Clock(later))

    assert grid.selection([f"{month}|group-00"], run) == asked


class _Clock:
    """A clock that stands."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self, _: object) -> datetime:
        return self.at


def test_a_partition_that_one_run_cannot_hold_is_refused_at_load() -> None:
    with pytest.raises(ValueError, match=r"at most 30 symbol-days .*, was 46 \(partition: 2 symbols, a month\)"):
        Grid(grouped(SYMBOLS, max_symbol_days_per_run=30))


# tags of a run


@pytest.mark.parametrize("symbols", [["ACME"], ["ACME", "BOLT"], ["BOLT", "CASK", "DUNE"], SYMBOLS])
@pytest.mark.parametrize("dates", [JANUARY[:1], JANUARY[3:7], JANUARY, [*JANUARY, date(2024, 2, 1)]])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("unit", ["day", "month"])
def test_tags_of_a_rectangle_select_it_and_nothing_else(
    symbols: list[str], dates: list[date], size: int, unit: str
) -> None:
    grid = Grid(grouped(SYMBOLS, size, unit))
    run = dg.DagsterRun(job_name="shares_ingest", tags=grid.tags(Selection(symbols, dates)))

    assert grid.selection(grid.tagged_keys(run.tags), run) == Selection(symbols, dates)


def test_whole_partitions_need_no_further_tags() -> None:
    grid = Grid(grouped(SYMBOLS))

    whole = grid.tags(Selection(["ACME", "BOLT"], JANUARY))
    part = grid.tags(Selection(["BOLT"], JANUARY[1:3]))

    assert whole == {"dagster/partition": "2024-01-01|group-00"}
    assert part == {**whole, SYMBOLS_TAG: "BOLT", SESSIONS_TAG: "2024-01-03...2024-01-04"}


def test_groups_with_another_between_them_cannot_be_one_run() -> None:
    with pytest.raises(ValueError, match="expected neighbouring partitions, was 2 of group-00, group-01, group-02"):
        Grid(grouped(SYMBOLS)).tags(Selection(["ACME", "ECHO"], JANUARY))


# plans


def test_whole_months_of_groups_are_planned_as_runs_that_share_no_partition() -> None:
    shares = grouped(SYMBOLS, max_symbol_days_per_run=100)
    february = list(shares.sessions.between(date(2024, 2, 1), date(2024, 3, 1)))

    runs = planned_runs(Grid(shares), dict.fromkeys([*JANUARY, *february], SYMBOLS))

    keys = [key for run in runs for key in Grid(shares).tagged_keys(Grid(shares).tags(run))]
    assert len(keys) == len(set(keys)) == 6
    assert all(run.symbol_days <= 100 for run in runs)


@given(st.sets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from([*JANUARY, date(2024, 2, 1)])), min_size=1))
def test_any_symbol_days_are_planned_once_each_and_no_others(wanted: set[tuple[str, date]]) -> None:
    grid = Grid(grouped(SYMBOLS), ["DUNE", "BOLT", "ACME", "ECHO", "CASK"])
    by_day = {day: [symbol for symbol, each in wanted if each == day] for day in {day for _, day in wanted}}

    runs = [dg.DagsterRun(job_name="x", tags=grid.tags(run)) for run in planned_runs(grid, by_day)]

    asked = [grid.selection(grid.tagged_keys(run.tags), run) for run in runs]
    planned = [(symbol, day) for symbols, dates in asked for symbol in symbols for day in dates]
    assert sorted(planned) == sorted(wanted)


# the order of symbols


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")


def test_loading_groups_writes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    grid = grid_of(grouped(SYMBOLS), catalog)

    assert grid.columns["group-00"] == ["ACME", "BOLT"]
    assert list(tmp_path.iterdir()) == []


def test_a_symbol_that_is_added_moves_no_other(catalog: Catalog) -> None:
    before = grid_of(grouped(SYMBOLS), catalog)
    keep_groups(before, catalog)

    after = grid_of(grouped(["AARD", *SYMBOLS, "ZETA"]), catalog)

    assert {key: after.columns[key] for key in ("group-00", "group-01")} == {
        key: before.columns[key] for key in ("group-00", "group-01")
    }
    assert (after.columns["group-02"], after.columns["group-03"]) == (["AARD", "ECHO"], ["ZETA"])


def test_a_symbol_that_is_retired_keeps_its_place(catalog: Catalog) -> None:
    keep_groups(grid_of(grouped(SYMBOLS), catalog), catalog)

    without = grid_of(grouped(["ACME", "CASK", "DUNE", "ECHO"]), catalog)
    again = grid_of(grouped(SYMBOLS), catalog)

    assert without.columns == {"group-00": ["ACME"], "group-01": ["CASK", "DUNE"], "group-02": ["ECHO"]}
    assert again.columns["group-00"] == ["ACME", "BOLT"]


def test_groups_of_another_size_keep_the_order(catalog: Catalog) -> None:
    keep_groups(grid_of(grouped(SYMBOLS), catalog), catalog)
    keep_groups(grid_of(grouped(["AARD", *SYMBOLS]), catalog), catalog)

    assert grid_of(grouped(["AARD", *SYMBOLS], 3), catalog).columns == {
        "group-00": ["ACME", "BOLT", "CASK"],
        "group-01": ["AARD", "DUNE", "ECHO"],
    }


def test_an_order_that_was_kept_by_another_configuration_meanwhile_is_not_overwritten(catalog: Catalog) -> None:
    keep_order(catalog, "shares", ["ACME", "BOLT"], 2)

    with pytest.raises(ValueError, match="another process added symbols meanwhile"):
        keep_order(catalog, "shares", ["AARD", "ACME", "BOLT"], 2)

    assert order_of(catalog, "shares", ["AARD", "BOLT"]) == ["ACME", "BOLT", "AARD"]
