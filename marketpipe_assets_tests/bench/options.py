"""How much is measured."""

from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """`turns` of what is compared; the least of them counts. `folder` is where to write; None: a temporary one."""

    symbols: int = 20
    sessions: int = 60
    turns: int = 12
    dagster_runs: int = 3
    folder: Path | None = None
    arctic: Path | None = None
