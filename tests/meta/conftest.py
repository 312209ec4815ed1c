"""A store for every test that asks for one: on SQLite, and again on PostgreSQL.
And a meta for each module that wants one, with its first admin, or for one test."""

from contextlib import closing

import pytest

from helpers.databases import KINDS, database
from helpers.meta_people import Own, first_admin
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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its records live in its database."""
    with Own(tmp_path_factory.mktemp("meta")) as server:
        yield server


@pytest.fixture(scope="module")
def boss(server, tmp_path_factory):
    """The first admin of the module's meta, which is its `server`."""
    boss = first_admin(server, tmp_path_factory.mktemp("boss"))
    boss.server = server
    return boss


@pytest.fixture
def boss_alone(tmp_path):
    """The first admin of a meta, its `server`, that no other test uses: for what all its hosts, or the revisions' numbers,
    have a part in."""
    (tmp_path / "meta/tarballs").mkdir(parents=True)
    with Own(tmp_path / "meta", "--tarballs", "tarballs") as server:
        boss = first_admin(server, tmp_path / "boss")
        boss.server = server
        yield boss
