"""Against a real RabbitMQ: the services, both reply addressings, the supervisor's table, and what must not be lost."""

import json
import socket
import time
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from helpers.amqp_bytes import Properties, field, table
from helpers.rabbitmq import Module, connect, names
from lab.fleet import until
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rabbitmq.connection import Connection
from meta.bridges.elves.rabbitmq.consumer import BIND_EVERY, Broker
from meta.bridges.elves.rabbitmq.dropped_consumer import Supply
from meta.bridges.elves.rabbitmq.services import Services
from meta.bridges.elves.rabbitmq.supervisor_poll import Asking
from meta.bridges.elves.settings import Settings
from meta.bridges.elves.translator import Agent

DEFAULTS = Settings()
TABLE = [{"app": "a", "version": "1.0.0", "agentList": ["10.0.0.1"]}]


@contextmanager
def starting(exchange: str, queue: str, kept: KeptTable, every: float = 0, settings: Settings = DEFAULTS, **given: Any):
    """The broker's thread with three agents online; every: seconds between two questions to the supervisor, 0 for none."""
    online = OnlineAgents()
    for number in (1, 2, 3):
        online.hear(Agent(f"10.0.0.{number}", f"CX{number}", "0.4.3", {"testApp": "1.0.1"}, time.time()))
    settings = settings._replace(mq_exchange=exchange, mq_queue=queue)
    broker = Broker(settings, Services(online, kept), kept, Asking(kept, every) if every else None, Numbers(), **given)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
        assert not broker.is_alive()


@contextmanager
def serving(*wanted: Any, **given: Any):
    with starting(*wanted, **given) as broker:
        until("the queue serves", lambda: broker.is_connected)
        yield broker


@pytest.fixture
def kept(tmp_path):
    return KeptTable(tmp_path / "table.json")


@pytest.fixture
def named():
    with names() as found:
        yield found


@pytest.fixture
def broker(named, kept):
    with serving(*named, kept) as broker:
        yield broker


@pytest.fixture
def module(named, broker):
    with Module(named[0]) as module:
        yield module


def test_agent_info_and_agent_list_as_the_code_calls(module):
    answer = module.call("agentInfo", {"ip": "10.0.0.2"})
    assert (answer["mqkey"], answer["mqtype"], answer["mqflag"]) == ("heartbeat.test", "cast", "cast")
    assert answer["mqbody"]["result"]["asset"] == "CX2"
    assert module.call("agentInfo", {"ip": "10.9.9.9"})["mqbody"]["flag"] == "false"
    page = module.call("agentList", {"ip": "", "id": "", "pagesize": 2, "pagenumber": 2})["mqbody"]
    assert (page["count"], [agent["ip"] for agent in page["result"]]) == (3, ["10.0.0.3"])


@pytest.mark.parametrize("how", ["a queue of this name", "a key of the exchange"])
def test_the_documented_form_answers_at_the_id(module, named, how):
    call_id = f"{named[0]}-CCCEF718FCC41307"
    queue = module.channel.queue_declare(call_id if how == "a queue of this name" else "", exclusive=True).method.queue
    if how == "a key of the exchange":
        module.channel.queue_bind(queue, named[0], call_id)
    message = {"mqkey": "test.heartbeat.agentInfo", "mqtype": f"call.{call_id}", "mqbody": {"ip": "10.0.0.1"}}
    module.send(json.dumps(message).encode(), correlation_id="7")
    properties, body = module.take(queue)
    assert (properties.correlation_id, json.loads(body)["mqbody"]["result"]["ip"]) == ("7", "10.0.0.1")
    assert module.take(queue, 0.1) is None, "once"


def test_update_app_info_is_kept_before_it_is_acknowledged(module, kept, named):
    module.cast("updateAppInfo", {"result": TABLE})
    until("the table is in force", lambda: kept.table and kept.table.apps_for("10.0.0.1") == {"a": "1.0.0"})
    until("it is acknowledged", lambda: depth(named[1]) == 0)


def test_a_request_whose_ip_is_no_text_is_answered(module):
    assert module.call("agentInfo", {"ip": ["10.0.0.1"]})["mqbody"]["flag"] == "false"
    assert module.call("agentList", {"ip": {}, "pagesize": 10.0})["mqbody"] | {"error": ""} == {
        "flag": "false", "error": "", "count": 0, "result": []
    }  # fmt: skip
    page = module.call("agentList", {"ip": "", "pagesize": 2.0, "pagenumber": 9.0})["mqbody"]
    assert (page["count"], page["result"]) == (3, [])


