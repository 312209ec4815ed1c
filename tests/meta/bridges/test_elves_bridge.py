"""`meta elves` as it runs: real processes, a real broker and ZooKeeper, which are killed."""

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pika
import pytest

from helpers.elves import AGENT, RECORDED, Bridge, agent, receive
from helpers.meta_server import MetaServer
from helpers.rabbitmq import Module, Node, connect, names
from helpers.zookeeper import ZooKeeper
from lab.fleet import until
from meta.bridges.fleet import opened
from meta.settings import Settings as MetaSettings
from updater.service import readiness

RECORDS = (
    "agents:\n- {name: testApp, version: 1.0.2, tarball: http://r/a, overrides: [{prefix: CX9, version: 2.0.0}]}\n"
)
SIMPLE = {"auth.mode": "simple", "auth.localAppInfo": "{'app1':'1.0.1'}"}
NOWHERE = {"mq.port": 9}  # nobody listens there
SOON = 15.0  # seconds within which agentInfo answers rightly again


def apps(answer: str) -> dict[str, str]:
    return json.loads(answer)["data"]


def test_our_records_decide_and_the_agents_are_hosts(tmp_path):
    (tmp_path / "records.yaml").write_text(RECORDS)
    with Bridge(tmp_path, NOWHERE, "--records", "records.yaml") as bridge:
        assert apps(bridge.beat()) == {"testApp": "1.0.2"}
        assert apps(bridge.beat(agent(90000))) == {"testApp": "2.0.0"}
        assert bridge.stop(signal.SIGTERM) == 0
        assert bridge.said().endswith("meta elves stopped\n")
    with opened(MetaSettings(database=f"sqlite:///{tmp_path / 'var' / 'meta.db'}")) as fleet:
        table = fleet._table
        assert {name: table.get(name).address for name in table.names()} == {
            "CX0001": AGENT.ip,
            "CX90000": agent(90000).ip,
        }


def test_hangup_reloads_the_records_file(tmp_path):
    (tmp_path / "records.yaml").write_text(RECORDS)
    with Bridge(tmp_path, NOWHERE, "--records", "records.yaml") as bridge:
        (tmp_path / "records.yaml").write_text("agents:\n- {name: ")
        os.kill(bridge.pid, signal.SIGHUP)
        until("the errors are told", lambda: "not reloaded" in bridge.said())
        assert apps(bridge.beat()) == {"testApp": "1.0.2"}
        (tmp_path / "records.yaml").write_text(RECORDS.replace("1.0.2", "1.0.3"))
        os.kill(bridge.pid, signal.SIGHUP)
        until("the new records are in force", lambda: apps(bridge.beat()) == {"testApp": "1.0.3"})


def test_many_hangups_at_once_are_reloads_one_after_another(tmp_path):
    (tmp_path / "records.yaml").write_text(RECORDS)
    options = ("--records", "records.yaml", "--state-file", "state")
    with Bridge(tmp_path, NOWHERE, *options) as bridge:
        began = readiness.now()
        for _ in range(200):
            os.kill(bridge.pid, signal.SIGHUP)
            time.sleep(0.001)  # signals that come together are one
        assert readiness.ask_to_reload(tmp_path / "state", 20).since >= began
        assert "cannot be written" not in bridge.said()


