"""Class 6: what meta and the tarball server may answer. No answer changes the running agent, none costs more than its time."""

import gzip
import hashlib
import json
import time
from collections.abc import Callable

from faults import invariants
from faults.scenarios import SCENARIOS, A
from faults.world import World
from helpers.servers import Say, Server, answer, drip, endless, raw

NAME = "http"
PARTS = ("meta", "tarball", "digest")
BOUND = 24.0  # seconds before it counts as hanging; the heartbeat may take 3 of them

_UPGRADE = SCENARIOS["upgrade"]
Make = Callable[[Server], Say]

_OK = b"HTTP/1.1 200 OK\r\n"
_EMPTY = b'{"errorMessage":"","desiredAgents":[]}'
_PAGE = b"<!doctype html><title>Log in to the network</title>"


def _say(say: Say) -> Make:
    return lambda _: say


def _status(line: str, *headers: str, body: bytes = b"no") -> Make:
    return _say(answer(body, line, *headers))


# What a server may do whatever it serves.
_ANY: dict[str, Make] = {
    "nothing": _say(raw(b"")),
    "a cut status line": _say(raw(b"HTTP/1.1 2")),
    "cut headers": _say(raw(_OK + b"Content-Le")),
    "another protocol": _say(raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "binary": _say(raw(bytes(range(256)) * 20)),
    "a captive portal": _say(answer(_PAGE, "200 OK", "Content-Type: text/html")),
    "a redirect to the portal": _status("302 Found", "Location: http://127.0.0.1:9/login"),
    "a redirect to a file": _status("302 Found", "Location: file:///etc/passwd"),
    "a redirect in a circle": lambda server: answer(b"", "302 Found", f"Location: {server.url}/"),
    "a redirect to nowhere": _status("302 Found", "Location: //"),
    "a redirect to no URL": _status("302 Found", "Location: http://[::1"),
    "a redirect to bytes": _say(raw(b"HTTP/1.1 302 Found\r\nLocation: \xe9\r\nContent-Length: 0\r\n\r\n")),
    "301 without a location": _status("301 Moved Permanently"),
    "204": _status("204 No Content", body=b""),
    "400": _status("400 Bad Request"),
    "401": _status("401 Unauthorized", "WWW-Authenticate: Basic"),
    "403": _status("403 Forbidden"),
    "404": _status("404 Not Found"),
    "413": _status("413 Content Too Large"),
    "429 with a date": _status("429 Too Many Requests", "Retry-After: Fri, 20 Nov 2099 00:00:00 GMT"),
    "429 with garbage": _status("429 Too Many Requests", "Retry-After: soon"),
    "500": _status("500 Internal Server Error"),
    "502": _status("502 Bad Gateway"),
    "503 with a wait": _status("503 Service Unavailable", "Retry-After: 9999999"),
    "599": _status("599 Strange"),
    "100 for ever": lambda server: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", server.stop),
    "silence": lambda server: lambda _: server.stop.wait(30) and None,
    "a dripping status line": lambda server: drip(_OK, server.stop),
    "dripping headers": lambda server: drip(_OK + b"X: y\r\n" * 1000, server.stop),
    "endless headers": lambda server: endless(_OK, b"X: y\r\n" * 1000, server.stop),
    "a dripping body": lambda server: drip(_OK + b"Content-Length: 99999\r\n\r\n" + b" " * 999, server.stop),
    "a dripping body without a length": lambda server: drip(_OK + b"\r\n" + b" " * 999, server.stop),
    "an endless body": lambda server: endless(_OK + b"\r\n", b" " * 65536, server.stop),
    "endless chunks": lambda server: endless(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n", server.stop
    ),
    "a cut body": _say(answer(b"half", length=4000)),
    "a cut chunk": _say(raw(_OK + b"Transfer-Encoding: chunked\r\n\r\n400\r\nhalf")),
    "a chunk of no length": _say(raw(_OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n")),
    "two lengths": _say(raw(_OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nhalf")),
    "a length below zero": _say(raw(_OK + b"Content-Length: -4\r\n\r\nhalf")),
    "a length that is none": _say(raw(_OK + b"Content-Length: many\r\n\r\nhalf")),
    "a length in superscript": _say(raw(_OK + b"Content-Length: \xb2\r\n\r\nhalf")),
    "a length of 5,000 digits": _say(raw(_OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhalf")),
    "a chunk of a length below zero": lambda server: endless(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b" " * 65536, server.stop
    ),
    "503 with a wait in superscript": _status("503 Service Unavailable", "Retry-After: \u00b2"),
    "a gzip bomb": _say(answer(gzip.compress(b" " * (64 << 20)), "200 OK", "Content-Encoding: gzip")),
    "an unknown encoding": _say(answer(_EMPTY, "200 OK", "Content-Encoding: zstd")),
}


def _json(value: object) -> Make:
    return _say(answer(value if isinstance(value, bytes) else json.dumps(value).encode()))


def _agents(*entries: object) -> Make:
    return _json({"errorMessage": "", "desiredAgents": list(entries)})


_ENTRY = {"name": A, "version": "2", "tarball": "http://127.0.0.1:9/x", "md5": "0" * 32, "cmd": "start"}
_META: dict[str, Make] = _ANY | {
    "an empty list": _json(_EMPTY),
    "null for a list": _json({"errorMessage": "", "desiredAgents": None}),
    "no list": _json({}),
    "a number for a list": _json({"desiredAgents": 5}),
    "an error message": _json({"errorMessage": "database is down", "desiredAgents": []}),
    "a list at the top": _json([]),
    "null": _json(b"null"),
    "half a JSON": _json(_EMPTY[:-2]),
    "two JSONs": _json(_EMPTY * 2),
    "100,000 brackets": _json(b"[" * 100_000),
    "depth in an unknown field": _json(b'{"desiredAgents":[],"x":' + b"[" * 100_000),
    "a lone surrogate": _json(b'{"errorMessage":"\\ud800","desiredAgents":[]}'),
    "UTF-16": _json(_EMPTY.decode().encode("utf-16")),
    "2 MB of blanks": _json(b" " * (2 << 20) + _EMPTY),
    "10,000 agents": _agents(*[_ENTRY] * 10_000),
    "the same agent twice": _agents(_ENTRY, _ENTRY | {"version": "3"}),
    "a name that climbs": _agents(_ENTRY | {"name": "../../etc"}),
    "a version that climbs": _agents(_ENTRY | {"version": "../1"}),
    "an unknown command": _agents(_ENTRY | {"cmd": "format"}),
    "a file for a tarball": _agents(_ENTRY | {"tarball": "file:///etc"}),
    "a tarball that nobody serves": _agents(_ENTRY),
    "numbers for texts": _agents({"name": 1, "version": 2, "tarball": 3, "md5": 4, "cmd": 5}),
    "nulls for texts": _agents(dict.fromkeys(_ENTRY)),
    "itself to be stopped": _agents({"name": "ops-updater", "cmd": "stop"}),
}
_TARBALL: dict[str, Make] = _ANY | {
    "a rest that was not asked for": _status("206 Partial Content", "Content-Range: bytes 5-9/10", body=b"12345"),
    "an ETag of 8 KB, and a cut body": _say(answer(b"half", "200 OK", 'ETag: "' + "x" * 8000 + '"', length=4000)),
    "416": _status("416 Range Not Satisfiable"),
    "other bytes": _say(answer(b"\x1f\x8b" + b"x" * 1000)),
    "an empty file": _say(answer(b"")),
}
_DIGEST: dict[str, Make] = {
    **{
        name: _ANY[name]
        for name in ("404", "500", "a captive portal", "a dripping body", "a gzip bomb", "an endless body")
    },
    "an empty file": _say(answer(b"")),
    "another file's digest": _say(answer(b"0" * 32 + b"  other.tar.gz\n")),
    "a wrong digest": _say(answer(b"0" * 32 + f"  {A}-2.tar.gz\n".encode())),
}
_PARTS = {"meta": _META, "tarball": _TARBALL, "digest": _DIGEST}


def cases(_: World, part: str) -> list[str]:
    return [f"{part}:{name}" for name in _PARTS[part]]


def run(world: World, case: str) -> list[str]:
    """What is wrong while a server answers so, and after it answers rightly again."""
    part, name = case.split(":", 1)
    ending = world.ending(_UPGRADE)
    world.begin(_UPGRADE)
    before = invariants.begun(world)
    server = Server([])
    server.says = [_PARTS[part][name](server)]
    began = time.monotonic()
    with server.running():
        if name == "a redirect in a circle":
            server.says = [_PARTS[part][name](server)]
        done = _once(world, part, server)
        took = time.monotonic() - began
    problems = [] if took < BOUND else [f"took {took:.1f} s"]
    problems += invariants.after_fault(world, _UPGRADE, before)
    problems += invariants.after_return(world, _UPGRADE, before, done, endless=False)
    if {d.pid for d in world.daemons()} != set(before["daemons"].values()):
        problems.append("the running agent was touched")
    if problems:
        return problems
    world.order(_UPGRADE)
    return invariants.after_heal(world, _UPGRADE, ending, world.once()) or invariants.at_rest(world, _UPGRADE)


def _once(world: World, part: str, server: Server):  # type: ignore[no-untyped-def]
    """One cycle in which this server is meta, or serves the tarball or its digest."""
    if part == "meta":
        usual = world.config.read_text()
        world.config.write_text(json.dumps(json.loads(usual) | {"server": server.url.removeprefix("http://")}))
        try:
            return world.once()
        finally:
            world.config.write_text(usual)
    good = world.site.files / _UPGRADE.name / f"{A}-2.tar.gz"
    digest = hashlib.md5(good.read_bytes()).hexdigest()
    fields = (
        {"tarball": server.url, "md5": digest}
        if part == "tarball"
        else {"tarball": f"{world.site.url}/{_UPGRADE.name}", "md5": server.url}
    )
    world.site.desire(world.site.entry(A, "2", **fields))
    return world.once()
