import sqlite3
from pathlib import Path

from marketpipe_assets.catalog.store import head
from marketpipe_assets_tests.cli.command import configured, marketpipe


def test_a_catalogue_is_made_once_and_then_left_alone(tmp_path: Path) -> None:
    path = configured(tmp_path)

    first, second = (marketpipe("migrate", "--config", path).stdout for _ in range(2))

    assert first == f"sqlite:///{tmp_path}/catalog.sqlite is at {head()}, was at nothing\n"
    assert second == f"sqlite:///{tmp_path}/catalog.sqlite is at {head()}\n"


def test_a_catalogue_of_something_else_is_told_in_a_line(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "catalog.sqlite")
    with database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('of another program')")
    database.close()

    result = marketpipe("migrate", "--config", configured(tmp_path))

    assert result.exit_code == 1
    assert "of another program" in result.stderr
    assert result.stderr.count("\n") == 1