def depth(queue: str) -> int:
    """Messages that wait; those that are with a consumer are seen when it is gone."""
    connection = connect()
    try:
        return connection.channel().queue_declare(queue, passive=True).method.message_count
    finally:
        connection.close()


def test_a_table_that_cannot_be_kept_stays_with_the_broker(named, tmp_path):
    (tmp_path / "var").write_text("in the way")
    kept = KeptTable(tmp_path / "var" / "table.json")
    with serving(*named, kept), Module(named[0]) as module:
        module.cast("updateAppInfo", {"result": TABLE})
        until("it is in force", lambda: kept.table)
        assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true", "the others are served"
    until("it is in the queue again", lambda: depth(named[1]) == 1)
    (tmp_path / "var").unlink()
    with serving(*named, KeptTable(tmp_path / "var" / "table.json")):
        until("it is kept", lambda: (tmp_path / "var" / "table.json").exists())
    assert depth(named[1]) == 0


def test_what_comes_while_we_are_away_waits(named, kept):
    with serving(*named, kept):
        pass
    with Module(named[0]) as module:
        module.cast("updateAppInfo", {"result": TABLE})
        assert kept.table is None
        with serving(*named, kept):
            until("it was not lost", lambda: kept.table)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"[]",
        b"{}",
        b'{"mqkey":"a.heartbeat","mqtype":"call"}',
        b'{"mqkey":"a.heartbeat.reboot","mqtype":"call"}',
        b'{"mqkey":"a.heartbeat.updateAppInfo","mqtype":"cast","mqbody":{"result":7}}',
        b"[" * 100_000,
        b"\xff" * 1000,
        b"x" * 10_000_000,
    ],
    ids=range(9),
)
def test_a_malformed_message_is_dropped_and_the_next_one_served(module, broker, named, body):
    module.send(body, reply_to="nobody")
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    until("it is acknowledged", lambda: depth(named[1]) == 0)
    assert broker._numbers.get("messages_dropped") == 1


def test_nobody_waits_for_the_answer(module, broker):
    message = json.dumps(
        {"mqkey": "t.heartbeat.agentInfo", "mqtype": "call.no-such-queue", "mqbody": {"ip": "1"}}
    ).encode()
    module.send(message)
    module.send(message, reply_to="no-such-queue-either", correlation_id="x" * 200)
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    assert broker._numbers.get("answers_nobody_takes") == 2


class Supervisor:
    """Takes the questions of its exchange."""

    def __init__(self, module: Module, exchange: str):
        self._module = module
        self.queue = module.channel.queue_declare("", exclusive=True).method.queue
        module.channel.queue_bind(self.queue, exchange, "*.supervisor")

    def answer(self, body: object) -> dict:
        properties, question = self._module.take(self.queue, 10)
        message = json.dumps({"mqkey": "supervisor.heartbeat", "mqtype": "cast", "mqbody": body}).encode()
        known = type(properties)(correlation_id=properties.correlation_id)
        self._module.channel.basic_publish("", properties.reply_to, message, known)
        return json.loads(question)


def test_the_supervisor_is_asked_and_its_table_taken(named, kept):
    with Module(named[0]) as module:
        module.channel.exchange_declare(named[0], "topic", durable=True)
        supervisor = Supervisor(module, named[0])
        with serving(*named, kept, every=0.3):
            question = supervisor.answer({"flag": "true", "error": "", "result": TABLE})
            assert question == {"mqkey": "heartbeat.supervisor.appAuthInfo", "mqtype": "call", "mqbody": {}}
            until("its table is in force", lambda: kept.table and kept.table.apps_for("10.0.0.1") == {"a": "1.0.0"})
            supervisor.answer({"flag": "false", "error": "[500]"})
            supervisor.answer({"flag": "true", "result": json.dumps([{**TABLE[0], "version": "2"}])})
            until(
                "the failed call is forgotten, the next one taken",
                lambda: kept.table.apps_for("10.0.0.1") == {"a": "2"},
            )


