"""Parking at real servers on loopback, with spans of tenths of seconds: what each answer, cut and silence leads to."""

import os
import re
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from helpers import proxies
from helpers.servers import Server, answer, drip, endless, raw, serving
from lab.fleet import until
from lab.ports import free_port
from updater.host.config import Config
from updater.host.context import Host
from updater.meta_client.notify import Asking
from updater.meta_client.park_rules import Spans
from updater.meta_client.parking import Parking
from updater.model.layout import Layout
from updater.net.credentials import origin
from updater.net.http import IDLE, Http
from updater.service.told import told

SPANS = Spans(least=0.1, shortest=1, immediate=0.3, apart=0.2, grace=0.5, rest=2, long_rest=3)
WAKE = answer(b'{"within": 0}')
NOTHING = raw(b"HTTP/1.1 204 No Content\r\n\r\n")


class Parked:
    """A host that beats when it is woken, as the daemon does; `known` is the reply that it takes then."""

    def __init__(self, root, server, wait=5, interval=0.001, **settings):
        self.server, self.wait = server, wait
        self.host = Host(Layout(root), Config(server, interval=interval, **settings), Http())
        self.known = "00"
        self.wakes = []
        self._woken = threading.Event()
        self.parking = Parking(self.host, self._wake, SPANS)

    def __enter__(self):
        self.park()
        return self

    def __exit__(self, *_):
        self.parking.close()

    def _wake(self):
        self.wakes.append(time.monotonic())
        self._woken.set()

    def park(self, within=60):
        self.parking.park(Asking(self.server, "h1", self.known, self.wait), time.monotonic() + within)

    def beat(self):
        self.parking.pause()
        self._woken.clear()
        self.park()

    def beat_when_woken(self, seconds, known=lambda: "00"):
        """For so many seconds."""
        end = time.monotonic() + seconds
        while self._woken.wait(max(end - time.monotonic(), 0)):
            self.known = known()
            self.beat()

    def says(self):
        return told(self.host.layout.reachable)

    def tells(self, text):
        """Wait until this is in what it says of itself, and return all of that."""
        return until(f"it says: {text}", lambda: text in self.says() and self.says())


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / ".updater").mkdir(parents=True)
    return tmp_path / "root"


def waits(server):
    return [int(re.search(rb"(?i)\r\nprefer: wait=(\d+)\r\n", request)[1]) for request in server.requests]


def held(stop, seconds, then=lambda _: None):
    """Say nothing for so long, then this; until the test ends at most."""

    def say(connection):
        if not stop.wait(seconds):
            then(connection)

    return say


def patient(stop, cut_after=None, then=lambda _: None):
    """Say 204 at the end of the wait that is asked for; cut waits that are longer than a path allows."""

    def say(connection, request):
        wait = int(re.search(rb"wait=(\d+)", request)[1])
        is_cut = cut_after is not None and cut_after < wait
        if not stop.wait(cut_after if is_cut else wait):
            (then if is_cut else NOTHING)(connection)

    return say


class Asked(Server):
    """A server whose answers depend on the request."""

    def _serve(self, connection, say):
        super()._serve(connection, lambda connection: say(connection, self.requests[-1]))


def test_a_park_asks_by_name_and_known_reply_for_a_wait_with_the_hosts_own_token(root):
    token = root / "token"
    token.touch(mode=0o600)
    token.write_text("Bearer secret\n")
    with serving(NOTHING) as server, Parked(root, server.url, 270) as parked:
        until("it asked without a token", lambda: server.requests)
        parked.host.http = Http(credentials={origin(server.url): str(token)})
        before = len(server.requests)
        request = until("and with it", lambda: server.requests[before + 1 :])[0].decode()
    head = request.split("\r\n")
    assert head[0] == "GET /notify?hostname=h1&known=00 HTTP/1.1"
    assert "Authorization: Bearer secret" in head
    assert waits(server)[0] in (58, 59), "not beyond the next beat"


def test_a_wake_wakes_once_and_the_next_park_waits_for_the_beat(root):
    with serving(WAKE) as server, Parked(root, server.url) as parked:
        until("it is woken", lambda: parked.wakes)
        time.sleep(0.5)
        assert (len(parked.wakes), len(server.requests)) == (1, 1)
        parked.known = "11"
        parked.beat()
        until("it is woken again", lambda: len(parked.wakes) == 2)
        assert b"known=11" in server.requests[1]


def test_wakes_are_spread_as_meta_says(root):
    with serving(answer(b'{"within": 2, "more": 1}')) as server:
        hosts = [Parked(root, server.url) for _ in range(12)]
        began = time.monotonic()
        for one in hosts:
            one.park()
        until("all are woken", lambda: all(one.wakes for one in hosts))
        for one in hosts:
            one.parking.close()
    after = sorted(one.wakes[0] - began for one in hosts)
    assert after[-1] - after[0] > 0.4
    assert after[-1] < 4


