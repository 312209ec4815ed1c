"""Hosts that wait for news: whom a change wakes, how each wait ends, and what so many connections may hold."""

import gc
import json
import re
import socket
import time
from contextlib import ExitStack

import pytest

from helpers.opened_door import LOOPS, NEW, OLD, PARK, OpenedDoor, answers, left_of, received
from lab.fleet import until

TOKEN = b"Authorization: Bearer x\r\n"


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def loop(request):
    return request.param


@pytest.fixture
def opened(loop):
    with OpenedDoor(loop) as opened:
        yield opened
    assert opened.errors == []


def park(host, known=OLD, wait=270, more=b""):
    target = f"{PARK}?hostname={host}&known={known}"
    return f"GET {target} HTTP/1.1\r\nhost: m\r\nprefer: wait={wait}\r\n".encode() + more + b"\r\n"


def parked(opened, host, more=b"", **asked):
    """A connection that waits."""
    client = opened.connect()
    client.sendall(park(host, more=more, **asked))
    until(f"{host} is parked", lambda: host in opened.counts.parked)
    return client


def only(client):
    """The one answer that comes until the end."""
    (answer,) = answers(client)
    return answer


def test_a_change_wakes_those_for_whom_it_is_news_and_no_others(opened):
    with parked(opened, "h1") as first, parked(opened, "h2") as second:
        opened.change(lambda park: park.hostname == "h2")
        answer = only(second)
        assert (answer.status, 0 <= json.loads(answer.body)["within"] < 0.1) == (200, True)
        assert answer.headers["connection"] == "close"
        assert list(opened.counts.parked) == ["h1"]
        assert opened.counts.wakes == 1
        opened.change(lambda _park: True)
        assert only(first).status == 200
    until("all are gone", lambda: opened.counts.connections == 0)


def test_a_host_that_comes_with_another_reply_is_woken_at_once(opened):
    with opened.connect() as client:
        client.sendall(park("h1", NEW))
        assert only(client).status == 200


def test_a_host_that_is_ahead_of_this_meta_is_left_alone_where_that_may_be(loop):
    with OpenedDoor(loop, parks={"settle": 1.0}) as opened, parked(opened, "h1", known=NEW) as client:
        opened.news = lambda park: park.known != NEW  # what the other meta had is followed here, too
        with parked(opened, "h2", known=OLD) as other:
            assert only(other).status == 200
        assert list(opened.counts.parked) == ["h1"]
        client.close()


def test_a_wait_ends_in_time_and_another_may_begin(opened):
    with parked(opened, "h1", wait=1) as client:
        began = time.monotonic()
        assert only(client).status == 204
        assert time.monotonic() - began < 10
    with parked(opened, "h1"):
        pass


def test_who_prefers_not_to_wait_is_told_at_once(opened):
    with opened.connect() as client:
        client.sendall(park("h1", wait=0) + park("h1", NEW, wait=0))
        client.shutdown(socket.SHUT_WR)
        assert [answer.status for answer in answers(client)] == [204, 200]


def test_a_host_that_hangs_up_is_not_parked_any_more(opened):
    parked(opened, "h1").close()
    until("it is gone", lambda: not opened.counts.parked)
    until("its connection, too", lambda: opened.counts.connections == 0)
    opened.change(lambda _park: True)
    assert opened.counts.wakes == 0


def test_a_host_is_parked_once(opened):
    with parked(opened, "h1") as first, opened.connect() as second:
        second.sendall(park("h1"))
        assert only(first).status == 204
        assert list(opened.counts.parked) == ["h1"]
        opened.change(lambda _park: True)
        assert only(second).status == 200


@pytest.mark.parametrize("pieces", [0, 7])
def test_who_sends_another_request_does_not_wait(opened, pieces):
    beat = b"POST /heartbeat HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\nhi"
    found = opened.ask(park("h1") + beat + park("h2") + beat, pieces)
    assert [(answer.status, answer.body) for answer in found] == [(204, b""), (200, b"hot 2")] * 2
    assert opened.counts.parked == {}


