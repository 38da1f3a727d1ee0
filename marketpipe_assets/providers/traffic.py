"""What a provider was asked and what it answered, counted from its first request on."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from math import inf

LATENCY_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, inf)


class Wait(StrEnum):
    """Why a request was not sent at once."""

    QUOTA = "async"
    """The quota that is kept here had no place for it."""
    TOLD = "retry_after"
    """The vendor answered that its quota is used up."""


@dataclass
class Traffic:
    """Attempts, failures by class, waits by reason, seconds from sending to the headers of an answer.

    `waited` also has the seconds between attempts that failed for another reason than the quota.
    """

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    waits: Counter[Wait] = field(default_factory=Counter)
    waited: float = 0.0
    latency: Counter[float] = field(default_factory=Counter)
    """Answers by the least of `LATENCY_BOUNDS` that they took no longer than."""
    latency_sum: float = 0.0
    bytes: int = 0
    filler_rows: int = 0
    """Rows of minutes without a trade that the vendor made up, and that were dropped."""

    def count_answer(self, seconds: float) -> None:
        self.latency[LATENCY_BOUNDS[bisect_left(LATENCY_BOUNDS, seconds)]] += 1
        self.latency_sum += seconds

    @property
    def histogram(self) -> Mapping[str, int]:
        """Upper bound in seconds, as Prometheus writes it → answers that took no longer."""
        counts = accumulate(self.latency[bound] for bound in LATENCY_BOUNDS)
        names = ("+Inf" if bound == inf else f"{bound:g}" for bound in LATENCY_BOUNDS)
        return dict(zip(names, counts, strict=True))
