"""The Thrift server: the recorded bytes, a second implementation of the client, and everything that nobody should send."""

import json
import re
import socket
import struct
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TApplicationException, TMessageType, TProcessor, TType
from thrift.transport.TSocket import TServerSocket, TSocket
from thrift.transport.TTransport import TBufferedTransport, TMemoryBuffer
from thriftpy2.thrift import TApplicationException as OurException

from helpers.elves import AGENT, RECORDED, agent, beat, receive, serving
from helpers.meta_server import PATIENCE
from lab.fleet import until
from meta.bridges.elves.heartbeat import Undecided
from meta.bridges.elves.limits import MAX_MESSAGE
from meta.bridges.elves.thrift import codec
from meta.bridges.elves.thrift.framing import Malformed, Messages
from meta.bridges.elves.translator import Info

WIRE = Path(__file__).parents[2] / "wire" / "elves-heartbeat.thrift.hex"
NAME = b"heartbeatPackage"


def answer(info: Info, _peer: str = "", _now: float = 0.0) -> str:
    return json.dumps({"data": {"app": info.id, "length": str(len(info.apps))}})


@pytest.fixture(scope="module")
def port():
    with serving(answer) as (port, _):
        yield port


class Second:
    """The service by the `thrift` package, its client and its processor, with a spec written by hand."""

    FIELDS = ("id", "ip", "version", "apps")

    @classmethod
    def write_call(cls, protocol: TBinaryProtocol, info: Info, method: str = "heartbeatPackage") -> None:
        protocol.writeMessageBegin(method, TMessageType.CALL, 7)
        protocol.writeStructBegin("heartbeatPackage_args")
        protocol.writeFieldBegin("info", TType.STRUCT, 1)
        protocol.writeStructBegin("AgentInfo")
        for number, name in enumerate(cls.FIELDS, 1):
            protocol.writeFieldBegin(name, TType.STRING, number)
            protocol.writeString(getattr(info, name))
            protocol.writeFieldEnd()
        protocol.writeFieldStop()
        protocol.writeStructEnd()
        protocol.writeFieldEnd()
        protocol.writeFieldStop()
        protocol.writeStructEnd()
        protocol.writeMessageEnd()
        protocol.trans.flush()

    @staticmethod
    def read_answer(protocol: TBinaryProtocol) -> str:
        name, kind, sequence = protocol.readMessageBegin()
        assert sequence == 7
        if kind == TMessageType.EXCEPTION:
            exception = TApplicationException()
            exception.read(protocol)
            raise exception
        assert (name, kind) == ("heartbeatPackage", TMessageType.REPLY)
        protocol.readStructBegin()
        _, kind, number = protocol.readFieldBegin()
        assert (kind, number) == (TType.STRING, 0)
        text = protocol.readString()
        assert protocol.readFieldBegin()[1] == TType.STOP
        return text

    @classmethod
    def call(cls, port: int, info: Info, method: str = "heartbeatPackage") -> str:
        transport = TBufferedTransport(TSocket("127.0.0.1", port))
        protocol = TBinaryProtocol(transport, strictRead=True, strictWrite=True)
        transport.open()
        try:
            cls.write_call(protocol, info, method)
            return cls.read_answer(protocol)
        finally:
            transport.close()


class SecondProcessor(TProcessor):
    """What the Java module does, by the other implementation."""

    def process(self, iprot: TBinaryProtocol, oprot: TBinaryProtocol) -> None:
        name, _, sequence = iprot.readMessageBegin()
        iprot.readStructBegin()
        assert iprot.readFieldBegin()[1:] == (TType.STRUCT, 1)
        fields = []
        while (field := iprot.readFieldBegin())[1] != TType.STOP:
            assert field[1] == TType.STRING
            fields.append(iprot.readString())
        assert iprot.readFieldBegin()[1] == TType.STOP
        oprot.writeMessageBegin(name, TMessageType.REPLY, sequence)
        oprot.writeFieldBegin("success", TType.STRING, 0)
        oprot.writeString(answer(Info(*fields)))
        oprot.writeFieldStop()
        oprot.writeMessageEnd()
        oprot.trans.flush()


def test_the_recorded_bytes_of_the_real_agent_get_an_answer_that_a_strict_client_reads(port):
    if WIRE.exists():
        assert bytes.fromhex(WIRE.read_text()) == RECORDED
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(RECORDED)
        message = receive(connection)
    protocol = TBinaryProtocol(TMemoryBuffer(message), strictRead=True)
    assert protocol.readMessageBegin() == ("heartbeatPackage", TMessageType.REPLY, 1)
    protocol.readStructBegin()
    assert protocol.readFieldBegin()[1:] == (TType.STRING, 0)
    assert json.loads(protocol.readString()) == {"data": {"app": "CX0001", "length": "19"}}
    assert protocol.readFieldBegin()[1] == TType.STOP
    assert protocol.trans.read(1) == b""