def test_a_hundred_parks_in_one_go_are_answered_in_order(opened):
    found = opened.ask(park("h1") * 100)
    assert [answer.status for answer in found] == [204] * 100


def test_a_park_behind_another_request_is_seen_to_end(opened):
    with opened.connect() as client:
        client.sendall(b"GET /app HTTP/1.1\r\nHost: m\r\n\r\n" + park("h1"))
        until("it is parked", lambda: list(opened.counts.parked) == ["h1"])
    until("it is gone", lambda: not opened.counts.parked)


def test_a_host_that_is_ahead_is_left_alone_whatever_others_do(loop):
    with OpenedDoor(loop, parks={"settle": 3.0}) as opened, parked(opened, "h1", known=NEW):
        with parked(opened, "h2", wait=1) as other:
            assert only(other).status == 204
        assert list(opened.counts.parked) == ["h1"]


def test_many_hosts_beat_over_the_time_that_the_rate_gives(loop):
    with OpenedDoor(loop, parks={"rate": 100.0}) as opened, ExitStack() as open_ones:
        clients = [open_ones.enter_context(parked(opened, f"h{n}")) for n in range(90)]
        opened.change(lambda _park: True)
        assert {json.loads(only(client).body)["within"] for client in clients} == {1.0}


def test_only_so_many_are_parked(loop):
    with OpenedDoor(loop, parks={"most": 1}) as opened, parked(opened, "h1"), opened.connect() as client:
        client.sendall(park("h2"))
        client.shutdown(socket.SHUT_WR)
        answer = only(client)
        assert (answer.status, answer.headers["retry-after"]) == (503, "300")


def test_hosts_with_a_token_are_parked_beside_all_limits_of_connections(loop):
    with OpenedDoor(loop, connections=3, of_one=2) as opened, ExitStack() as open_ones:
        for number in range(20):
            open_ones.enter_context(parked(opened, f"h{number}", TOKEN))
        assert len(opened.counts.parked) == 20
        assert opened.counts.connections == 0


def test_hosts_without_one_count_against_the_limit_of_their_address(loop):
    with OpenedDoor(loop, of_one=2) as opened, parked(opened, "h1"), parked(opened, "h2"), opened.connect() as client:
        client.sendall(park("h3"))
        assert only(client).status == 503
        with opened.connect("127.0.0.2") as other:
            other.sendall(park("h3"))
            until("it is parked", lambda: "h3" in opened.counts.parked)


def test_a_stop_tells_parked_hosts_to_come_back_spread_out(loop):
    with OpenedDoor(loop, parks={"rate": 2.0}) as opened, ExitStack() as open_ones:
        clients = [open_ones.enter_context(parked(opened, f"h{n}")) for n in range(40)]
        assert opened.close() == 0
        found = [only(client) for client in clients]
    assert {answer.status for answer in found} == {503}
    later = [int(answer.headers["retry-after"]) for answer in found]
    assert 10 <= min(later) <= max(later) <= 30
    assert len(set(later)) > 5


def test_a_failure_with_one_host_is_none_of_the_others(opened, caplog):
    def fails(park):
        if park.hostname == "h1":
            raise ValueError("h1")
        return True

    with parked(opened, "h1"), parked(opened, "h2") as second:
        opened.change(fails)
        assert only(second).status == 200
        assert list(opened.counts.parked) == ["h1"]
        opened.news = lambda _park: False
    assert re.search("a parked host could not be answered", caplog.text)


def test_parked_hosts_leave_nothing_to_the_garbage_collector(opened):
    with parked(opened, "h0"):
        pass
    until("it is gone", lambda: not opened.counts.parked)
    gc.collect()
    gc.disable()
    try:
        for number in range(200):
            parked(opened, f"h{number}").close()
        until("they are gone without it", lambda: not left_of(opened))
    finally:
        gc.enable()


def test_a_half_that_is_closed_ends_the_wait(opened):
    with parked(opened, "h1") as client:
        client.shutdown(socket.SHUT_WR)
        assert received(client).startswith(b"HTTP/1.1 204 ")
