"""A PostgreSQL server of the test's own. Where its programs are missing a test is skipped and says so; in CI it fails."""

import os

import pytest

from lab import postgresql


def need_postgresql() -> None:
    try:
        postgresql.programs()
    except postgresql.NoPostgresql as e:
        if os.environ.get("CI"):
            pytest.fail(str(e))
        pytest.skip(str(e))


class Cluster(postgresql.Cluster):
    """Ended and removed by `with`."""

    def __init__(self) -> None:
        need_postgresql()
        super().__init__()