@pytest.mark.long
def test_the_agents_show_in_the_meta_that_serves_the_same_database(tmp_path):
    (tmp_path / "records.yaml").write_text(RECORDS)
    with (
        MetaServer(tmp_path, tmp_path / "records.yaml") as server,
        Bridge(tmp_path / "elves", NOWHERE, "--database", f"sqlite:///{server.database}") as bridge,
    ):
        until("the records of that database decide", lambda: beaten(bridge) == {"testApp": "1.0.2"})
        shown = until("the host is shown", lambda: server.ask("GET", "/status/json/testApp").json)
        assert shown["CX0001"]["version"] == "1.0.1"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_nothing_else_needs_to_be_there(tmp_path, how):
    away = {"zookeeper.enabled": "true", "zookeeper.host": "127.0.0.1:9"}
    with Bridge(tmp_path, SIMPLE | NOWHERE | away, "--no-hosts") as bridge:
        assert apps(bridge.beat()) == {"app1": "1.0.1"}
        assert bridge.get("/health") == (200, "ok\n")
        assert [bridge.get("/health", by) for by in ("HEAD", "OPTIONS")] == [(200, ""), (204, "")]
        assert [bridge.get(path, "OPTIONS")[0] for path in ("/ready", "/metrics", "/other")] == [204, 204, 404]
        status, text = bridge.get("/ready")
        assert (status, "RabbitMQ is away: " in text, "ZooKeeper is away" in text) == (503, True, True)
        metrics = bridge.get("/metrics")[1]
        assert "meta_elves_beats_total 1.0\n" in metrics and "meta_elves_agents_online 1.0\n" in metrics
        assert bridge.get("/other")[0] == 404
        assert bridge.stop(how) == 0
        assert "ERROR" not in bridge.said()


def test_a_beat_that_is_under_way_at_the_stop_is_answered(tmp_path):
    with (
        Bridge(tmp_path, SIMPLE | NOWHERE, "--no-hosts") as bridge,
        socket.create_connection(("127.0.0.1", bridge.port), 10) as connection,
    ):
        connection.sendall(RECORDED[:50])
        until("it is there", lambda: "meta_elves_connections 1.0\n" in bridge.get("/metrics")[1])
        stopped = threading.Thread(target=bridge.stop)
        stopped.start()
        until("no new connections", lambda: refused(bridge.port))
        connection.sendall(RECORDED[50:])
        assert receive(connection)
        stopped.join()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_is_wrong_in_the_file_is_said_at_once(tmp_path):
    bridge = Bridge(tmp_path, {"auth.mode": "mine", "mq.port": "x"})
    with pytest.raises(AssertionError, match="meta elves ended"):
        bridge.start()
    assert bridge.stop() == 2
    assert bridge.said().splitlines() == [
        "conf.properties: auth.mode: must be simple, supervisor or records",
        "conf.properties: mq.port: must be a port, 0 to 65535",
    ]


def test_what_may_not_be_meant_in_the_file_is_warned_of_and_the_reasons_of_what_is_away_are_told(tmp_path):
    settings = SIMPLE | NOWHERE | {"mq.password": "secret   #the password", "mq.exchnge": "x"}
    with Bridge(tmp_path, settings | {"zookeeper.host": "10.0.0.1"}, "--no-hosts") as bridge:
        reason = until("the reason", lambda: away(bridge))
        assert bridge.get("/ready") == (503, reason)
    log = bridge.said()
    assert "mq.password has a # that may begin a comment" in log and "secret" not in log
    assert "mq.exchnge is not a known key and has no effect; did you mean mq.exchange?" in log
    assert "zookeeper.host is given but zookeeper.enabled is not" in log
    assert len([line for line in log.splitlines() if "RabbitMQ at 127.0.0.1:9 is away" in line]) == 1


def away(bridge: Bridge) -> str:
    text = bridge.get("/ready")[1]
    return text if "Connection refused" in text and text.startswith("RabbitMQ is away: ") else ""


