"""Gives each transaction, and so each revision, a unique identity: after a failover, its number may be assigned again."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("revision", sa.Column("identity", sa.Text, nullable=False, server_default=""))
    op.add_column("head", sa.Column("revision_identity", sa.Text, nullable=False, server_default=""))
    op.add_column("head", sa.Column("position", sa.BigInteger, nullable=False, server_default="0"))
    log = op.create_table(
        "commit_log",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("identity", sa.Text, nullable=False),
    )
    op.bulk_insert(log, [{"position": 0, "identity": secrets.token_hex(8)}])