def test_an_exchange_and_a_queue_that_are_there_are_used_as_they_are(named, kept):
    connection = connect()
    channel = connection.channel()
    channel.exchange_declare(named[0], "topic", durable=False, auto_delete=False)
    channel.queue_declare(named[1], durable=True, arguments={"x-max-length": 1000})
    connection.close()
    with serving(*named, kept), Module(named[0]) as module:
        assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"


def test_a_queue_that_somebody_deletes_is_made_again(module, named):
    module.channel.queue_delete(named[1])
    until("the queue is back", lambda: served(module))


@pytest.mark.timed
def test_a_quorum_queue_that_is_deleted_and_made_again_is_served(named, kept):
    """Of it RabbitMQ tells its consumers nothing, and sends them nothing."""
    connection = connect()
    channel = connection.channel()
    quorum = {"x-queue-type": "quorum"}
    channel.queue_declare(named[1], durable=True, arguments=quorum)
    with serving(*named, kept, bind_every=0.3) as broker, Module(named[0]) as module:
        assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
        channel.queue_delete(named[1])
        channel.queue_declare(named[1], durable=True, arguments=quorum)
        until("its messages reach us", lambda: served(module))
        until("and all is well", lambda: broker.is_connected)
    connection.close()


def test_one_that_waits_while_another_instance_is_the_single_active_consumer(named, kept, caplog):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(named[1], durable=True, arguments={"x-single-active-consumer": True})
    channel.basic_consume(named[1], lambda *_: None)
    with serving(*named, kept, bind_every=0.1) as broker, Module(named[0]) as module:
        looked = broker._next_bind
        until("it was looked after", lambda: broker._next_bind > looked + 1)
        assert module.channel.queue_declare(named[1], passive=True).method.consumer_count == 2
    assert not [line for line in caplog.messages if "is away" in line]
    connection.close()


@pytest.mark.parametrize(
    ("looks", "cut"),
    [
        ([(7, 1, 0), (7, 1, 0), (7, 1, 0)], [False, False, False]),
        ([(8, 1, 0), (8, 1, 0)], [False, True]),
        ([(8, 1, 0), (9, 1, 1), (9, 1, 1)], [False, False, False]),
        ([(9, 1, 5), (9, 2, 9), (0, 2, 9)], [False, False, False]),
        ([(8, 1, 0), (0, 1, 0), (1, 1, 0), (1, 1, 0)], [False, False, False, True]),
        ([(0, 0, 0), (0, 0, 0)], [False, True]),
        ([(0, 0, 0), (0, 1, 0)], [False, False]),
    ],
)
def test_when_the_broker_has_forgotten_us(looks, cut):
    supply = Supply(waiting=7)
    assert [supply.is_cut(*look) for look in looks] == cut


def served(module: Module) -> bool:
    try:
        return module.call("agentInfo", {"ip": "10.0.0.1"}, within=0.5) is not None
    except Exception:  # noqa: BLE001 (unroutable while the queue is away)
        return False


@pytest.mark.timed
def test_tables_that_cannot_be_kept_leave_room_for_calls(named, tmp_path, caplog):
    (tmp_path / "var").write_text("in the way")
    kept = KeptTable(tmp_path / "var" / "table.json")
    with serving(*named, kept) as broker, Module(named[0]) as module:
        for number in range(12):
            module.cast("updateAppInfo", {"result": [{**TABLE[0], "version": str(number)}]})
            began = time.monotonic()
            assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
            assert time.monotonic() - began < 1
        until("it was tried again", lambda: not kept.save_again(time.monotonic()) and kept._next_try > began + 2)
        assert broker.is_connected and kept.table.apps_for("10.0.0.1") == {"a": "11"}
    until("the newest is in the queue again, and no other", lambda: depth(named[1]) == 1)
    assert len([line for line in caplog.messages if "cannot be written to" in line]) == 1
    (tmp_path / "var").unlink()
    with serving(*named, KeptTable(tmp_path / "var" / "table.json")) as broker:
        until("it is kept", lambda: (tmp_path / "var" / "table.json").exists())
        assert broker._kept.table.apps_for("10.0.0.1") == {"a": "11"}


