"""Minute bars as a Dagster asset graph. This module imports nothing, so that importing one part costs only that part.

Imports go one way: `bars` ← `providers`, `lake`, `catalog` ← `defs` ← entry points (`definitions`, `query`, `metrics`,
`cli`), which read `config`. `event_storage` stands apart: Dagster loads it, where its instance's settings name it.
"""
