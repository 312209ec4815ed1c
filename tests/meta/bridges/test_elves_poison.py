"""Against a real RabbitMQ: no message, with any properties, addresses or size, keeps the next one from its answer."""

import json
import struct
import time

import pika
import pytest
from test_elves_rabbitmq import serving

from helpers.amqp_bytes import Properties, field, long, table
from helpers.rabbitmq import Module, connect, names
from lab.fleet import until
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.rabbitmq.connection import Connection
from meta.bridges.elves.settings import Settings

pytestmark = pytest.mark.timed
SOON = 1.0  # seconds
GARBAGE = "amq.rabbitmq.reply-to.garbage"


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def nested(depth: int) -> bytes:
    """A table in a table in a table."""
    found = table()
    for _ in range(depth):
        found = table(field("F", found))
    return found


def array(depth: int) -> bytes:
    found = long(b"")
    for _ in range(depth):
        found = long(b"A" + found)
    return found


def one(kind: str, value: bytes, name: str | bytes = "h") -> dict[str, bytes]:
    return {"headers": table(field(kind, value, name))}


HEADERS = {
    "a timestamp in milliseconds": one("T", u64(1_772_000_000_000)),
    "a timestamp before 1970": one("T", u64(2**64 - 86_400)),
    "the largest timestamp": one("T", u64(2**64 - 1)),
    "a timestamp in a list": one("A", long(b"T" + u64(1_772_000_000_000))),
    "a timestamp in a table": one("F", table(field("T", u64(2**63)))),
    "the largest float": one("f", b"\x7f\x7f\xff\xff"),
    "the smallest double": one("d", u64(1)),
    "a decimal of 255 places": one("D", b"\xff" + struct.pack(">i", -(2**31))),
    "a thousand tables in each other": {"headers": nested(1_500)},
    "ten thousand lists in each other": one("A", array(10_000)),
    "ten thousand headers": {"headers": table(*(field("t", b"\1", f"{n:05}") for n in range(10_000)))},
    "a thousand headers of one name": {"headers": table(*(field("V", b"") for _ in range(1_000)))},
    "a name that is not UTF-8": one("t", b"\1", b"\xff\xfe"),
    "a name of 255 bytes": one("t", b"\1", "n" * 255),
    "no name": one("t", b"\1", ""),
    "a text that is not UTF-8": one("S", long(b"\xff" * 100)),
    "a text of 120 kB": one("S", long(b"x" * 120_000)),
    "bytes of 120 kB": one("x", long(b"\0" * 120_000)),
    "a void": one("V", b""),
    "a boolean that is neither": one("t", b"\x7f"),
    "signed bytes": one("b", b"\x80"),
    "unsigned bytes": one("B", b"\xff"),
    "a short number": one("s", b"\x80\0"),
    "an unsigned short number": one("u", b"\xff\xff"),
    "a number": one("I", b"\x80\0\0\0"),
    "an unsigned number": one("i", b"\xff\xff\xff\xff"),
    "a long number": one("l", u64(2**63)),
    "an empty table": {"headers": table()},
    "x-death of something else": one("S", long(b"me"), "x-death"),
    "a copy to nowhere": one("A", long(b"S" + long(b"nowhere")), "CC"),
}  # fmt: skip
PROPERTIES = {
    "a content type that is not UTF-8": {"content_type": b"\xff" * 255},
    "a content encoding": {"content_encoding": "gzip"},
    "a transient message": {"delivery_mode": 1},
    "priority 255": {"priority": 255},
    "a correlation id of 255 bytes": {"correlation_id": "c" * 255},
    "a correlation id that is not UTF-8": {"correlation_id": b"\xfe\xff\0"},
    "an empty correlation id": {"correlation_id": ""},
    "the largest timestamp": {"timestamp": 2**64 - 1},
    "a type that is not UTF-8": {"type": b"\x80"},
    "a message id of 255 bytes": {"message_id": b"\0" * 255},
    "an app id that is not UTF-8": {"app_id": b"\xc0\x80"},
    "a cluster id": {"cluster_id": b"\xff" * 255},
    "a long expiration": {"expiration": "4294967295"},
    "all, and a header that breaks": {
        "content_type": "t", "content_encoding": "e", **one("T", u64(2**64 - 1)), "delivery_mode": 1, "priority": 9,
        "correlation_id": "c", "reply_to": "r", "message_id": "m", "timestamp": 2**64 - 1, "type": "t", "app_id": "a",
    },
}  # fmt: skip
REPLY_TO = {
    "a broken direct reply-to": GARBAGE,
    "a direct reply-to of nothing": "amq.rabbitmq.reply-to.",
    "half a direct reply-to": "amq.rabbitmq.reply-to.g1h2AAxyZXBseUAxMjcuMC4wLjE=",
    "a direct reply-to of two parts": "amq.rabbitmq.reply-to.g1h2.AAAA",
    "a direct reply-to that is not UTF-8": b"amq.rabbitmq.reply-to.\xff\xff",
    "a name of 255 bytes": "q" * 255,
    "a name that is not UTF-8": b"\xff" * 200,
    "a NUL byte": b"\0",
    "lines": "a\nb\r\n",
    "blanks": "   ",
    "wild cards": "#.*.heartbeat",
    "a queue that is gone": "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
    "an exchange": "amq.topic",
    "a trap of a log": "%s%n{0}${jndi:ldap://x}\x1b[2J",
}
IDS = {
    "a broken direct reply-to": GARBAGE,
    "direct reply-to itself": "amq.rabbitmq.reply-to",
    "of 255 bytes": "i" * 255,
    "of 256 bytes": "i" * 256,
    "of 255 characters": "ü" * 255,
    "a NUL": "\0",
    "blanks": "  ",
    "dots": "...",
    "wild cards": "*.#",
    "our own binding": "x.heartbeat",
    "the supervisor's binding": "heartbeat.supervisor",
}
BODIES = {
    "nothing": b"",
    "one byte": b"{",
    "8 MiB and a byte": b" " * ((8 << 20) + 1),
    "24 MB": b"x" * 24_000_000,
    "a lone surrogate in the ID": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call.\\ud800","mqbody":{"ip":"1"}}',
    "a number that overflows": b'{"mqkey":"a.heartbeat.agentList","mqtype":"call.1","mqbody":{"pagesize":1e999}}',
    "many digits": b'{"mqkey":"a.heartbeat.agentList","mqtype":"call.1","mqbody":{"pagesize":%b}}' % (b"9" * 100_000),
    "deep objects": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call.1","mqbody":' + b'{"a":' * 500_000,
}
ROUTING_KEYS = {
    "not UTF-8": b"\xff\xfe.heartbeat",
    "of 255 bytes": "k" * 245 + ".heartbeat",
    "an empty word": ".heartbeat",
}


