"""The database: migrations make the tables, by whichever process comes first."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import MIGRATIONS, Catalog, CatalogError, head
from marketpipe_assets.catalog.tables import alerts, metadata, symbol_days
from marketpipe_assets_tests.metrics.ledger import hold

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def alert(key: str, sent_at: datetime = NOON, times: int = 1) -> pl.DataFrame:
    return pl.DataFrame({"key": [key], "sent_at": [sent_at], "times": [times]})


def test_migrations_make_the_tables_that_the_code_knows(catalog: Catalog) -> None:
    catalog.migrate()

    with catalog.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert catalog.revision() == head()


def test_a_catalogue_of_the_first_version_keeps_its_rows(catalog: Catalog) -> None:
    hold(catalog, "ACME", NOON.date())
    with catalog.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE symbol_days DROP COLUMN settled_at"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))

    rows = Catalog(catalog.url.render_as_string(hide_password=False)).frame(sa.select(symbol_days))

    assert rows.select("symbol", "expected", "settled_at").rows() == [("ACME", 390, None)]


def test_migrations_are_named_in_their_order() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [head()]


def test_a_new_database_has_no_revision(catalog: Catalog) -> None:
    assert catalog.revision() is None


def test_a_database_of_a_later_version_is_refused(catalog: Catalog) -> None:
    catalog.migrate()
    with catalog.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))

    with pytest.raises(CatalogError, match="expected a catalogue of this version or an earlier one"):
        Catalog(catalog.url.render_as_string(hide_password=False)).migrate()


def test_processes_that_meet_at_a_new_database_both_find_it_made(catalog: Catalog) -> None:
    url = catalog.url.render_as_string(hide_password=False)
    script = f"from marketpipe_assets.catalog.store import Catalog; Catalog({url!r}).migrate()"

    both = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(3)]

    assert [(each.communicate()[1], each.returncode) for each in both] == [("", 0)] * 3
    assert catalog.revision() == head()


def test_instants_come_back_aware_and_in_utc(catalog: Catalog) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=-5)))
    with catalog.begin() as connection:
        upsert(connection, alerts, alert("a", local.astimezone(UTC)))

    assert catalog.frame(sa.select(alerts.c.sent_at)).item() == NOON


def test_instants_are_stored_as_sqlalchemy_stores_them(catalog: Catalog) -> None:
    odd = NOON + timedelta(microseconds=7)
    with catalog.begin() as connection:
        upsert(connection, alerts, alert("ours", odd))
        connection.execute(sa.insert(alerts).values(key="theirs", sent_at=odd, times=1))
        stored = connection.exec_driver_sql("SELECT sent_at FROM alerts ORDER BY key").scalars().all()

    assert stored[0] == stored[1]
    assert catalog.frame(sa.select(alerts.c.sent_at))["sent_at"].to_list() == [odd, odd]


def test_instants_without_a_time_zone_are_refused(catalog: Catalog) -> None:
    with pytest.raises(TypeError, match="was sent_at without one"), catalog.begin() as connection:
        upsert(connection, alerts, alert("a", NOON.replace(tzinfo=None)))


def test_a_row_with_the_same_key_takes_the_place_of_the_one_before(catalog: Catalog) -> None:
    with catalog.begin() as connection:
        upsert(connection, alerts, pl.concat([alert("a"), alert("b")]))
        upsert(connection, alerts, alert("b", times=2))

    assert catalog.frame(sa.select(alerts.c.key, alerts.c.times).order_by(alerts.c.key)).rows() == [("a", 1), ("b", 2)]


def test_what_raises_in_a_transaction_is_not_kept(catalog: Catalog) -> None:
    with pytest.raises(ZeroDivisionError), catalog.begin() as connection:
        upsert(connection, alerts, alert("a", times=1 // _nothing(connection)))

    assert catalog.frame(sa.select(alerts)).is_empty()


def _nothing(connection: sa.Connection) -> int:
    upsert(connection, alerts, alert("b"))
    return 0


def test_a_reader_does_not_wait_for_a_writer(catalog: Catalog) -> None:
    with catalog.begin() as connection:
        upsert(connection, alerts, alert("a"))

        assert catalog.frame(sa.select(alerts)).is_empty()


def test_a_catalogue_does_not_show_its_password() -> None:
    assert "hush" not in repr(Catalog("postgresql+psycopg2://user:hush@localhost/bars"))


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    Catalog(f"sqlite:///{tmp_path}/new/catalog.sqlite")

    assert list(tmp_path.iterdir()) == []
