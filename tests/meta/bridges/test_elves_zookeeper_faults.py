"""Against a real ZooKeeper: what goes wrong for one agent, at the start, in the middle of a step, and in the server."""

import json
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, READ_ACL_UNSAFE
from test_elves_zookeeper import instance, registered

from helpers.proxy import proxied
from helpers.zookeeper import ZooKeeper
from lab.fleet import until
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.translator import Agent
from meta.bridges.elves.zookeeper.writes import Writes


@contextmanager
def connected(hosts: str):
    client = KazooClient(hosts, timeout=5)
    client.start(20)
    with closing(client):
        yield client
        client.stop()


@pytest.fixture
def client(zookeeper):
    with connected(zookeeper.hosts) as client:
        yield client


def agent(ip: str, **apps: str) -> Agent:
    return Agent(ip, "CX1", "0.4.3", apps or {"a": "1"}, time.time())


def many(but: Agent) -> list[Agent]:
    """Forty agents, this one in the middle of them."""
    return [agent(f"10.0.0.{n}") for n in range(20)] + [but] + [agent(f"10.0.1.{n}") for n in range(19)]


BAD = {
    "a path that is none": agent("."),
    "a path above": agent(".."),
    "a NUL in the path": agent("10.0.0.9\0"),
    "a node too large": agent("10.0.0.99", **{f"app{n}": "9" * 128 for n in range(9_000)}),
    "a node of another's": agent("10.9.9.9"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_fails_for_one_agent_costs_this_agent_only_and_is_tried_again(client, root, case, caplog):
    client.ensure_path(f"{root}/agent")
    client.create(f"{root}/agent/10.9.9.9", b"", acl=READ_ACL_UNSAFE)
    numbers = Numbers()
    writes = Writes(root, numbers, set_aside=0.1)
    for one in many(BAD[case]):
        writes.note(one)
    assert writes.write(client) == "", "the connection stays"
    assert len(client.get_children(f"{root}/agent")) == 39 + 1
    assert (numbers.get("agents_shared"), numbers.get("agents_not_shared"), len(writes)) == (39, 1, 1)
    assert "is not shared through ZooKeeper, tried again in 0.1 s: " in caplog.text
    writes.note(agent("10.0.0.100"))
    writes.write(client)
    assert client.exists(f"{root}/agent/10.0.0.100"), "the next one is not kept waiting"
    until("it is tried again", lambda: writes.write(client) or numbers.get("agents_not_shared") == 2)


def test_what_failed_is_written_when_it_can_be(client, root):
    path = f"{root}/agent/10.9.9.9"
    client.ensure_path(f"{root}/agent")
    client.create(path, b"", acl=READ_ACL_UNSAFE)
    writes = Writes(root, Numbers(), set_aside=0.1)
    writes.note(agent("10.9.9.9"))
    writes.write(client)
    client.delete(path)
    client.create(path, b"", acl=OPEN_ACL_UNSAFE)
    until("it is written", lambda: writes.write(client) or client.get(path)[0])
    assert json.loads(client.get(path)[0])["agent"]["ip"] == "10.9.9.9" and not len(writes)


def test_two_instances_that_write_the_same_new_agents_at_once(client, root, zookeeper):
    client.ensure_path(f"{root}/agent")
    both = [Writes(root, Numbers()) for _ in range(2)]
    for writes in both:
        for number in range(400):
            writes.note(agent(f"10.0.{number >> 8}.{number & 255}"))

    def work(writes: Writes) -> None:
        with connected(zookeeper.hosts) as own:
            until("all are written", lambda: writes.write(own) or not len(writes))

    threads = [threading.Thread(target=work, args=(writes,)) for writes in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(client.get_children(f"{root}/agent")) == 400
    assert [writes._numbers.get("agents_not_shared") for writes in both] == [0, 0]


@pytest.mark.long
def test_an_agent_whose_node_breaks_the_connection_is_found(tmp_path):
    with ZooKeeper(tmp_path / "zk", max_buffer=20_000) as server, instance(server.hosts, "/elves") as one:
        until("connected", lambda: one.sharing.is_connected)
        for known in many(agent("10.9.9.9", **{f"app{n}": "9" * 100 for n in range(300)})):
            one.sharing.note(known)
        with connected(server.hosts) as client:
            until(
                "all others",
                lambda: (
                    client.exists("/elves/heartbeat/agent") and len(client.get_children("/elves/heartbeat/agent")) == 39
                ),
            )
        until("and it is set aside", lambda: one.sharing._writes._set_aside.keys() == {"10.9.9.9"})


def away(caplog) -> list[str]:
    return [line for line in caplog.messages if "is away, trying again" in line]


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        ("127.0.0.1:9", "Connection refused"),
        ("no-such-host.invalid:2181", "Cannot resolve no-such-host.invalid"),
        ("no-such-host.invalid:2181,nor-this.invalid:2181", "Cannot resolve"),
    ],
)
def test_away_from_the_start_it_is_said_once_with_the_reason(hosts, reason, caplog):
    with instance(hosts, "/elves") as one:
        until("it is said", lambda: away(caplog))
        began = time.monotonic()
        until("and tried again", lambda: time.monotonic() - began > 2)
        assert reason in one.sharing.trouble
    lines = away(caplog)
    assert (
        len(lines) <= hosts.count(":") and lines[0].startswith(f"ZooKeeper at {hosts} is away") and reason in lines[0]
    )


def test_a_server_that_refuses_our_node_is_reported_as_one_that_is_away(zookeeper, client, root, caplog):
    client.create(root, b"", acl=READ_ACL_UNSAFE)
    with instance(zookeeper.hosts, root) as one:
        one.beat("10.0.0.1")
        until("the reason", lambda: one.sharing.trouble == "does not register this instance: NoAuthError")
        began = time.monotonic()
        until("it is tried again", lambda: time.monotonic() - began > 2.5)
        assert [line for line in caplog.messages if "does not register this instance" in line] == [
            f"ZooKeeper at {zookeeper.hosts} does not register this instance, trying again: NoAuthError"
        ]
        client.delete(root)
        until("the agent is shared", lambda: client.exists(f"{root}/heartbeat/agent/10.0.0.1"))
        until("all is well", lambda: one.sharing.trouble == "")


def test_a_server_that_comes_later_is_found(tmp_path, caplog):
    server = ZooKeeper(tmp_path / "zk")
    with instance(server.hosts, "/elves") as one:
        until("it is said", lambda: away(caplog))
        with server:
            until("connected", lambda: one.sharing.is_connected)


@contextmanager
def something_else(port: int, says: bytes):
    """A server that is no ZooKeeper, on this port."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        asked = threading.Event()

        def work() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(says)
                    asked.set()

        thread = threading.Thread(target=work)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.long
@pytest.mark.parametrize("says", [b"AMQP\0\0\x09\x01", b"\0\0\0\4oops", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_another_service_in_its_place_is_outlived(tmp_path, caplog, says):
    server = ZooKeeper(tmp_path / "zk")
    with instance(server.hosts, "/elves") as one:
        one.beat("10.0.0.1")
        with something_else(server.port, says) as asked:
            until("the trouble is said", lambda: asked.is_set() and away(caplog))
        with server, connected(server.hosts) as client:
            until("ZooKeeper is there now", lambda: client.exists("/elves/heartbeat/agent/10.0.0.1"))


@pytest.mark.long
def test_a_server_that_has_lost_its_data_is_served_again(tmp_path):
    with ZooKeeper(tmp_path / "zk") as server, instance(server.hosts, "/elves") as one:
        one.beat("10.0.0.1")
        until("registered and written", lambda: one.sharing._registered_in and not len(one.sharing._writes))
        for number in range(50):
            one.beat(f"10.0.1.{number}")
        until("written", lambda: not len(one.sharing._writes))
        server.kill()
        server.forget()
        server.start()
        with connected(server.hosts) as client:
            until("what we heard is there again", lambda: client.exists("/elves/heartbeat/agent/10.0.1.49"))
            assert len(registered(client, "/elves")) == 1


def test_a_node_whose_creation_was_cut_off_is_found(zookeeper, client, root):
    client.ensure_path(f"{root}/heartbeat/agent")
    with proxied(zookeeper.port) as proxy:
        proxy.hold_after(b"/heartbeat/\0\0\0\0")  # the request that creates it
        with instance(f"127.0.0.1:{proxy.port}", root) as one:
            (made,) = until("the server has made it", lambda: registered(client, root))
            assert not one.sharing._registered_in
            proxy.cut()
            until("registered", lambda: one.sharing._registered_in)
            assert registered(client, root) == [made]


@pytest.mark.long
def test_a_node_of_ours_that_was_deleted_is_made_again(zookeeper, client, root):
    with instance(zookeeper.hosts, root, look_every=0.2):
        (name,) = until("registered", lambda: registered(client, root))
        client.delete(f"{root}/heartbeat/{name}")
        until("registered again", lambda: registered(client, root) not in ([], [name]))
