"""A store for every test that asks for one: on SQLite, and again on PostgreSQL."""

from contextlib import closing

import pytest

from helpers.databases import KINDS, database
from meta.store import Store


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    with database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def store(url):
    with closing(Store(url)) as store:
        store.upgrade()
        yield store
