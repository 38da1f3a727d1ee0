"""Which alerts were sent, so that one trouble is told once."""

from datetime import datetime, timedelta

import polars as pl
import sqlalchemy as sa

from marketpipe_assets.catalog.rows import upsert
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import alerts


def is_due(catalog: Catalog, key: str, now: datetime, repeat: timedelta) -> bool:
    """Whether an alert was not sent within the last `repeat`."""
    with catalog.reading() as connection:
        sent_at = connection.scalar(sa.select(alerts.c.sent_at).where(alerts.c.key == key))
    return sent_at is None or sent_at + repeat <= now


def note_sent(catalog: Catalog, key: str, now: datetime) -> None:
    """Count one more time that an alert was sent."""
    with catalog.begin() as connection:
        times = connection.scalar(sa.select(alerts.c.times).where(alerts.c.key == key)) or 0
        upsert(connection, alerts, pl.DataFrame([{"key": key, "sent_at": now, "times": times + 1}]))
