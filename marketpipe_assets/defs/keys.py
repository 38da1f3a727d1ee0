"""Partition keys that are made once. Which partitions a market has is in partitions.py."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg
from dagster._core.definitions.partitions.utils import MultiPartitionKey
from dagster._core.instance import DynamicPartitionsStore


class RememberedPartitions(dg.MultiPartitionsDefinition):
    """Dagster's, which makes a key object of every partition each time it is asked. A run asks at every step, input,
    output and check: 160,000 objects for 1,200 partitions of a market of 14,500, a seventh of the run.
    """

    # each in one assignment: threads of a code server ask at the same time
    _all: tuple[str | None, Sequence[MultiPartitionKey]] = (None, ())
    _last: tuple[dg.PartitionKeyRange | None, Sequence[str]] = (None, ())

    def get_partition_keys(
        self, current_time: datetime | None = None, dynamic_partitions_store: DynamicPartitionsStore | None = None
    ) -> Sequence[MultiPartitionKey]:
        """Made anew when a session has been added; days follow one another, so that the last one tells."""
        with dg.partition_loading_context(current_time, dynamic_partitions_store):
            last = self.get_partitions_def_for_dimension("date").get_last_partition_key()
            up_to, keys = self._all
            if up_to != last:
                keys = super().get_partition_keys(current_time, dynamic_partitions_store)
                self._all = last, keys
        return list(keys)

    def get_partition_keys_in_range(  # type: ignore[override]  # as Dagster's own, which narrows it
        self, partition_key_range: dg.PartitionKeyRange, dynamic_partitions_store: DynamicPartitionsStore | None = None
    ) -> Sequence[str]:
        """Those of the last range that was asked for are kept; its ends exist, so that none can come between."""
        of_range, keys = self._last
        if of_range != partition_key_range:
            keys = super().get_partition_keys_in_range(partition_key_range, dynamic_partitions_store)
            self._last = partition_key_range, keys
        return list(keys)
