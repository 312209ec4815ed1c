"""HTTP out against servers that break every rule: each costs at most its deadline and its limit."""

import base64
import contextlib
import os
import re
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import pytest
import trustme

from helpers.servers import Server, answer, drip, endless, raw, serving
from updater.errors import Misconfigured, Refused, TryLater
from updater.net.deadline import Deadline
from updater.net.http import Http
from updater.wire.text import one_line


@pytest.fixture
def http():
    return Http()


def read(http, url, within=5.0, limit=1000, **more):
    with http.exchange("GET", url, within, **more) as response:
        return response.status, response.read(limit)


def test_an_answer_is_its_status_and_its_body(http):
    with serving(answer(b"hello", "404 Not Found")) as server:
        assert read(http, server.url) == (404, b"hello")


def test_a_request_says_no_more_than_the_go_updater_did(http):
    with serving(answer()) as server, http.exchange("POST", f"{server.url}/heartbeat", 5, b"{}") as response:
        response.read(10)
    [request] = server.requests
    head = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "POST /heartbeat HTTP/1.1"
    assert sorted(line.partition(":")[0] for line in head[1:]) == [
        "Accept-Encoding",
        "Content-Length",
        "Host",
        "User-Agent",
    ]


DRIPPED = {
    "the status line": b"HTTP/1.1 200 OK\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000,
}


@pytest.mark.parametrize("data", DRIPPED.values(), ids=DRIPPED.keys())
def test_a_server_that_drips_costs_no_more_than_the_deadline(http, data):
    server = Server([])
    server.says = [drip(data, server.stop)]
    began = time.monotonic()
    with server.running(), pytest.raises(TryLater, match=r"no complete answer within 0\.5 s"):
        read(http, server.url, within=0.5, limit=1 << 20)
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_costs_no_more_than_the_deadline(http):
    server = Server([])
    server.says = [lambda connection: server.stop.wait(10)]
    with server.running(), pytest.raises(TryLater):
        read(http, server.url, within=0.5)


def test_a_read_may_wait_as_long_as_the_caller_says(http):
    def say(connection):
        time.sleep(0.6)
        answer(b"late")(connection)

    with serving(say) as server:
        assert read(http, server.url, idle=5) == (200, b"late")
        began = time.monotonic()
        with pytest.raises(TryLater, match="timed out"):
            read(http, server.url, idle=0.3)
        assert time.monotonic() - began < 0.6


def test_another_thread_may_end_an_exchange(http):
    server = Server([])
    server.says = [lambda connection: server.stop.wait(10)]
    deadline = Deadline(8)
    timer = threading.Timer(0.3, deadline.expire)
    began = time.monotonic()
    with server.running():
        timer.start()
        with pytest.raises(TryLater):
            read(http, server.url, within=8, deadline=deadline)
        assert 0.3 <= time.monotonic() - began < 3
        assert 0.2 < deadline.connected_for() < 3


def test_an_exchange_that_was_ended_before_it_began_gets_no_answer(http):
    deadline = Deadline(5)
    deadline.expire()
    with serving(answer(b"hello")) as server, pytest.raises(TryLater):
        read(http, server.url, deadline=deadline)


def test_the_kernel_probes_whether_the_peer_of_a_silent_connection_is_there(http):
    options = []

    def say(connection):
        mine = connection.getpeername()
        for one in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                sock = socket.socket(fileno=os.dup(one))
                with sock:
                    if sock.getsockname() == mine:
                        options.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
                        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
        answer()(connection)

    with serving(say) as server:
        read(http, server.url)
    assert set(options) == {1, 30}


def test_a_tls_handshake_that_drips_costs_no_more_than_the_deadline(http):
    server = Server([])
    server.says = [drip(b"\x16\x03\x03\x40\x00" + b"x" * 1000, server.stop)]
    began = time.monotonic()
    with server.running(), pytest.raises(TryLater):
        read(http, server.url.replace("http:", "https:"), within=0.5)
    assert time.monotonic() - began < 5


