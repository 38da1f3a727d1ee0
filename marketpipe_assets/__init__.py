"""Minute bars as a Dagster asset graph. This module imports nothing, so that importing one part costs only that part.

Imports go one way: `bars` ← `providers`, `lake`, `catalog` ← `defs` ← entry points (`definitions`, `query` with
`as_of`, `metrics`, `cli`), which read `config`. What `config` is made of stands beside it: `marked_yaml`,
`amendment_files` (waivers and repairs), `calendar_files` (hours that were computed before), `upkeep` (what runs by
itself); `guesses` is for misspelt words. `reports`, `alerts` and `logs` are how runs
speak to people.
`event_storage` and `run_launcher` stand apart: Dagster loads them, where its instance's settings name them.
"""
