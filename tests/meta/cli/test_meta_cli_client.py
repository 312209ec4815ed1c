"""What the command line says when meta refuses, is not there, or is something else: one sentence and an exit code."""

import base64
import contextlib
import json
import socket
import ssl
import threading
from typing import Any

import pytest
import trustme

from helpers.meta_server import meta
from helpers.servers import answer, raw, serving
from meta.cli.client import ABSENT, Client, at
from meta.cli.errors import Conflict, NotThere
from meta.errors import MetaError, Misconfigured, TryLater

JSON = "Content-Type: application/json"
PROBLEM = "Content-Type: application/problem+json"
HTML = "Content-Type: text/html; charset=utf-8"
TOKEN = "ou_o_secretsecretsecret"


def refused(status: str, **fields: Any):
    body = {"title": status.split(" ", 1)[1], "status": int(status[:3])} | fields
    return answer(json.dumps(body).encode(), status, PROBLEM)


def failure(say, token: str = TOKEN, method: str = "GET") -> MetaError:
    with serving(say) as server, Client(server.url, token) as client, pytest.raises(MetaError) as caught:
        client.send(method, "/hosts", dict)
    assert TOKEN not in str(caught.value)
    return caught.value


def test_what_is_sent():
    say = answer(b"{}", "200 OK", JSON)
    with serving(say) as server, Client(server.url + "/", TOKEN) as client:
        client.send("PUT", at("records", "a+b"), dict, {"x": 1}, 41, why="it's \xe9", dryRun=True, action="")
        client.send("PUT", at("records", "a"), dict, {}, ABSENT)
        client.get("/hosts", dict, drift=False, name="*")
    heads = [request.split(b"\r\n\r\n")[0].decode().split("\r\n") for request in server.requests]
    assert [head[0] for head in heads] == [
        "PUT /api/v1/records/a%2Bb?why=it%27s+%C3%A9&dryRun=true HTTP/1.1",
        "PUT /api/v1/records/a HTTP/1.1",
        "GET /api/v1/hosts?drift=false&name=%2A HTTP/1.1",
    ]
    assert all(f"Authorization: Bearer {TOKEN}" in head for head in heads)
    assert 'If-Match: "41"' in heads[0]
    assert "If-None-Match: *" in heads[1]
    assert server.requests[0].endswith(b'\r\n\r\n{"x":1}')


def test_a_netrc_and_a_proxy_have_no_part_in_it(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(answer(b"{}", "200 OK", JSON)) as server, Client(server.url) as client:
        client.get("/hosts", dict)
    assert b"Authorization" not in server.requests[0]


@pytest.mark.parametrize("form", ["http://bob:s3/cret@{}", "bob:s3/cret@{}"])
def test_a_proxy_is_understood_as_curl_does(monkeypatch, form):
    with serving(answer(b"{}", "200 OK", JSON)) as proxy:
        monkeypatch.setenv("http_proxy", form.format(proxy.url.removeprefix("http://")))
        with Client("http://meta.example") as client:
            client.get("/hosts", dict)
    assert proxy.requests[0].startswith(b"GET http://meta.example/api/v1/hosts HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"bob:s3/cret") in proxy.requests[0]


@pytest.mark.parametrize("proxy", ["http://bob:s3cret@", "socks5://bob:s3cret@proxy", "bob:s3cret@proxy:port"])
def test_a_proxy_that_is_none_is_said_so_without_its_password(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(Misconfigured, match=r"^the environment's proxy .* must be like http://HOST:PORT") as caught:
        Client("http://meta.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://bob:s3/cret@meta.example", "ftp://bob:s3cret@meta.example"])
def test_a_url_of_meta_that_is_none_is_shown_without_its_password(url):
    with pytest.raises(Misconfigured, match=r"^META_URL ") as caught:
        Client(url)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("host", [f"xn--{'a' * 70}", "..:80", ".example", "a..b", "[::::]", "[::1%25lo]"])
def test_a_url_of_meta_with_what_no_host_is_called_is_refused_before_it_is_looked_up(host):
    with pytest.raises(Misconfigured, match=r"^META_URL (must be like|is no URL)"):
        Client(f"http://{host}")


@pytest.mark.parametrize(
    ("say", "kind", "why"),
    [
        (answer(b"<html>Log in</html>", "200 OK", HTML), Misconfigured, r"is not meta.*\(status 200, text/html\)"),
        (answer(b"<html>no</html>", "404 Not Found", HTML), Misconfigured, r"is not meta.*\(status 404, text/html\)"),
        (answer(b"[1]", "200 OK", JSON), Misconfigured, "is not meta, or of another version"),
        (answer(b"{}", "302 Found", "Location: http://login.example/?x"), Misconfigured, "redirects to http://login"),
        (answer(b"bad gateway", "502 Bad Gateway", HTML), TryLater, "a proxy answers, but no meta behind it"),
        (answer(b'{"a": ', "200 OK", JSON, length=100), TryLater, "gave no complete answer .*; try again"),
        (raw(b""), TryLater, "gave no complete answer"),
        (raw(b"\x00garbage\r\n\r\n"), TryLater, "gave no complete answer"),
        (
            refused("503 Service Unavailable", detail="the database is away"),
            TryLater,
            "meta says: the database is away; try",
        ),
        (refused("429 Too Many Requests", detail="slower"), TryLater, "slower; try again in a moment"),
        (
            refused("500 Internal Server Error"),
            TryLater,
            "meta failed with an internal error .Internal Server Error.: its log",
        ),
        (refused("403 Forbidden", detail="this is for editors"), Misconfigured, "^this is for editors$"),
        (refused("404 Not Found", detail="there is no agent x"), NotThere, "^there is no agent x$"),
        (refused("401 Unauthorized", detail="this token has expired"), Misconfigured, "has expired: put yours into"),
    ],
)
def test_failures_are_one_sentence(say, kind, why):
    error = failure(say)
    assert type(error) is kind
    assert "\n" not in str(error)
    with pytest.raises(kind, match=why):
        raise error


@pytest.mark.parametrize("tag", ["\u00b2", '"\u00b2"', '"' + "9" * 5000 + '"', '"-1"', ""])
def test_a_revision_that_is_no_number_is_another_program_and_no_traceback(tag):
    say = answer(b"{}", "200 OK", JSON, f"ETag: {tag}")
    with serving(say) as server, Client(server.url, TOKEN) as client, pytest.raises(Misconfigured, match="no revision"):
        client.get_versioned("/records", dict)


def test_who_shows_no_token_is_told_how_to_get_one():
    assert str(failure(refused("401 Unauthorized", detail="who are you?"), token="")).startswith(
        "this needs a token: put yours into ~/.config/meta/token (mode 600) or META_TOKEN; an admin creates one with"
    )


def test_a_change_that_was_cut_may_have_been_made():
    assert "check `meta history` whether it was done" in str(failure(raw(b""), method="PUT"))


def test_all_that_is_wrong_is_told():
    problems = [{"path": "agents[0].cmd", "text": "is bad"}, {"path": "", "text": "worse"}]
    error = failure(refused("400 Bad Request", detail="is bad (and 1 more)", problems=problems))
    assert (type(error), str(error)) == (Misconfigured, "agents[0].cmd: is bad\nworse")


def test_a_conflict_brings_the_difference_without_control_characters():
    error = failure(
        refused("412 Precondition Failed", detail="a changed", difference=["by bob", "  a: 1 -> \x1b[31m2"])
    )
    assert isinstance(error, Conflict)
    assert (str(error), error.lines, error.exit_code) == ("a changed", ["by bob", r"  a: 1 -> \u001b[31m2"], 1)


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever():
    stop = threading.Event()
    with serving(lambda _: stop.wait(5)) as server, Client(server.url, patience=0.2) as client:
        with pytest.raises(TryLater, match="gave no complete answer"):
            client.send("GET", "/hosts", dict)
        stop.set()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:2000", "must be like https://meta.example:2000"),
        ("ftp://meta", "must be like"),
        ("http://", "must be like"),
        ("http://h:99999", "is no URL"),
        ("http://me:secret@meta:2000", "must contain no user and no password"),
    ],
)
def test_urls_that_cannot_be_meant(url, why):
    with pytest.raises(Misconfigured, match=why) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_names_cannot_lead_elsewhere():
    assert at("hosts", "a b%") == "/hosts/a%20b%25"
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(Misconfigured, match="is no valid name"):
            at("hosts", name)