LATER = {
    "nothing": raw(b""),
    "a cut status line": raw(b"HTTP/1.1 2"),
    "a cut word": raw(b"SSH"),
    "a cut body": answer(b"half", length=8),
    "a cut chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"),
    "a chunk of no number": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n"),
}


@pytest.mark.parametrize("say", LATER.values(), ids=LATER.keys())
def test_an_answer_that_was_cut_short_is_tried_later(http, say):
    with serving(say) as server, pytest.raises(TryLater):
        read(http, server.url)


ODD_LENGTHS = ["\u00b2", "-4", "many", "9" * 5000, "0x4", "+4", "1_0"]


@pytest.mark.parametrize("length", ODD_LENGTHS)
def test_a_length_that_is_no_number_is_refused_in_words(http, length):
    data = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhalf".encode("latin-1")
    with serving(raw(data)) as server, pytest.raises(Refused, match="Content-Length") as caught:
        read(http, server.url)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_chunk_of_a_length_below_zero_is_not_taken_for_all_that_comes(http):
    server = Server([])
    server.says = [endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * 65536, server.stop)]
    with server.running(), pytest.raises(Refused, match="longer than 1000 bytes"):
        read(http, server.url, within=3)


def test_headers_that_are_cut_are_those_of_an_empty_body(http):
    with serving(raw(b"HTTP/1.1 200 OK\r\nContent-")) as server:
        assert read(http, server.url) == (200, b"")


def test_nobody_listening_is_tried_later(http):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(TryLater) as caught:
            read(http, f"http://127.0.0.1:{port}/x")
    words = f"http://127.0.0.1:{port}/x: no answer from 127.0.0.1 port {port}: Connection refused"
    assert str(caught.value) == words


