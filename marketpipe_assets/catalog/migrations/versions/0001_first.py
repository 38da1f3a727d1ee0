"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("sent_at", sa.DateTime(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "asked",
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("session_date", sa.Date(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_asked_at", sa.DateTime(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("market", "symbol", "session_date"),
    )
    op.create_table(
        "group_members",
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("market", "symbol"),
    )
    op.create_table(
        "intents",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("symbols", sa.Text(), nullable=False),
        sa.Column("dates", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "market"),
    )
    op.create_table(
        "pruned",
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("table_name", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("through", sa.Date(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("market", "table_name", "symbol", "period"),
    )
    op.create_table(
        "requests",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Text(), nullable=False),
        sa.Column("latency", sa.Text(), nullable=False),
        sa.Column("latency_sum", sa.Float(), nullable=False),
        sa.Column("waits", sa.Text(), nullable=False),
        sa.Column("waited", sa.Float(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "market", "provider", "feed"),
    )
    op.create_index(op.f("ix_requests_at"), "requests", ["at"], unique=False)
    op.create_table(
        "restatements",
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("session_date", sa.Date(), nullable=False),
        sa.Column("superseded_at", sa.DateTime(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("bars_before", sa.Integer(), nullable=False),
        sa.Column("bars_after", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("largest_change", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("market", "symbol", "session_date", "superseded_at"),
    )
    op.create_table(
        "run_counts",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "market", "operation", "provider", "feed", "name"),
    )
    op.create_index(op.f("ix_run_counts_at"), "run_counts", ["at"], unique=False)
    op.create_table(
        "run_seconds",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "market", "operation", "provider"),
    )
    op.create_index(op.f("ix_run_seconds_at"), "run_seconds", ["at"], unique=False)
    op.create_table(
        "symbol_days",
        sa.Column("market", sa.String(length=64), nullable=False),
        sa.Column("session_date", sa.Date(), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("feed", sa.String(length=64), nullable=True),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("valid", sa.Integer(), nullable=False),
        sa.Column("quarantined", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("no_trade", sa.Integer(), nullable=False),
        sa.Column("halt", sa.Integer(), nullable=False),
        sa.Column("vendor_gap", sa.Integer(), nullable=False),
        sa.Column("not_yet_published", sa.Integer(), nullable=False),
        sa.Column("not_listed", sa.Integer(), nullable=False),
        sa.Column("raw_bars", sa.Integer(), nullable=False),
        sa.Column("valid_bars", sa.Integer(), nullable=False),
        sa.Column("quarantined_bars", sa.Integer(), nullable=False),
        sa.Column("holes", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.String(length=16), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("fetched_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("market", "session_date", "symbol"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "symbol_days_without_bars",
        "symbol_days",
        ["market", "symbol", "session_date"],
        unique=False,
        sqlite_where=sa.text("received = 0"),
        postgresql_where=sa.text("received = 0"),
    )
    op.create_index(
        "symbol_days_by_symbol",
        "symbol_days",
        ["market", "symbol", "session_date", "received"],
        unique=False,
    )
    op.create_index(
        "symbol_days_with_gaps",
        "symbol_days",
        ["market", "session_date", "symbol"],
        unique=False,
        sqlite_where=sa.text("vendor_gap + not_yet_published > 0"),
        postgresql_where=sa.text("vendor_gap + not_yet_published > 0"),
    )
    op.create_index(
        "symbol_days_with_holes",
        "symbol_days",
        ["market", "session_date"],
        unique=False,
        sqlite_where=sa.text("missing > 0"),
        postgresql_where=sa.text("missing > 0"),
    )


def downgrade() -> None:
    bind = op.get_bind()
    for name in sa.inspect(bind).get_table_names():
        if name != "alembic_version":
            op.drop_table(name)
