"""Creates the table of hosts, with the last report of each."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "host",
        sa.Column("hostname", sa.String(253), primary_key=True),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("updater_version", sa.String(64), nullable=False),
        sa.Column("agents", sa.Text, nullable=False),
        sa.Column("outcomes", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("host")