def test_an_error_names_who_was_asked_and_not_only_who_was_meant(http, monkeypatch):
    """Through a proxy, or after a redirect, these differ."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        words = f"no answer from 127.0.0.1 port {port}: Connection refused"
        there = f"http://127.0.0.1:{port}/x"
        away = answer(b"", "302 Found", f"Location: {there}?signature=secret")
        with serving(away) as server, pytest.raises(TryLater, match=f"^{server.url}, redirected to {there}: {words}$"):
            read(http, server.url)
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        through = f"through the proxy 127.0.0.1:{port}"
        with pytest.raises(TryLater, match=f"^http://releases.example/x, {through}: {words}$"):
            read(http, "http://releases.example/x")


TOO_LONG = r"the answer is not HTTP \(one of its lines is too long\)"
CUT = {
    "nothing": (raw(b""), "the connection was closed without an answer"),
    "a cut body": (answer(b"half", length=8), "the answer was cut short"),
    "a cut chunk": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"), "the answer was cut short"),
    "a chunk of no length": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n"),
        "the answer was cut short",
    ),
}
MALFORMED = {
    "two lengths": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhalf"),
        "its Content-Lengths differ",
    ),
    "another protocol": (
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        r'the answer is not HTTP \(it begins with "SSH-2.0-OpenSSH_9.2"\)',
    ),
    "another HTTP": (raw(b"HTTP/9.1 200 OK\r\n\r\n"), r'the answer is not HTTP \(it begins with "HTTP/9.1"\)'),
    "a status line without end": (raw(b"HTTP/1.1 200 " + b"O" * 100_000), TOO_LONG),
    "a header without end": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000), TOO_LONG),
    "a chunk's length without end": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000),
        TOO_LONG,
    ),
    "a thousand headers": (
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
        r"the answer is not HTTP \(its header has too many lines\)",
    ),
}


@pytest.mark.parametrize(("say", "words"), CUT.values(), ids=CUT.keys())
def test_what_was_cut_short_is_tried_later_and_said_in_plain_words(http, say, words):
    with serving(say) as server, pytest.raises(TryLater, match=f"^{server.url}: {words}$"):
        read(http, server.url)


@pytest.mark.parametrize(("say", "words"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_refused_and_said_in_plain_words(http, say, words):
    with serving(say) as server, pytest.raises(Refused, match=f"^{server.url}: {words}$"):
        read(http, server.url)


def test_a_name_that_cannot_be_resolved_is_said_so(http):
    with pytest.raises(TryLater) as caught:
        read(http, "http://no-such-host.invalid:8/x")
    assert "no answer from no-such-host.invalid port 8: the name cannot be resolved (" in str(caught.value)


def test_an_error_shows_no_object_of_a_library(http, tls_url):
    for url in (tls_url, tls_url.replace("https", "http"), "http://127.0.0.1:1/x", "https://127.0.0.1:1/x"):
        with pytest.raises(TryLater) as caught:
            read(http, url)
        assert not re.search(r"0x|_Watched|Pool|object|Error\(", str(caught.value)), str(caught.value)


def test_a_long_body_is_read_up_to_the_limit_and_refused(http):
    server = Server([])
    server.says = [
        endless(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n", server.stop
        )
    ]
    with server.running(), pytest.raises(Refused, match="longer than 1000 bytes"):
        read(http, server.url)


def test_a_body_that_would_inflate_is_refused(http):
    with (
        serving(answer(b"\x1f\x8b\x08", "200 OK", "Content-Encoding: gzip")) as server,
        pytest.raises(Refused, match="gzip"),
    ):
        read(http, server.url)


def test_a_redirect_is_followed_and_not_further_than_told(http):
    with serving(answer(b"here")) as target, serving(answer(b"", "302 Found", f"Location: {target.url}/x")) as server:
        assert read(http, server.url) == (200, b"here")
        assert read(http, server.url, redirects=False)[0] == 302


# What a signature is over, or what a store finds its object by, and which a library would write in a better way.
LITERAL = [
    "/a%2fb",
    "/a%2Fb",
    "/%7Euser/agent%2B1.tar.gz",
    "/~user/agent+1.tar.gz",
    "/a/../b/./c//d",
    "//two/slashes",
    "/x?X-Amz-Credential=KEY%2F20260101%2Fus-east-2%2Fs3&X-Amz-Signature=0a%3d&empty=&flag",
    "/x?",
    "/x?a=1&a=2;b?c/d",
    "/{bucket}|a^b`c",
    "/x?sig=a'b\"c<d>",
    "/%zz",
    "/!$&'()*+,;=:@",
]


@pytest.mark.parametrize("path", LITERAL)
def test_a_redirect_is_followed_byte_by_byte_as_it_stands(http, path):
    with serving(answer(b"here")) as target:
        away = answer(b"", "302 Found", f"Location: {target.url}{path}")
        with serving(away) as server:
            assert read(http, server.url) == (200, b"here")
    assert target.requests[0].split(b" ")[1].decode() == path


def test_a_redirect_is_followed_as_it_stands_also_through_a_proxy(http, monkeypatch):
    away = answer(b"", "302 Found", "Location: http://store.example/a%2fb?x=%7e")
    with serving(away, answer(b"here")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert read(http, "http://releases.example/x") == (200, b"here")
    assert proxy.requests[1].startswith(b"GET http://store.example/a%2fb?x=%7e HTTP/1.1\r\n")


NO_URLS = [
    f"http://xn--{'a' * 70}/",
    f"http://{'a.' * 130}invalid/",
    "http://..:80/",
    "http://a b/",
    "http://\xff\xfe/",
    "http://user:word@a b/",
    "http://.example/",
    "http://*.example/",
    "http://a..invalid/",
    "http://%00/",
    "http://[::::]/",
    "http://[::1%25lo]/",
    "http://[1.2.3.4]/",
    "http://[::1",
]


@pytest.mark.parametrize("location", NO_URLS)
def test_a_redirect_to_what_no_host_is_called_is_refused_before_it_is_looked_up(http, location):
    away = answer(b"", "302 Found", f"Location: {location}")
    with serving(away) as server, pytest.raises(Refused) as caught:
        read(http, server.url)
    assert str(caught.value) == f'{server.url}: it redirects to "{one_line(location, 80)}", which is no URL'


BAD_LOCATIONS = [
    "http://[zz]/",
    "http://a:99999/",
    "http://a:\u00b2/",
    "http://\u00e9\u00fc/",
    f"http://{'a' * 64}.invalid/",
    "http://xn--.invalid/",
    "//",
    "",
    "\u00e9",
    "http://user:pa:ss@/",
    "http://127.0.0.1:1/\x7f",
]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
def test_a_redirect_that_leads_nowhere_is_an_error_in_words(http, location):
    away = answer(b"", "302 Found", f"Location: {location}")
    with serving(away) as server, pytest.raises((Refused, TryLater)) as caught:
        read(http, server.url)
    assert str(caught.value).startswith(server.url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("say", [301, 302, 303, 307, 308])
def test_each_kind_of_redirect_is_followed_with_the_request_headers(http, say):
    with serving(answer(b"here")) as target:
        away = answer(b"", f"{say} Moved", f"Location: {target.url}/x")
        with serving(away) as server:
            assert read(http, server.url, headers={"Range": "bytes=5-"}) == (200, b"here")
    assert b"\r\nRange: bytes=5-\r\n" in target.requests[0]


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/x", "http://[::1", "\u00e9"])
def test_what_is_posted_follows_no_redirect(http, location):
    away = answer(b"", "307 Moved", f"Location: {location}")
    with serving(away) as server, http.exchange("POST", server.url, 5, b"{}") as response:
        assert response.status == 307


def test_redirects_have_an_end(http):
    server = Server([])
    with server.running():
        server.says = [answer(b"", "302 Found", f"Location: {server.url}/again")]
        with pytest.raises(Refused, match="redirects"):
            read(http, server.url)
    assert len(server.requests) <= 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
def test_a_redirect_out_of_http_is_refused(http, target):
    with serving(answer(b"", "302 Found", f"Location: {target}")) as server, pytest.raises(Refused):
        read(http, server.url)


@pytest.fixture
def authority(tmp_path):
    """An authority that the system does not know, and its certificate in a file."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def tls_url(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = tls_server(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_tls_is_verified(http, tls_url):
    with pytest.raises(TryLater, match="certificate verify failed"):
        read(http, tls_url)


