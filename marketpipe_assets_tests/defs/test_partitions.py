from datetime import date

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.defs.launch import planned_runs
from marketpipe_assets.defs.partitions import Selection, partitions_of, range_tags, selection_of, tagged_keys

JANUARY = Sessions("XNYS", date(2024, 1, 2), date(2024, 2, 1))


def test_days_without_a_session_have_no_partition() -> None:
    keys = partitions_of(JANUARY, ["ACME"], date(2024, 1, 2)).get_partition_keys()

    assert "2024-01-12|ACME" in keys
    assert not {"2024-01-13|ACME", "2024-01-15|ACME"} & set(keys)


def test_sessions_that_begin_the_evening_before_are_keyed_by_their_own_date() -> None:
    sessions = Sessions("CME_GLOBEX", date(2024, 1, 2), date(2024, 2, 1))

    keys = partitions_of(sessions, ["ESH4"], date(2024, 1, 2)).get_partition_keys()

    assert keys[:2] == ["2024-01-02|ESH4", "2024-01-03|ESH4"]
    assert "2024-01-07|ESH4" not in keys


def test_market_with_too_many_keys_names_the_size_that_fits() -> None:
    sessions = Sessions("24/7", date(2014, 1, 1), date(2024, 1, 1))

    with pytest.raises(ValueError, match=r"at most 100,000 partitions in a market, was 109,560 .* at most 27 symbols"):
        partitions_of(sessions, [f"S{n}" for n in range(30)], date(2014, 1, 1))


def test_keys_of_a_rectangle_become_its_symbols_and_dates() -> None:
    keys = [f"2024-01-0{day}|{symbol}" for day in (3, 2) for symbol in ("BOLT", "ACME")]

    assert selection_of(keys) == Selection(["ACME", "BOLT"], [date(2024, 1, 2), date(2024, 1, 3)])


def test_keys_that_leave_out_a_corner_are_refused() -> None:
    with pytest.raises(dg.Failure, match="was 3 keys of 2 symbols × 2 sessions"):
        selection_of(["2024-01-02|ACME", "2024-01-02|BOLT", "2024-01-03|ACME"])


@pytest.mark.parametrize("symbols", [["ACME"], ["ACME", "BOLT"]])
@pytest.mark.parametrize("days", [1, 3])
def test_tags_of_a_rectangle_select_its_keys(symbols: list[str], days: int) -> None:
    partitions = partitions_of(JANUARY, ["ACME", "BOLT"], date(2024, 1, 2))
    selection = Selection(symbols, list(JANUARY.dates[:days]))

    assert selection_of(tagged_keys(range_tags(selection), partitions)) == selection


@given(symbols=st.integers(1, 12), days=st.integers(1, 40), most=st.integers(1, 60))
def test_planned_runs_cover_every_symbol_day_once_within_the_limit(symbols: int, days: int, most: int) -> None:
    names = [f"S{n:02}" for n in range(symbols)]
    dates = [date(2024, 1, 1).replace(day=1 + n % 28, month=1 + n // 28) for n in range(days)]

    runs = planned_runs(names, dates, most)

    covered = [(symbol, day) for run in runs for symbol in run.symbols for day in run.dates]
    assert sorted(covered) == sorted((symbol, day) for symbol in names for day in dates)
    assert max(run.symbol_days for run in runs) <= most