def test_our_bytes_are_those_of_the_real_agent():
    assert codec.render_call(AGENT, 1) == RECORDED
    assert codec.parse_call(RECORDED) == codec.Call("heartbeatPackage", 1, AGENT)


def test_a_second_implementation_of_the_client_agrees(port):
    assert json.loads(Second.call(port, AGENT))["data"]["app"] == "CX0001"
    with pytest.raises(TApplicationException) as raised:
        Second.call(port, AGENT, "reboot")
    assert raised.value.type == TApplicationException.UNKNOWN_METHOD


def test_our_client_agrees_with_a_second_implementation_of_the_server():
    server = TServerSocket("127.0.0.1", 0)
    server.listen()
    port = server.handle.getsockname()[1]

    def serve() -> None:
        transport = TBufferedTransport(server.accept())
        protocol = TBinaryProtocol(transport, strictRead=True)
        SecondProcessor().process(protocol, protocol)
        transport.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert beat(port) == answer(AGENT)
    finally:
        thread.join(PATIENCE)
        server.close()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(st.builds(Info, texts, texts, texts, texts), st.integers(-(2**31), 2**31 - 1))
def test_both_implementations_write_the_same_bytes(info, sequence):
    buffer = TMemoryBuffer()
    protocol = TBinaryProtocol(buffer, strictWrite=True)
    Second.write_call(protocol, info)
    ours = codec.render_call(info, 7)
    assert buffer.getvalue() == ours
    assert codec.parse_call(ours) == ("heartbeatPackage", 7, info)
    assert codec.parse_call(codec.render_call(info, sequence)).sequence == sequence


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 3))
def test_messages_are_found_however_they_are_cut(cuts, count):
    data, found, at = RECORDED * count, [], 0
    messages = Messages()
    for cut in [*cuts, len(data)]:
        found += messages.feed(data[at : at + cut])
        at += cut
    assert (found, messages.held) == ([RECORDED] * count, 0)


@given(st.binary(max_size=300), st.integers(0, 100))
def test_whatever_comes_is_waited_for_refused_or_parsed(noise, at):
    data = RECORDED[:at] + noise + RECORDED[at:]
    try:
        for message in Messages().feed(data):
            codec.parse_call(message)
    except Malformed:
        pass


def failing(what: Exception):
    def beat(*_: object) -> str:
        raise what

    return beat


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (RuntimeError("secret"), "internal error"),
        (OSError("disk"), "internal error"),
        (MemoryError(), "internal error"),
        (Undecided("no app table"), "no app table"),
    ],
)
def test_a_fault_inside_is_a_thrift_exception_and_the_next_beat_is_answered(fault, text):
    with serving(failing(fault)) as (port, _):
        for _ in range(2):
            with pytest.raises(OurException) as raised:
                beat(port)
            assert (raised.value.type, raised.value.message) == (OurException.INTERNAL_ERROR, text)


def test_a_beat_is_of_the_time_by_the_clock_of_the_whole_process():
    with serving(lambda _info, _peer, now: f"at {now}", now=lambda: 5.0) as (port, _):
        assert beat(port, AGENT) == "at 5.0"


