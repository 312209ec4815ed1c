"""The tables after the newest migration. Nothing is created from these definitions; a test compares them."""

import sqlalchemy as sa

metadata = sa.MetaData()

head = sa.Table(
    "head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("hosts", sa.BigInteger, nullable=False),
    sa.Column("folded", sa.BigInteger, nullable=False),  # serial of the latest heartbeat batch that was deleted
    sa.Column(
        "revision_identity", sa.Text, nullable=False, server_default=""
    ),  # also here, so that followers read only this table
    sa.Column("position", sa.BigInteger, nullable=False, server_default="0"),  # of the last transaction, of any kind
)
commit_log = sa.Table(  # the last some thousand transactions
    "commit_log",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "identity", sa.Text, nullable=False
    ),  # random; after a failover that lost commits a position may have another
)
revision = sa.Table(
    "revision",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False, server_default=""),  # of its transaction; "" before there were any
)
change = sa.Table(
    "change",
    metadata,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("agent", sa.Text, nullable=False, index=True),  # that it is about; "" for labels
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("before", sa.Text),  # JSON
    sa.Column("after", sa.Text),
)
record = sa.Table(
    "agent_record",  # `record` before 0005, when metas read versions and digests apart
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON, as a records file spells it
    sa.Column("revision", sa.Integer, nullable=False),
)
ban = sa.Table(
    "ban",
    metadata,
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
label = sa.Table(
    "label",
    metadata,
    sa.Column("hostname", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # JSON
    sa.Column("revision", sa.Integer, nullable=False),
)
tarball = sa.Table(
    "tarball",
    metadata,
    sa.Column("file", sa.Text, primary_key=True),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("md5", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
token = sa.Table(
    "token",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("pattern", sa.Text, nullable=False),
    sa.Column("revoked", sa.Double, nullable=False),
    sa.Column("reenrol", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)
host_token = sa.Table(
    "host_token",
    metadata,
    sa.Column("hostname", sa.Text, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),  # blank: revoked
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("serial", sa.BigInteger, nullable=False, index=True),
)
host = sa.Table(
    "host",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),  # never used again: batches may still name it
    sa.Column("hostname", sa.Text, nullable=False, unique=True),
    sa.Column("first_seen", sa.Double, nullable=False),
    sa.Column("last_seen", sa.Double, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("updater_version", sa.Text, nullable=False),
    sa.Column("agents", sa.Text, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
    sa.Column("outcomes", sa.Text, nullable=False),
    sa.Column("retired_at", sa.Double, nullable=False),
    sa.Column("serial", sa.BigInteger, nullable=False),  # no index: it would double what a change costs
    sa.Column("meta", sa.Text, nullable=False),  # that wrote it last; for people who look
    sqlite_autoincrement=True,
)
beat = sa.Table(
    "beat",
    metadata,
    sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("meta", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False, index=True),
    sa.Column("seen", sa.LargeBinary, nullable=False),  # ids of hosts, uint32 little-endian
    sa.Column("changed", sa.LargeBinary, nullable=False),  # whose rows were written with it
    sa.Column("gone", sa.LargeBinary, nullable=False),  # that were forgotten
)
