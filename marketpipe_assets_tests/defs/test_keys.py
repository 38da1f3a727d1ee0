"""Keys that are remembered are those Dagster makes, and none is missing when a day begins."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from marketpipe_assets.defs.keys import RememberedPartitions

DIMENSIONS = {
    "date": dg.DailyPartitionsDefinition("2024-01-02", end_offset=1),
    "symbol": dg.StaticPartitionsDefinition(["ACME", "BOLT"]),
}
STOCK = dg.MultiPartitionsDefinition(DIMENSIONS)
THURSDAY, FRIDAY = datetime(2024, 1, 4, 12, tzinfo=UTC), datetime(2024, 1, 5, 12, tzinfo=UTC)


def test_the_definition_is_the_same_to_dagster() -> None:
    remembered = RememberedPartitions(DIMENSIONS)

    assert remembered == STOCK
    assert remembered.get_serializable_unique_identifier() == STOCK.get_serializable_unique_identifier()


def test_keys_are_those_of_dagster_before_and_after_midnight() -> None:
    remembered = RememberedPartitions(DIMENSIONS)

    for now in (THURSDAY, THURSDAY, FRIDAY, FRIDAY, THURSDAY):
        assert remembered.get_partition_keys(now) == STOCK.get_partition_keys(now)
    assert len(remembered.get_partition_keys(FRIDAY)) == len(remembered.get_partition_keys(THURSDAY)) + 2


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2024-01-02|ACME", "2024-01-04|BOLT"),
        ("2024-01-03|BOLT", "2024-01-03|BOLT"),
        ("2024-01-03|BOLT", "2024-01-02|ACME"),
    ],
)
def test_ranges_are_those_of_dagster(first: str, last: str) -> None:
    remembered = RememberedPartitions(DIMENSIONS)
    remembered.get_partition_keys_in_range(dg.PartitionKeyRange("2024-01-02|ACME", "2024-01-02|ACME"))
    chosen = dg.PartitionKeyRange(first, last)

    for _ in range(2):
        assert remembered.get_partition_keys_in_range(chosen) == STOCK.get_partition_keys_in_range(chosen)


def test_keys_are_made_once() -> None:
    remembered = RememberedPartitions(DIMENSIONS)
    chosen = dg.PartitionKeyRange("2024-01-02|ACME", "2024-01-04|BOLT")

    all_keys = [remembered.get_partition_keys(FRIDAY) for _ in range(2)]
    ranges = [remembered.get_partition_keys_in_range(chosen) for _ in range(2)]

    for one, other in (all_keys, ranges):
        assert all(first is second for first, second in zip(one, other, strict=True))
        assert one is not other
