"""One Postgres server for the tests of this folder, skipped where there is none."""

from collections.abc import Iterator

import pytest

from marketpipe_assets_tests.postgres import HAS_POSTGRES, MISSING, Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    if not HAS_POSTGRES:
        pytest.skip(MISSING)
    with running_server() as started:
        yield started