def test_a_directory_that_cannot_be_written_keeps_no_agent_and_no_module_from_its_answer(tmp_path):
    """In mode simple, whose answers need no table."""
    (tmp_path / "var").write_text("in the way")
    with names() as (exchange, queue):
        settings = SIMPLE | {"mq.exchange": exchange, "mq.queue": queue}
        with Bridge(tmp_path, settings, "--no-hosts") as bridge, Module(exchange) as module:
            bridge.beat()
            until("the queue serves", bridge.is_ready)
            before = len(bridge.said().splitlines())
            for version in range(100):
                module.cast("updateAppInfo", table(str(version)))
            assert module.call("agentInfo", {"ip": AGENT.ip}, within=15)["mqbody"]["flag"] == "true"
            assert apps(bridge.beat()) == {"app1": "1.0.1"}
            assert bridge.get("/ready") == (503, "the app table cannot be written to its file\n")
            assert len(bridge.said().splitlines()) - before < 25, "the log may be on the same disk"
            assert bridge.said().count("cannot be written to") == 1
            (tmp_path / "var").unlink()
            until("it is kept as soon as it can be", bridge.is_ready)
        assert json.loads((tmp_path / "var" / "elves-apps.json").read_text())[0]["version"] == "99"


def test_agent_info_is_a_list_where_the_file_says_so(tmp_path):
    with names() as (exchange, queue):
        settings = SIMPLE | {"mq.exchange": exchange, "mq.queue": queue, "mq.agentInfo": "list"}
        with Bridge(tmp_path, settings, "--no-hosts") as bridge, Module(exchange) as module:
            bridge.beat()
            until("the queue serves", bridge.is_ready)
            (found,) = module.call("agentInfo", {"ip": AGENT.ip})["mqbody"]["result"]
            assert found["asset"] == AGENT.id
            assert module.call("agentInfo", {"ip": "10.9.9.9"})["mqbody"]["result"] == []


@pytest.mark.long
def test_a_port_that_is_taken(tmp_path):
    with Bridge(tmp_path / "a", SIMPLE | NOWHERE, "--no-hosts") as bridge:
        second = Bridge(tmp_path / "b", SIMPLE | NOWHERE | {"thrift.heartbeat.port": bridge.port}, "--no-hosts")
        with pytest.raises(AssertionError, match="meta elves ended"):
            second.start()
        assert second.stop() == 1
        assert "cannot listen for elves-agents" in second.said()


def table(version: str) -> dict:
    return {"result": [{"app": "testApp", "version": version, "agentList": [AGENT.ip]}]}


@pytest.mark.long
def test_mode_supervisor_goes_on_with_the_last_table_after_a_restart(tmp_path):
    with names() as (exchange, queue):
        settings = {"auth.mode": "supervisor", "mq.exchange": exchange, "mq.queue": queue}
        with Bridge(tmp_path, settings, "--no-hosts") as bridge:
            with pytest.raises(Exception, match="no app table"):
                bridge.beat()
            until("the queue serves", bridge.is_ready)
            with Module(exchange) as module:
                module.cast("updateAppInfo", table("3.0.0"))
                until("the table is in force", lambda: beaten(bridge) == {"testApp": "3.0.0"})
            until("and on the disk", (tmp_path / "var" / "elves-apps.json").exists)
            bridge.stop(signal.SIGKILL)
            bridge.start()
            assert apps(bridge.beat()) == {"testApp": "3.0.0"}


def beaten(bridge: Bridge) -> dict[str, str] | None:
    try:
        return apps(bridge.beat())
    except Exception:  # noqa: BLE001 (an exception of Thrift: not yet)
        return None


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture
def broker(node):
    """The same node for all, whatever the test before did with it."""
    node.start()
    return node