def call(mqtype: str = "call", service: str = "agentInfo") -> bytes:
    return json.dumps({"mqkey": f"t.heartbeat.{service}", "mqtype": mqtype, "mqbody": {"ip": "10.0.0.1"}}).encode()


CASES = (
    {f"header: {name}": (given | {"reply_to": "nowhere"}, call(), "t.heartbeat") for name, given in HEADERS.items()}
    | {
        f"property: {name}": ({"reply_to": "nowhere"} | given, call(), "t.heartbeat")
        for name, given in PROPERTIES.items()
    }
    | {f"reply_to: {name}": ({"reply_to": to}, call(), "t.heartbeat") for name, to in REPLY_TO.items()}
    | {f"ID: {name}": ({}, call(f"call.{to}"), "t.heartbeat") for name, to in IDS.items()}
    | {f"body: {name}": ({"reply_to": "nowhere"}, body, "t.heartbeat") for name, body in BODIES.items()}
    | {f"routing key: {name}": ({"reply_to": "nowhere"}, call(), key) for name, key in ROUTING_KEYS.items()}
)


@pytest.fixture(scope="module")
def named():
    with names() as found:
        yield found


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return KeptTable(tmp_path_factory.mktemp("var") / "table.json")


@pytest.fixture(scope="module")
def broker(named, kept):
    with serving(*named, kept) as broker:
        yield broker


@pytest.fixture(scope="module")
def module(named, broker):
    with Module(named[0]) as module:
        yield module


def publish(exchange: str, key: str | bytes, body: bytes, properties: pika.BasicProperties, times: int = 1) -> None:
    """Returns when the broker has put it into the queue."""
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    for _ in range(times):
        channel.basic_publish(exchange, key, body, properties, mandatory=True)
    connection.close()


