from datetime import date

import dagster as dg
import pytest

from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Selection, partitions_of, range_tags, selection_of, tagged_keys


def market(symbols: list[str], start: date = date(2024, 1, 2), calendar: str = "XNYS") -> Market:
    return Market(
        name="shares",
        calendar=calendar,
        asset_class="equity",
        provider="given",
        symbols=tuple(symbols),
        start=start,
    )


def test_days_without_a_session_have_no_partition() -> None:
    keys = partitions_of(market(["ACME"])).get_partition_keys()

    assert "2024-01-12|ACME" in keys
    assert not {"2024-01-13|ACME", "2024-01-15|ACME"} & set(keys)


def test_sessions_that_begin_the_evening_before_are_keyed_by_their_own_date() -> None:
    keys = partitions_of(market(["ESH4"], calendar="CME_GLOBEX")).get_partition_keys()

    assert keys[:2] == ["2024-01-02|ESH4", "2024-01-03|ESH4"]
    assert "2024-01-07|ESH4" not in keys


def test_market_with_too_many_keys_names_the_size_that_fits() -> None:
    with pytest.raises(ValueError, match=r"at most 100,000 partitions in market shares, was .* at most 1\d symbols"):
        partitions_of(market([f"S{n}" for n in range(30)], date(2010, 1, 1), "24/7"))


def test_keys_of_a_rectangle_become_its_symbols_and_dates() -> None:
    keys = [f"2024-01-0{day}|{symbol}" for day in (3, 2) for symbol in ("BOLT", "ACME")]

    assert selection_of(keys) == Selection(["ACME", "BOLT"], [date(2024, 1, 2), date(2024, 1, 3)])


def test_keys_that_leave_out_a_corner_are_refused() -> None:
    with pytest.raises(dg.Failure, match="was 3 keys of 2 symbols × 2 sessions"):
        selection_of(["2024-01-02|ACME", "2024-01-02|BOLT", "2024-01-03|ACME"])


@pytest.mark.parametrize("symbols", [["ACME"], ["ACME", "BOLT"]])
@pytest.mark.parametrize("days", [1, 3])
def test_tags_of_a_rectangle_select_its_keys(symbols: list[str], days: int) -> None:
    shares = market(["ACME", "BOLT"])
    partitions, selection = partitions_of(shares), Selection(symbols, list(shares.sessions.dates[:days]))

    assert selection_of(tagged_keys(range_tags(selection), partitions)) == selection