def test_a_table_is_acknowledged_as_soon_as_the_disk_takes_it(named, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "var").write_text("in the way")
    kept = KeptTable(tmp_path / "var" / "table.json")
    with serving(*named, kept), Module(named[0]) as module:
        module.cast("updateAppInfo", {"result": TABLE})
        until("it is in force", lambda: "is in force but cannot be written" in caplog.text)
        (tmp_path / "var").unlink()
        until("it is kept", lambda: kept.is_saved)
    assert depth(named[1]) == 0
    said = f"the app table is written to {tmp_path / 'var' / 'table.json'} again"
    until("that is said", lambda: said in caplog.messages)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"mq_port": 9}, "Connection refused"),
        ({"mq_ip": "no-such-host.invalid"}, "Name or service not known"),
        ({"mq_password": "no"}, "mq.user or mq.password is wrong"),
        ({"mq_vhost": "no-such-vhost"}, "mq.vhost does not exist, or mq.user may not use it"),
        ({"mq_port": 4369}, "the server there is no RabbitMQ; check mq.ip and mq.port"),
    ],
)
def test_why_it_is_away_is_told(kept, caplog, changed, reason):
    settings = DEFAULTS._replace(**changed)
    with starting("elves", "heartbeat", kept, settings=settings) as broker:
        until("the reason", lambda: reason in broker.trouble)
    line = f"RabbitMQ at {settings.mq_ip}:{settings.mq_port} is away, trying again: {broker.trouble}"
    assert caplog.messages.count(line) == 1


def test_what_takes_connections_and_says_nothing_is_away_and_no_error_of_ours(kept, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = DEFAULTS._replace(mq_port=silent.getsockname()[1])
        quick = partial(Connection, open_within=0.3)
        with starting("elves", "heartbeat", kept, settings=settings, connect=quick) as broker:
            until("the reason", lambda: broker.trouble != "not yet connected")
    place = f"RabbitMQ at 127.0.0.1:{settings.mq_port}"
    assert [record.message for record in caplog.records if place in record.message] == [
        f"{place} is away, trying again: the server there did not speak AMQP within 0.3 s"
    ]


def test_an_exchange_that_was_deleted_and_made_again_is_bound_again(named, kept):
    with serving(*named, kept, bind_every=0.3), Module(named[0]) as module:
        module.channel.exchange_delete(named[0])
        module.channel.exchange_declare(named[0], "topic", durable=True)
        until("its messages reach us", lambda: served(module))
    assert BIND_EVERY < 60


def test_a_binding_that_was_removed_is_made_again(named, kept):
    with serving(*named, kept, bind_every=0.3), Module(named[0]) as module:
        module.channel.queue_unbind(named[1], named[0], "*.heartbeat")
        until("messages reach us", lambda: served(module))


@pytest.mark.parametrize("kind", ["direct", "fanout", "headers"])
def test_an_exchange_that_is_no_topic_is_refused_until_it_is_one(named, kept, kind, caplog):
    connection = connect()
    channel = connection.channel()
    channel.exchange_declare(named[0], kind, durable=kind == "direct")
    with starting(*named, kept) as broker:
        until("the reason", lambda: "is no topic" in broker.trouble)
        assert not broker.is_connected
        assert f"the exchange {named[0]} is no topic: delete it, or name another one in mq.exchange" in caplog.text
        channel.exchange_delete(named[0])
        until("it is made as it must be, and served", lambda: broker.is_connected)
    connection.close()


@pytest.mark.parametrize("headers", ["a timestamp in milliseconds", "a timestamp before 1970"])
def test_an_answer_of_the_supervisor_with_any_headers_counts(named, kept, headers):
    value = {"a timestamp in milliseconds": 1_772_000_000_000, "a timestamp before 1970": 2**64 - 1}[headers]
    with Module(named[0]) as module:
        module.channel.exchange_declare(named[0], "topic", durable=True)
        supervisor = Supervisor(module, named[0])
        with serving(*named, kept, every=60):
            question, _ = module.take(supervisor.queue, 10)
            message = {"mqkey": "supervisor.heartbeat", "mqtype": "cast", "mqbody": {"flag": "true", "result": TABLE}}
            known = Properties(
                correlation_id=question.correlation_id, headers=table(field("T", value.to_bytes(8, "big")))
            )
            module.channel.basic_publish("", question.reply_to, json.dumps(message).encode(), known)
            until("its table is in force", lambda: kept.table and kept.table.apps_for("10.0.0.1") == {"a": "1.0.0"})
