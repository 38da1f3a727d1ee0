"""Every test of the catalogue runs on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets_tests.postgres import HAS_POSTGRES, MISSING, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    if not HAS_POSTGRES:
        pytest.skip(MISSING)
    with postgres_server() as url:
        yield url.replace("postgresql:", "postgresql+psycopg2:")


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalogue."""
    if request.param == "sqlite":
        catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    else:
        catalog = Catalog(request.getfixturevalue("server"))
        with catalog.engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    yield catalog
    catalog.dispose()