def test_a_beat_before_the_wake_takes_its_place(root):
    with serving(answer(b'{"within": 86400}'), held(threading.Event(), 1)) as server, Parked(root, server.url) as one:
        until("it is told to come", lambda: server.requests)
        one.tells("yes")
        one.beat()
        until("it parks again", lambda: len(server.requests) == 2)
        assert one.wakes == []


def test_nothing_new_is_asked_again_at_once(root):
    server = Asked([])
    server.says = [patient(server.stop)]
    with server.running(), Parked(root, server.url, 1) as parked:
        until("three parks", lambda: len(server.requests) >= 3)
        assert parked.tells("yes") == "yes"
    assert parked.wakes == []


@pytest.mark.parametrize(
    ("status", "rest"),
    [("404 Not Found", 3), ("405 Not Allowed", 3), ("501 Not Implemented", 3), ("401 Who", 2), ("403 No", 2)],
)
def test_a_refusal_is_taken_for_an_answer_for_long_and_nothing_else_is_changed(root, caplog, status, rest):
    caplog.set_level("INFO")
    credentials = Layout(root).credentials
    credentials.touch(mode=0o600)
    credentials.write_text("Bearer mine\n")
    with serving(answer(b"", status), NOTHING) as server, Parked(root, server.url) as parked:
        words, began = parked.tells("answered"), time.monotonic()
        for _ in range(5):
            parked.beat()
        assert f"no: {server.url}/notify answered {status[:3]}; meta is asked from 2" in words
        until("it asks again", lambda: len(server.requests) > 1)
        assert rest - 0.2 < time.monotonic() - began < rest + 2
        assert credentials.read_text() == "Bearer mine\n"
        assert [status[:3] in line for line in caplog.messages].count(True) == 1


@pytest.mark.parametrize("status", ["429 Slow", "503 Busy"])
def test_a_busy_meta_is_asked_again_when_it_says(root, status):
    with serving(answer(b"", status, "Retry-After: 1"), NOTHING) as server, Parked(root, server.url) as parked:
        until("it asks", lambda: server.requests)
        began = time.monotonic()
        until("it asks again", lambda: len(server.requests) > 1)
        assert 0.9 < time.monotonic() - began < 3
        parked.tells("yes")


CUTS = {
    "a cut": lambda _: None,
    "a 504": answer(b"", "504 Gateway Timeout"),
    "a 502": answer(b"<html>", "502 Bad Gateway"),
    "a 408": answer(b"", "408 Request Timeout"),
    "a reset": lambda connection: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"),
}


@pytest.mark.long
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_path_that_cuts_is_parked_at_by_shorter_waits_and_tried_again_later(root, cut):
    server = Asked([])
    server.says = [patient(server.stop, cut_after=1.9, then=cut)]
    with server.running(), Parked(root, server.url, 4) as parked:
        until("it parks for less", lambda: len(server.requests) >= 3)
        parked.tells("yes, by waits of 2 s, as longer ones were cut")
        until("it tries the whole wait again", lambda: waits(server).count(4) == 2)
    first, *rest = waits(server)
    assert (first, set(rest[: rest.index(4)])) == (4, {1})
    assert parked.wakes == []


@pytest.fixture
def proxy(request, tmp_path):
    """Runs an nginx or a HAProxy before this port, which gives up an answer after 1.9 s."""
    proxies.needed(request.param)
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def running(target):
        if request.param == "nginx":
            there = f"location / {{ proxy_pass http://127.0.0.1:{target}; proxy_read_timeout 1900ms; }}"
            return proxies.nginx_with(f"server {{ listen 127.0.0.1:{port}; {there} }}", tmp_path, url)
        return proxies.haproxy_with(HAPROXY.format(port=port, target=target), tmp_path, url)

    return running


HAPROXY = """
defaults
    mode http
    timeout connect 1s
    timeout client 1900ms
    timeout server 1900ms
frontend door
    bind 127.0.0.1:{port}
    default_backend metas
backend metas
    server one 127.0.0.1:{target}
"""


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"], indirect=True)
def test_the_limit_of_a_real_proxy_is_learnt(root, proxy):
    server = Asked([])
    server.says = [patient(server.stop)]
    with server.running(), proxy(server.url.rpartition(":")[2]) as url:
        with Parked(root, url, 4) as parked:
            parked.tells("yes, by waits of 2 s, as longer ones were cut")
        assert waits(server)[:2] == [4, 1]
        assert parked.wakes == []