@pytest.mark.parametrize("case", CASES)
def test_the_call_after_it_is_answered_within_a_second(module, broker, named, case):
    properties, body, key = CASES[case]
    before = broker._numbers.get("messages")
    publish(named[0], key, body, Properties(**properties))
    began = time.monotonic()
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    assert time.monotonic() - began < SOON
    assert broker._numbers.get("messages") >= before + 2, "it has reached us"
    assert broker.is_connected


def test_there_are_enough_of_them():
    assert len(CASES) > 43


@pytest.mark.parametrize("name", HEADERS)
def test_a_call_with_any_headers_is_answered(module, named, name):
    queue = module.channel.queue_declare("", exclusive=True).method.queue
    given = HEADERS[name] | {"reply_to": queue, "correlation_id": "7", "content_type": "x", "content_encoding": "y"}
    publish(named[0], "t.heartbeat", call(), Properties(**given))
    properties, answer = module.take(queue)
    assert (properties.correlation_id, json.loads(answer)["mqbody"]["flag"]) == ("7", "true")


def test_fifty_that_break_the_answers_connection_keep_the_next_call_waiting_no_longer_than_a_second(module, named):
    publish(named[0], "t.heartbeat", call(), Properties(reply_to=GARBAGE), times=50)
    began = time.monotonic()
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    assert time.monotonic() - began < 50 * 0.1 + SOON


def test_no_message_comes_back(module, broker, named):
    """Those that break the connection of the answers, and those with headers that pika cannot decode."""
    before = broker._numbers.get("messages")
    publish(named[0], "t.heartbeat", call(), Properties(reply_to=GARBAGE), times=3)
    publish(named[0], "t.heartbeat", call(), Properties(**HEADERS["a timestamp in milliseconds"]), times=3)
    assert module.call("agentInfo", {"ip": "10.0.0.1"})
    assert broker._numbers.get("messages") == before + 7
    connection = connect()
    assert connection.channel().queue_declare(named[1], passive=True).method.message_count == 0
    connection.close()


def test_a_table_with_any_headers_counts(kept, named, broker):
    body = {"result": [{"app": "a", "version": "7", "agentList": ["10.0.0.1"]}]}
    message = json.dumps({"mqkey": "s.heartbeat.updateAppInfo", "mqtype": "cast", "mqbody": body}).encode()
    publish(named[0], "s.heartbeat", message, Properties(**HEADERS["a timestamp before 1970"]))
    until("it is in force", lambda: kept.table and kept.table.apps_for("10.0.0.1") == {"a": "7"})


def test_a_direct_reply_to_that_is_whole_is_answered(named, broker):
    connection = connect()
    channel = connection.channel()
    answers = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *got: answers.append(got[3]), auto_ack=True)
    channel.basic_publish(named[0], "t.heartbeat", call(), pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    until("the answer", lambda: connection.process_data_events(0.01) or answers)
    connection.close()
    assert json.loads(answers[0])["mqbody"]["flag"] == "true"


def test_a_queue_that_is_full_and_refuses_the_answer(module, named):
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    queue = module.channel.queue_declare("", exclusive=True, arguments=full).method.queue
    publish(named[0], "t.heartbeat", call(), Properties(reply_to=queue))
    began = time.monotonic()
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    assert time.monotonic() - began < SOON


def test_an_answer_to_our_own_queue_ends_there(module, broker, named):
    before = broker._numbers.get("messages")
    publish(named[0], "t.heartbeat", call(), Properties(reply_to=named[1]))
    until("the answer came to ourselves", lambda: broker._numbers.get("messages") == before + 2)
    assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"
    assert broker._numbers.get("messages") == before + 3


class Impatient(Connection):
    """Ends with a header that pika cannot decode."""

    def __init__(self, settings: Settings):
        parameters = pika.ConnectionParameters(settings.mq_ip, settings.mq_port, heartbeat=10)
        pika.BlockingConnection.__init__(self, parameters)


def test_what_breaks_every_connection_all_the_same_is_taken_off_the_queue(tmp_path):
    """The last defence."""
    with names() as (exchange, queue), serving(exchange, queue, KeptTable(tmp_path / "t"), connect=Impatient) as broker:
        publish(exchange, "t.heartbeat", call(), Properties(**HEADERS["the largest timestamp"]), times=2)
        with Module(exchange) as module:
            assert module.call("agentInfo", {"ip": "10.0.0.1"}, within=15)["mqbody"]["flag"] == "true"
        assert broker._numbers.get("messages_dropped") == 2