def patiently(condition, what: str):
    """For what has no deadline of its own: a broker and two bridges start slowly where others work, too."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
    return value


class Casting(threading.Thread):
    """Casts one table after the other, over new connections when one breaks; `taken`: the last that the broker took."""

    def __init__(self, port: int):
        super().__init__()
        self._port = port
        self._stop_casting = threading.Event()
        self.taken = 0

    def run(self) -> None:
        while not self._stop_casting.is_set():
            with suppress(pika.exceptions.AMQPError, OSError), Module("elves", self._port) as module:
                while not self._stop_casting.wait(0.005):
                    module.cast("updateAppInfo", table(str(self.taken + 1)))
                    self.taken += 1

    def finish(self) -> None:
        self._stop_casting.set()
        self.join(20)


def asked(port: int, ip: str) -> str | None:
    """The flag of agentInfo, None when nobody answers."""
    try:
        with Module("elves", port) as module:
            answer = module.call("agentInfo", {"ip": ip}, within=1)
            return answer and answer["mqbody"]["flag"]
    except (pika.exceptions.AMQPError, OSError):
        return None


def soon(condition, what: str) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    patiently(condition, what)
    took = time.monotonic() - began
    assert took < SOON, f"{what} after {took:.1f} s"
    return took


@pytest.mark.timed
def test_the_broker_killed_and_started_under_load(tmp_path, broker):
    settings = {"auth.mode": "supervisor", "mq.port": broker.port}
    with Bridge(tmp_path, settings, "--no-hosts") as bridge:
        patiently(bridge.is_ready, "the queue serves")
        casting = Casting(broker.port)
        casting.start()
        try:
            patiently(lambda: casting.taken > 50 and beaten(bridge), "under load")
            assert asked(broker.port, AGENT.ip) == "true"
            broker.kill()
            for _ in range(20):
                assert apps(bridge.beat()), "agents are answered all the same"
            broker.start()
            before = casting.taken
            soon(lambda: asked(broker.port, AGENT.ip) == "true", "agentInfo answers rightly")
            patiently(lambda: casting.taken > before + 50, "the load goes on")
        finally:
            casting.finish()
        patiently(
            lambda: apps(bridge.beat()) == {"testApp": str(casting.taken)}, "nothing that the broker took is lost"
        )
        patiently(lambda: depth(broker.port) == 0, "and all is acknowledged")


@pytest.mark.long
def test_huge_messages_cost_no_memory_for_long(tmp_path, broker):
    with Bridge(tmp_path, SIMPLE | {"mq.port": broker.port}, "--no-hosts") as bridge:
        patiently(bridge.is_ready, "the queue serves")
        with Module("elves", broker.port) as module:
            for _ in range(12):
                module.send(b"[" * 10_000_000)
        patiently(lambda: "meta_elves_messages_dropped_total 12.0\n" in bridge.get("/metrics")[1], "all are dropped")
        status = Path(f"/proc/{bridge.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak < 250_000, "kB"
        assert apps(bridge.beat()) == {"app1": "1.0.1"}


def depth(port: int) -> int:
    connection = connect(port)
    try:
        return connection.channel().queue_declare("heartbeat", passive=True).method.message_count
    finally:
        connection.close()


@pytest.mark.long
def test_two_instances_one_is_killed(tmp_path, broker):
    with ZooKeeper(tmp_path / "zookeeper") as zookeeper:
        shared = {"mq.port": broker.port, "zookeeper.enabled": "true", "zookeeper.host": zookeeper.hosts}
        settings = SIMPLE | shared | {"zookeeper.outTime": 2000}
        with (
            Bridge(tmp_path / "a", settings, "--no-hosts") as one,
            Bridge(tmp_path / "b", settings, "--no-hosts") as two,
        ):
            patiently(lambda: one.is_ready() and two.is_ready(), "both serve")
            one.beat(agent(1))
            two.beat(agent(2))
            everybody = "meta_elves_agents_online 2.0\n"
            patiently(lambda: all(everybody in b.get("/metrics")[1] for b in (one, two)), "each knows both")
            one.stop(signal.SIGKILL)
            soon(lambda: all(asked(broker.port, agent(n).ip) == "true" for n in (1, 2)), "the other answers for both")
            zookeeper.kill()
            assert asked(broker.port, agent(1).ip) == "true", "without ZooKeeper too"
            zookeeper.start()
            one.start()
            soon(lambda: everybody in one.get("/metrics")[1] and one.is_ready(), "who comes back knows both again")
            two.stop(signal.SIGKILL)
            soon(lambda: all(asked(broker.port, agent(n).ip) == "true" for n in (1, 2)), "and answers for both")