def test_a_path_that_allows_no_useful_wait_is_not_used_for_a_while(root):
    server = Asked([])
    server.says = [patient(server.stop, cut_after=0.6)]
    with server.running(), Parked(root, server.url, 4) as parked:
        until("it tried the shortest wait too", lambda: len(server.requests) == 2)
        began = time.monotonic()
        parked.tells("closed without an answer; meta is asked from 2")
        until("it tries again", lambda: len(server.requests) == 3)
        assert time.monotonic() - began > SPANS.rest
    assert waits(server) == [4, 1, 4]


def test_an_answer_that_drips_or_never_comes_costs_the_wait_and_some_grace(root):
    server = Server([])
    dripping = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000
    server.says = [drip(dripping, server.stop), held(server.stop, 20)]
    began = time.monotonic()
    with server.running(), Parked(root, server.url, 1) as parked:
        until("the next is asked", lambda: len(server.requests) == 2)
        assert 1.4 < time.monotonic() - began < 4
        parked.tells("no complete answer")
    assert parked.wakes == []


def ok(body):
    return answer(body.encode())


GARBAGE = {
    "nothing": ok(""),
    "a page": ok("<html>Sign in to the hotel's network</html>"),
    "no within": ok("{}"),
    "a negative time": ok('{"within": -1}'),
    "no number": ok('{"within": NaN}'),
    "text": ok('{"within": "1"}'),
    "a truth": ok('{"within": true}'),
    "too long a time": ok('{"within": 1e300}'),
    "a list": ok('[{"within": 1}]'),
    "a deep one": ok('{"a":' + "[" * 400),
    "a large one": ok('{"within": 0, "a": "' + "x" * 2000 + '"}'),
    "no UTF-8": answer(b'\xff\xfe{"within": 0}'),
    "a compressed one": answer(b'{"within": 0}', "200 OK", "Content-Encoding: gzip"),
    "a cut one": answer(b'{"within": 0}', length=50),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "another version": raw(b"HTTP/3.0 hello\r\n\r\n"),
    "a redirect": answer(b"", "302 Found", "Location: /other"),
    "a partial one": answer(b'{"within": 0}', "206 Partial"),
    "another success": answer(b'{"within": 0}', "202 Accepted"),
    "an error": answer(b"", "500 Oops"),
    "a status of no kind": answer(b"", "999 Odd"),
}


@pytest.mark.long
@pytest.mark.parametrize("says", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_wakes_nothing_and_is_asked_again_ever_more_seldom(root, says):
    with serving(says) as server, Parked(root, server.url) as parked:
        until("it asked three times", lambda: len(server.requests) >= 3, within=60)
        parked.tells(server.url)
        assert len(server.requests) < 12
    assert parked.wakes == []
    assert {request.split(b"?")[0] for request in server.requests} == {b"GET /notify"}


def test_an_answer_without_end_costs_no_memory_and_wakes_nothing(root):
    server = Server([])
    server.says = [endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536, server.stop)]
    with server.running(), Parked(root, server.url) as parked:
        parked.tells("longer than 1024 bytes")
    assert parked.wakes == []


def test_a_meta_that_vanishes_is_parked_at_again_when_it_is_back(root):
    port = free_port()
    with Parked(root, f"http://127.0.0.1:{port}") as parked:
        parked.tells("Connection refused")
        time.sleep(1)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(10)
            listener.accept()[0].close()
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(20)
            connection = listener.accept()[0]
            assert b"GET /notify" in connection.recv(1000)
            WAKE(connection)
            until("it is woken", lambda: parked.wakes)
            connection.close()


def test_a_thousand_wakes_at_once_without_news_are_few_beats(root):
    with serving(WAKE) as server, Parked(root, server.url) as parked:
        parked.beat_when_woken(3)
        assert 3 <= len(parked.wakes) <= 6, "at 0.2, 0.6, 1.4 and 3 s"
        assert "meta wakes this host again and again without news" in parked.says()
        assert len(server.requests) <= len(parked.wakes) + 1


def test_a_thousand_wakes_at_once_that_each_bring_news_are_as_far_apart_as_wakes_are(root):
    with serving(WAKE) as server, Parked(root, server.url) as parked:
        parked.beat_when_woken(2, known=lambda: os.urandom(8).hex())
        apart = [later - earlier for earlier, later in pairwise(parked.wakes)]
    assert len(apart) > 5
    assert min(apart) >= SPANS.least


def test_a_thousand_answers_at_once_of_nothing_new_are_few_requests(root):
    with serving(NOTHING) as server, Parked(root, server.url) as parked:
        parked.tells("answers at once, without a wait")
        time.sleep(1)
        assert len(server.requests) <= 6


