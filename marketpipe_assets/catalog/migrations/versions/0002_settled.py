"""When an answer that came too early had been published, if a later one was the same."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("symbol_days", sa.Column("settled_at", sa.DateTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("symbol_days", "settled_at")
