"""Against a real ZooKeeper: agents that are shared, the Java module's layout, and lost sessions."""

import json
import time
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient

from helpers.zookeeper import ZooKeeper
from lab.fleet import until
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.translator import Agent
from meta.bridges.elves.zookeeper.shared_agents import Sharing


@pytest.fixture
def client(zookeeper):
    client = KazooClient(zookeeper.hosts, timeout=5)
    client.start(20)
    yield client
    client.stop()
    client.close()


class Instance:
    def __init__(self, hosts: str, root: str, **given: float):
        self.online = OnlineAgents()
        self.sharing = Sharing(hosts, root, 2.0, self.online, Numbers(), **given)

    def beat(self, ip: str, asset: str = "CX1", at: float = 0) -> None:
        agent = Agent(ip, asset, "0.4.3", {"testApp": "1.0.1"}, at or time.time())
        self.online.hear(agent)
        self.sharing.note(agent)

    def ips(self) -> list[str]:
        return [agent.ip for agent in self.online.find("", "", time.time())]


@contextmanager
def instance(hosts: str, root: str, **given: float):
    found = Instance(hosts, root, **given)
    found.sharing.start()
    try:
        yield found
    finally:
        found.sharing.stop()
        assert not found.sharing.is_alive()


def registered(client: KazooClient, root: str) -> list[str]:
    if not client.exists(f"{root}/heartbeat"):
        return []
    return [name for name in client.get_children(f"{root}/heartbeat") if name != "agent"]


def test_the_layout_is_the_java_modules(zookeeper, client, root):
    with instance(zookeeper.hosts, root) as one:
        one.beat("10.0.0.1")
        path = f"{root}/heartbeat/agent/10.0.0.1"
        until("the agent is written", lambda: client.exists(path))
        data, stat = client.get(path)
        node = json.loads(data)
        assert abs(node["checkTime"] / 1000 - time.time()) < 10
        assert node["agent"] == {"id": "CX1", "ip": "10.0.0.1", "version": "0.4.3", "apps": '{"testApp":"1.0.1"}'}
        assert stat.ephemeralOwner == 0, "persistent"
        (name,) = registered(client, root)
        assert name.isdigit() and client.exists(f"{root}/heartbeat/{name}").ephemeralOwner
    until("who stops is no longer registered", lambda: not registered(client, root))
    assert client.exists(path)


def test_two_instances_share_their_agents(zookeeper, client, root):
    with instance(zookeeper.hosts, root) as one, instance(zookeeper.hosts, root) as two:
        one.beat("10.0.0.1")
        two.beat("10.0.0.2")
        both = ["10.0.0.1", "10.0.0.2"]
        until("each knows both", lambda: one.ips() == both == two.ips())
        until("both are registered", lambda: len(registered(client, root)) == 2)
        two.beat("10.0.0.1", "moved")
        until("the later beat counts", lambda: one.online.find("10.0.0.1", "moved", time.time()))


def test_a_java_instance_stands_beside_ours(zookeeper, client, root):
    with instance(zookeeper.hosts, root) as one:
        node = {
            "checkTime": int(time.time() * 1000),
            "agent": {"id": "J", "ip": "10.0.0.9", "version": "1", "apps": "{}"},
        }
        until("registered", lambda: registered(client, root))
        client.create(f"{root}/heartbeat/agent/10.0.0.9", json.dumps(node).encode(), makepath=True)
        until("what Java wrote is known", lambda: one.ips() == ["10.0.0.9"])
        for ip, data in (("10.0.0.8", b"garbage"), ("10.0.0.7", b"")):
            client.create(f"{root}/heartbeat/agent/{ip}", data)
        client.delete(f"{root}/heartbeat/agent/10.0.0.9")
        until("and what it removed is gone", lambda: one.ips() == [])


def test_agents_of_before_are_known_after_a_restart(zookeeper, root):
    with instance(zookeeper.hosts, root) as one:
        one.beat("10.0.0.1")
        until("written", lambda: not one.sharing._writes._pending)
    with instance(zookeeper.hosts, root) as two:
        until("read", lambda: two.ips() == ["10.0.0.1"])


def test_what_was_heard_just_before_the_stop_is_written(zookeeper, client, root):
    with instance(zookeeper.hosts, root) as one:
        until("connected", lambda: one.sharing.is_connected)
        for number in range(700):
            one.beat(f"10.0.1.{number}")
    assert len(client.get_children(f"{root}/heartbeat/agent")) == 700


def test_a_lost_session_is_replaced(zookeeper, client, root):
    with instance(zookeeper.hosts, root) as one:
        until("registered", lambda: registered(client, root))
        before = registered(client, root)
        session, password = one.sharing._client.client_id
        thief = KazooClient(zookeeper.hosts, client_id=(session, password), timeout=2)
        thief.start(20)  # the session moves to another connection, and ends with it
        thief.stop()
        thief.close()
        until("registered again", lambda: registered(client, root) not in ([], before))
        one.beat("10.0.0.1")
        until("and writes", lambda: client.exists(f"{root}/heartbeat/agent/10.0.0.1"))
        with instance(zookeeper.hosts, root) as two:
            two.beat("10.0.0.2")
            until("and reads", lambda: "10.0.0.2" in one.ips())


def test_zookeeper_killed_and_started(tmp_path):
    with (
        ZooKeeper(tmp_path / "zk") as server,
        instance(server.hosts, "/elves") as one,
        instance(server.hosts, "/elves") as two,
    ):
        one.beat("10.0.0.1")
        until("shared", lambda: two.ips() == ["10.0.0.1"])
        server.kill()
        until("away", lambda: not one.sharing.is_connected and not two.sharing.is_connected)
        one.beat("10.0.0.2")
        assert (one.ips(), two.ips()) == (["10.0.0.1", "10.0.0.2"], ["10.0.0.1"]), "each goes on with what it knows"
        server.start()
        began = time.monotonic()
        until("shared again", lambda: two.ips() == ["10.0.0.1", "10.0.0.2"])
        assert time.monotonic() - began < 15


def test_zookeeper_that_is_not_there_stops_nothing(tmp_path, root):
    with instance("127.0.0.1:9", root) as one:
        one.beat("10.0.0.1")
        assert one.ips() == ["10.0.0.1"]