def test_the_first_park_of_a_start_is_a_random_part_of_the_interval_away(root):
    with serving(NOTHING) as server:
        hosts = [Parked(root, server.url, interval=3) for _ in range(8)]
        for one in hosts:
            one.park()
        until("one asks", lambda: server.requests)
        assert len(server.requests) < 6
        assert until("another says so", hosts[0].says).startswith(("no: the updater has just begun", "yes"))
        for one in hosts:
            one.parking.close()


def test_parks_that_beats_hung_up_are_no_failures(root):
    with serving(held(threading.Event(), 3)) as server, Parked(root, server.url, 30) as parked:
        for count in range(1, 7):
            until("it is parked", lambda count=count: len(server.requests) == count, within=2)
            parked.beat()
        parked.tells("before that: the updater has just begun")


@pytest.mark.long
def test_an_answer_may_come_later_than_any_other_answer_of_a_server(root):
    with serving(held(threading.Event(), IDLE + 2, WAKE)) as server, Parked(root, server.url, 40) as parked:
        until("it is woken", lambda: parked.wakes, within=IDLE + 10)
        assert len(server.requests) == 1


@pytest.mark.parametrize("end", ["pause", "close", "reload"])
def test_a_beat_a_stop_and_a_reload_hang_up_at_once(root, end):
    gone = threading.Event()

    def say(connection):
        connection.settimeout(20)
        if connection.recv(1) == b"":
            gone.set()

    with serving(say) as server, Parked(root, server.url, 30) as parked:
        until("it is parked", lambda: server.requests)
        began = time.monotonic()
        getattr(parked.parking, end)()
        assert time.monotonic() - began < 0.1, "it waits for nobody"
        assert gone.wait(5)
        if end == "reload":
            until("it parks again", lambda: len(server.requests) == 2)
            return
        time.sleep(0.5)
        assert len(server.requests) == 1
        if end == "close":
            parked.park()
            time.sleep(0.5)
            assert len(server.requests) == 1
            assert not [one for one in threading.enumerate() if one.name == "parking"]


def test_a_park_hung_up_while_it_connects_ends_there_and_is_no_failure(root):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        blocked = [socket.socket() for _ in range(4)]  # the queue is full: the next one's SYN is not answered
        for one in blocked:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with Parked(root, f"http://127.0.0.1:{port}") as parked:
            parked.tells("perhaps: ")
            began = time.monotonic()
            parked.parking.pause()
            assert time.monotonic() - began < 0.1
        for one in blocked:
            one.close()
    assert "no: http" not in parked.says()


def test_no_connection_passes_to_another_program(root):
    with serving(held(threading.Event(), 2)) as server, Parked(root, server.url):
        until("it is parked", lambda: server.requests)
        links = [int(one.name) for one in Path("/proc/self/fd").iterdir() if one.exists() or one.is_symlink()]
        sockets = [one for one in links if _is_socket(one)]
        assert len(sockets) >= 3
        assert [one for one in sockets if os.get_inheritable(one)] == []


def _is_socket(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


@pytest.mark.parametrize("offer", [{"wait": 0}, {"notify": False}])
def test_what_is_not_offered_or_switched_off_is_not_asked(root, offer):
    with serving(NOTHING) as server, Parked(root, server.url, **offer) as parked:
        for _ in range(5):
            parked.beat()
            time.sleep(0.05)
        assert server.requests == []
        assert not any(one.name == "parking" for one in threading.enumerate())


def test_a_host_is_not_parked_while_meta_does_not_answer_its_beats(root):
    with serving(held(threading.Event(), 3)) as server, Parked(root, server.url) as parked:
        until("it is parked", lambda: server.requests)
        parked.parking.pause()
        parked.parking.park(None, time.monotonic() + 60)
        parked.tells("no: meta did not answer the last heartbeat")
        time.sleep(0.3)
        assert len(server.requests) == 1


def test_parks_go_through_the_proxy_of_the_environment(root, monkeypatch):
    with serving(answer(b"", "504 Gateway Timeout"), WAKE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Parked(root, "http://meta.test:2000") as parked:
            until("it is woken", lambda: parked.wakes)
    assert proxy.requests[0].startswith(b"GET http://meta.test:2000/notify?hostname=h1&known=00 HTTP/1.1\r\n")


def test_another_meta_is_not_asked_before_it_offers_it_and_begins_without_what_was_learnt(root):
    with serving(held(threading.Event(), 1)) as old, serving(WAKE) as new, Parked(root, old.url) as parked:
        until("it is parked", lambda: old.requests)
        parked.host.reconfigure(Config(new.url, interval=0.001))
        parked.parking.reload()
        time.sleep(0.3)
        assert new.requests == []
        parked.server = new.url
        parked.beat()
        until("the new one wakes", lambda: parked.wakes)
        assert len(old.requests) == 1
