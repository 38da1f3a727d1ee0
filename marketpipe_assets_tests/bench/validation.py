"""What judging by every rule costs beside the plain polars expressions of the same rules, as script.py writes them.

Both judge the same bars in one call, in one process, in turns; the least CPU of the turns counts. Both must put the
same bars aside for the same reasons.
"""

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from marketpipe_assets.bars.quarantine import split_by_rules
from marketpipe_assets.bars.rules import RuleSet
from marketpipe_assets_tests.bench import script
from marketpipe_assets_tests.bench.case import Case
from marketpipe_assets_tests.bench.entry import Entry
from marketpipe_assets_tests.bench.measure import Cost, best, timed
from marketpipe_assets_tests.bench.options import Options
from marketpipe_assets_tests.bench.pipeline import FAULTS, DifferentWorkError

NAMES = {"validate_vs_expressions": {}, "validate_vs_expressions_with_faults": FAULTS}


def measured(options: Options) -> Iterator[Entry]:
    """Clean bars, and bars with faults."""
    for name, faults in NAMES.items():
        case = Case(symbol_count=options.symbols, session_count=options.sessions, faults=faults)
        ours, theirs = costs(case, options.turns)
        each = ours.cpu * 1000 / case.symbol_days
        yield Entry(name, each, "ms CPU per symbol-day", ours.cpu / theirs.cpu, "the rules as plain expressions")


def costs(case: Case, turns: int) -> tuple[Cost, Cost]:
    """Of the product and of the expressions. Raises `DifferentWorkError` where their verdicts differ."""
    raw = case.sessions.assign(case.vendor_bars)
    frame, keys, codes = script.assigned(case.vendor_bars, script.hours_of(case.sessions.table, case.sessions.timezone))
    product = partial(split_by_rules, raw, RuleSet("equity"), case.sessions)
    expressions = partial(script.judged, frame, keys, codes)
    split, verdict = product(), expressions()
    if split.quarantined["broken_rules"].to_list() != pa.array(verdict.broken).to_pylist():
        raise DifferentWorkError("the expressions put other bars aside, or for other reasons")
    pairs = [(timed(product), timed(expressions)) for _ in range(turns)]
    ours, theirs = (best([pair[way] for pair in pairs]) for way in range(2))
    return ours, theirs