def test_a_token_that_goes_over_the_wire_in_the_clear_is_warned_of(capsys):
    Client("http://meta.example:2000", TOKEN)
    assert capsys.readouterr().err == "warning: your token goes to http://meta.example:2000 unencrypted; use https\n"
    Client("https://meta.example:2000", TOKEN)
    Client("http://[::1]:2000", TOKEN)
    assert capsys.readouterr().err == ""


@pytest.fixture
def tls_url(tmp_path):
    """A server with a certificate of an authority whose own is in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def say(connection):
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(65536)
            answer(b'{"tls": true}', "200 OK", JSON)(wrapped)

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: say(server.accept()[0]))
    thread.start()
    yield f"https://127.0.0.1:{server.getsockname()[1]}"
    thread.join(10)
    server.close()


def test_tls_is_verified(tls_url):
    with Client(tls_url) as client, pytest.raises(Misconfigured, match=r"is not trusted .*with META_CA_FILE"):
        client.get("/hosts", dict)


def test_authorities_of_the_company_are_trusted_when_they_are_named(tls_url, tmp_path):
    with Client(tls_url, TOKEN, tmp_path / "ca.pem") as client:
        assert client.get("/hosts", dict) == {"tls": True}


def test_files_that_are_no_authorities_are_told(tls_url, tmp_path):
    with pytest.raises(Misconfigured, match=r"authorities .*none.pem does not exist"):
        Client(tls_url, "", tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("garbage")
    with Client(tls_url, "", tmp_path / "bad.pem") as client, pytest.raises(MetaError) as caught:
        client.get("/hosts", dict)
    assert "META_CA_FILE" in str(caught.value) or "TLS" in str(caught.value)
    socket.create_connection(("127.0.0.1", int(tls_url.rpartition(":")[2]))).close()


def test_pages_are_followed_to_the_limit():
    pages = [{"items": [{"name": "a"}, {"name": "b"}], "next": "b"}, {"items": [{"name": "c"}], "next": ""}]
    says = [answer(json.dumps(page).encode(), "200 OK", JSON) for page in pages]
    with serving(*says) as server:
        done = meta("hosts", "--all", "-o", "json", directory=".", META_URL=server.url, HOME="/nonexistent")
    assert [item["name"] for item in json.loads(done.stdout)["items"]] == ["a", "b", "c"]
    assert [request.split()[1] for request in server.requests] == [
        b"/api/v1/hosts?limit=1000",
        b"/api/v1/hosts?cursor=b&limit=1000",
    ]


def test_the_command_ends_with_the_sentence_and_the_code(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = meta("hosts", directory=tmp_path, META_URL=url, HOME=str(tmp_path))
    sentence = f"meta: no meta answers at {url} (Connection refused): is it running, and is META_URL right?\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
