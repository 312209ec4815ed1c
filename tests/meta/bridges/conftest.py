"""A ZooKeeper for each module that wants one, and a place in it for each test."""

import pytest

from helpers.zookeeper import ZooKeeper


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory):
    with ZooKeeper(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def root(request):
    return f"/elves-{abs(hash(request.node.name))}"