def test_a_call_without_its_argument_is_an_exception(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(call(b"\0"))
        with pytest.raises(OurException) as raised:
            codec.parse_answer(receive(connection))
    assert raised.value.type == OurException.PROTOCOL_ERROR


def test_one_connection_may_carry_many_beats(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"".join(codec.render_call(agent(i), i) for i in range(100)))
        messages, found = Messages(), []
        while len(found) < 100:
            found += messages.feed(connection.recv(65536))
    assert [json.loads(codec.parse_answer(m))["data"]["app"] for m in found] == [agent(i).id for i in range(100)]


# --- hostile bytes ---


def string(text: bytes) -> bytes:
    return struct.pack("!i", len(text)) + text


def begin(name: bytes = NAME, version: int = 0x80010001) -> bytes:
    return struct.pack("!I", version) + string(name) + struct.pack("!i", 1)


def call(arguments: bytes) -> bytes:
    return begin() + arguments


def field(kind: int, number: int, value: bytes) -> bytes:
    return struct.pack("!bh", kind, number) + value


INFO = struct.pack("!bh", 12, 1)
HUGE = (2**31 - 1, 2**31 - 2, 1 << 30, MAX_MESSAGE + 1)
NEGATIVE = (-1, -(2**31))


def length(value: int) -> bytes:
    return struct.pack("!i", value)


REFUSED = {
    "not strict": string(NAME) + b"\x01" + struct.pack("!i", 1) + b"\0",
    "another version": begin(version=0x80020001) + b"\0",
    "framed": struct.pack("!i", len(RECORDED)) + RECORDED,
    "compact protocol": b"\x82\x21\x01" + NAME,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1030357f2b1"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "a reply": begin(version=0x80010002) + b"\0",
    "an exception": begin(version=0x80010003) + b"\0",
    "one way": begin(version=0x80010004) + b"\0",
    "no type of message": begin(version=0x800100FF) + b"\0",
    "a name of 257 bytes": begin(b"x" * 257) + b"\0",
    "a name that is no UTF-8": begin(b"\xff" * 16) + b"\0",
    "a value of type 1": call(field(1, 1, b"")),
    "a value of type 16": call(field(16, 1, string(b"x"))),
    "a value of type 127": call(INFO + field(127, 1, b"")),
    "an id that is no UTF-8": call(INFO + field(11, 1, string(b"\xff\xfe")) + b"\0\0"),
    "info a text": call(field(11, 1, string(b"\x0b\0\x01\x7f\xff\xff\xff" * 20)) + b"\0"),
    "info a text of lists": call(field(11, 1, string(b"\x0f\0\x09\x02\x7f\xff\xff\xff" * 20)) + b"\0"),
    "a list of lists of lists": call(field(15, 9, b"\x0f" + length(1)) + (b"\x0f" + length(1)) * 100),
    "structs in structs": call(INFO + struct.pack("!bh", 12, 9) * 100),
    "maps in maps": call(field(13, 9, (b"\x02\x0d" + length(1) + b"\x01") * 100)),
    "sets in lists": call(field(15, 9, (b"\x0e" + length(1) + b"\x0f" + length(1)) * 50)),
    "3,000 fields": call(field(2, 9, b"\x01") * 3000 + b"\0"),
    "3,000 empty strings": call(field(15, 9, b"\x0b" + length(3000) + bytes(12_000)) + b"\0"),
    "a list of strings that never come": call(field(15, 9, b"\x0b" + length(MAX_MESSAGE))),
    "a map of 60,000 entries": call(field(13, 9, b"\x02\x02" + length(60_000))),
    "100 kB of apps": codec.render_call(AGENT._replace(apps="x" * 100_000)),
    "10 MB of apps": codec.render_call(AGENT._replace(apps="x" * 10_000_000)),
    **{f"a name of {n} bytes": struct.pack("!Ii", 0x80010001, n) for n in (*HUGE, *NEGATIVE)},
    **{f"an id of {n} bytes": call(INFO + field(11, 1, length(n))) for n in (*HUGE, *NEGATIVE)},
    **{f"a list of {n}": call(field(15, 9, b"\x02" + length(n))) for n in (*HUGE, *NEGATIVE)},
    **{f"a set of {n} structs": call(field(14, 9, b"\x0c" + length(n))) for n in (*HUGE, *NEGATIVE)},
    **{f"a map of {n}": call(field(13, 9, b"\x0b\x0b" + length(n))) for n in (*HUGE, *NEGATIVE)},
}  # fmt: skip
ANSWERED = {
    "wrong types of all fields": call(INFO + b"".join(field(8, n, length(7)) for n in (1, 2, 3, 4)) + b"\0\0"),
    "unknown fields": call(INFO + field(15, 9, b"\x08" + length(3) + bytes(12)) + field(13, -5, b"\x02\x0b\0\0\0\0") + b"\0\0"),
    "empty texts": call(INFO + b"".join(field(11, n, length(0)) for n in (1, 2, 3, 4)) + b"\0\0"),
    "fields twice": call(INFO + field(11, 1, string(b"a")) * 3 + b"\0\0"),
    "no field at all": call(INFO + b"\0\0"),
}  # fmt: skip
HALVES = [0, 1, 3, 4, 8, 20, 24, 28, 31, 40, len(RECORDED) - 1]


@pytest.fixture(scope="module")
def patient():
    with serving(answer) as (port, server):
        yield port, server


@pytest.fixture(scope="module")
def impatient():
    with serving(answer, read_within=0.3) as (port, server):
        yield port, server


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_bytes_close_their_connection_at_once_and_nothing_else(patient, case):
    port, server = patient
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as good:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            began = time.perf_counter()
            try:
                connection.sendall(REFUSED[case])
            except (BrokenPipeError, ConnectionResetError):
                pass
            else:
                assert closed(connection)
            assert time.perf_counter() - began < 5, "not only at the deadline"
        good.sendall(RECORDED)
        assert receive(good)
    until("nothing of it is held", lambda: server.held == 0)


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_bytes_cost_little(case):
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(Malformed):
            for message in Messages().feed(REFUSED[case][:262_144]):
                codec.parse_call(message)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("case", ANSWERED)
def test_odd_but_possible_messages_are_answered(port, case):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(ANSWERED[case])
        assert "data" in json.loads(codec.parse_answer(receive(connection)))


@pytest.mark.timed
@pytest.mark.parametrize("size", HALVES)
def test_half_a_message_is_closed_at_the_deadline(impatient, size):
    with socket.create_connection(("127.0.0.1", impatient[0]), PATIENCE) as connection:
        connection.sendall(RECORDED[:size])
        began = time.perf_counter()
        assert closed(connection)
        assert time.perf_counter() - began < 2


@pytest.mark.parametrize("size", HALVES)
def test_half_a_message_and_a_goodbye(impatient, size):
    with socket.create_connection(("127.0.0.1", impatient[0]), PATIENCE) as connection:
        connection.sendall(RECORDED[:size])
        connection.shutdown(socket.SHUT_WR)
        assert closed(connection)


@pytest.mark.timed
def test_dripping_moves_no_deadline(impatient):
    port, server = impatient
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        began, sent = time.perf_counter(), 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.perf_counter() - began < 5:
                connection.sendall(RECORDED[sent % len(RECORDED) : sent % len(RECORDED) + 1])
                sent += 1
                time.sleep(0.02)  # the pace of the attack, not a wait for anything
        assert 0.2 < time.perf_counter() - began < 2
    until("the connection is forgotten", lambda: not server.connections)


def test_single_bytes_that_come_quickly_are_a_message(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in RECORDED:
            connection.send(bytes([byte]))
        assert receive(connection)


def test_who_takes_no_answers_is_closed_and_costs_little():
    def long(*_: object) -> str:
        return "x" * 60_000

    with serving(long, read_within=0.3) as (port, server), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        connection.connect(("127.0.0.1", port))
        with pytest.raises(OSError, match=r"timed out|reset|Broken pipe"):
            while True:
                connection.sendall(RECORDED * 100)
        until("it is closed", lambda: not server.connections)
        assert server.numbers.get("thrift_connections") == 1


def test_more_connections_than_there_may_be_are_closed_and_the_others_served():
    with serving(answer, max_connections=3) as (port, server):
        idle = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(3)]
        until("they are there", lambda: len(server.connections) == 3)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as one_too_many:
            assert closed(one_too_many)
        idle[0].sendall(RECORDED)
        assert receive(idle[0])
        for connection in idle:
            connection.close()
        until("they are gone", lambda: not server.connections)
        assert beat(port)


def test_incomplete_messages_of_all_connections_share_a_bound():
    begun = codec.render_call(AGENT._replace(apps="x" * 50_000))[:-1]
    with serving(answer, max_held=200_000) as (port, server):
        connections = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(10)]
        for connection in connections:
            connection.sendall(begun)
        until("those that are too many are closed", lambda: server.numbers.get("thrift_refused") >= 6)
        assert server.held <= 200_000
        for connection in connections:
            connection.close()
        until("nothing is held", lambda: server.held == 0)


@pytest.mark.timed
def test_a_connection_does_not_live_for_ever():
    with (
        serving(answer, live_within=0.5) as (port, _),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as connection,
    ):
        began = time.perf_counter()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.perf_counter() - began < 5:
                connection.sendall(RECORDED)
                if not receive(connection):
                    raise BrokenPipeError
        assert time.perf_counter() - began < 2


def test_hostile_connections_do_not_fill_the_log(caplog):
    with serving(answer) as (port, _):
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert closed(connection)
    assert len(re.findall("is closed: not strict", caplog.text)) <= 20


def test_many_agents_at_once_are_all_answered(port):
    found: dict[int, str] = {}

    def some(numbers: range) -> None:
        for number in numbers:
            found[number] = json.loads(beat(port, agent(number)))["data"]["app"]

    threads = [threading.Thread(target=some, args=(range(i, 400, 16),)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"CX{number:05d}" for number in range(400)}
