"""Which versions of Dagster the storages were tested with, and what is said about others."""

import logging
from functools import cache

TESTED = ("1.13.27", "1.13.28")
"""A version is added once the tests and `python -m marketpipe_assets_tests.event_storage` pass on it."""

log = logging.getLogger(__name__)


@cache
def is_tested(version: str) -> bool:
    """False is also said in the log, once per process."""
    if version in TESTED:
        return True
    log.warning(
        "Events are stored one by one, by Dagster's own storage: batches were tested with Dagster %s, this is %s",
        ", ".join(TESTED),
        version,
    )
    return False