def test_an_authority_of_the_company_is_trusted_when_it_is_configured(tls_url, tmp_path):
    assert read(Http(ca_file=str(tmp_path / "ca.pem")), tls_url) == (200, b"hello")


def test_another_authority_is_not(tls_url, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(TryLater, match="certificate verify failed"):
        read(Http(ca_file=str(tmp_path / "other.pem")), tls_url)


def tls_server(context):
    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    class Server(HTTPServer):
        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def test_the_proxy_of_the_environment_is_asked(http, monkeypatch):
    with serving(answer(b"by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "direct.example")
        assert read(http, "http://releases.example/x") == (200, b"by proxy")
    assert proxy.requests[0].startswith(b"GET http://releases.example/x HTTP/1.1\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_loopback_is_never_asked_through_a_proxy(http, monkeypatch, host):
    with serving(answer(b"by proxy")) as proxy, serving(answer(b"direct")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert read(http, server.url.replace("127.0.0.1", host)) == (200, b"direct")
    assert proxy.requests == []


def place(server):
    return server.url.removeprefix("http://")


PROXIES = ["http://bob:{}@{}", "bob:{}@{}", "HTTP://bob:{}@{}/", " bob:{}@{} "]
PASSWORDS = ["s3cret", "s3@cret", "s3#cret?", "s3[cret", "s3:cret", "s3%cret", "пароль"]


def credentials_in(request, header):
    [line] = [line for line in request.split(b"\r\n") if line.lower().startswith(header.lower().encode() + b":")]
    return base64.b64decode(line.partition(b"Basic ")[2]).decode()


@pytest.mark.parametrize(
    ("form", "password"), [(form, "s3/cret") for form in PROXIES] + [(PROXIES[1], one) for one in PASSWORDS]
)
def test_a_proxy_is_told_its_password_and_an_error_tells_it_to_nobody(http, monkeypatch, form, password):
    with serving(answer(b"by proxy"), raw(b"")) as proxy:
        monkeypatch.setenv("http_proxy", form.format(password, place(proxy)))
        assert read(http, "http://releases.example/x") == (200, b"by proxy")
        with pytest.raises(TryLater) as caught:
            read(http, "http://releases.example/x")
    words = f"no answer from {place(proxy).replace(':', ' port ')}: the connection was closed without an answer"
    assert str(caught.value) == f"http://releases.example/x, through the proxy {place(proxy)}: {words}"
    assert credentials_in(proxy.requests[0], "Proxy-Authorization") == f"bob:{password}"


def test_a_quoted_password_of_a_proxy_is_what_it_quotes_also_for_a_tunnel(http, monkeypatch):
    with serving(answer(b"", "403 Forbidden")) as proxy:
        monkeypatch.setenv("https_proxy", f"bob:s3%2Fcr%D0%BF@{place(proxy)}")
        with pytest.raises(TryLater, match=f"through the proxy {place(proxy)}: .*403"):
            read(http, "https://releases.example/x")
    assert credentials_in(proxy.requests[0], "Proxy-Authorization") == "bob:s3/cr\u043f"


def test_a_proxy_without_a_scheme_is_asked(http, monkeypatch):
    with serving(answer(b"by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", place(proxy))
        assert read(http, "http://releases.example/x") == (200, b"by proxy")


NO_PROXIES = {
    "http://bob:s3cret@": "(a proxy that is no URL)",
    "http://bob:s3cret@proxy:port": "(a proxy that is no URL)",
    "bob:s3cret@a proxy": "(a proxy that is no URL)",
    "socks5://bob:s3cret@proxy:1": "proxy:1",
    "bob://s3cret@proxy:1": "proxy:1",
}


@pytest.mark.parametrize("proxy", NO_PROXIES)
def test_a_proxy_that_is_none_is_for_a_person_to_mend_and_shown_without_its_password(http, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    words = re.escape(
        f"http://releases.example/x, through the proxy {NO_PROXIES[proxy]}: the environment's proxy must be"
    )
    with pytest.raises(Misconfigured, match=f"^{words}") as caught:
        read(http, "http://releases.example/x")
    assert not re.search("s3cret|bob", str(caught.value))


@pytest.mark.parametrize("quoted", ["s3cret", "p%D0%BF", "a%2Fb", "%zz"])
def test_a_password_in_a_url_is_told_to_its_server_in_utf_8(http, quoted):
    with serving(answer(b"here")) as server:
        assert read(http, server.url.replace("//", f"//bob:{quoted}@")) == (200, b"here")
    assert credentials_in(server.requests[0], "Authorization") == f"bob:{unquote(quoted)}"


def test_what_a_proxy_answers_is_said_to_be_from_a_proxy(http, monkeypatch):
    with serving(answer(b"log in", "407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with http.exchange("GET", "http://releases.example/x", 5) as response:
            assert str(response.way) == f"http://releases.example/x, through the proxy {place(proxy)}"


def test_a_tunnel_that_a_proxy_refuses_is_said_to_be_the_proxys(http, monkeypatch):
    with serving(answer(b"", "403 Forbidden")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(TryLater, match=f"through the proxy {place(proxy)}: .*403"):
            read(http, "https://releases.example/x")
