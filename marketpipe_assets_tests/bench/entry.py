"""A figure of bench.json: what was measured, and how it compares with its reference in the same run."""

from typing import NamedTuple


class Entry(NamedTuple):
    """`ratio` is the value's to that of the reference, or as many times better as the unit says."""

    name: str
    value: float
    unit: str
    ratio: float
    reference: str

    def written(self) -> dict[str, str | float]:
        """What bench.json holds of it."""
        return {"name": self.name, "value": round(self.value, 4), "unit": self.unit, "ratio": round(self.ratio, 4)}
