"""Raw requests, good and bad ones, made from tables: each with the requests that a server may see in it, and no others.

In a body, and wherever a server might look for a request that is none, stands SMUGGLED.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
SIZE = b"%d" % len(SMUGGLED)
HEX = b"%x" % len(SMUGGLED)
CHUNKED = HEX + b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
PATHS = {"hot": b"/heartbeat", "app": b"/app"}


class Case(NamedTuple):
    """seen: the paths of the requests that are in it; status: of the last answer, None: any below 500."""

    name: str
    raw: bytes
    seen: tuple[str, ...]
    status: int | None = 200


# Headers and body of one request, after which another one may follow.
GOOD_FRAMES = {
    "a length": (b"Content-Length: " + SIZE, SMUGGLED),
    "a length with zeros": (b"Content-Length: 000" + SIZE, SMUGGLED),
    "no length": (b"X: y", b""),
    "length zero": (b"Content-Length: 0", b""),
    "chunks": (b"Transfer-Encoding: chunked", CHUNKED),
    "chunks in capitals": (b"TRANSFER-ENCODING: CHUNKED", HEX.upper() + b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    "two chunks": (b"Transfer-Encoding: chunked", b"1\r\nG\r\n" + CHUNKED),
    "zeros before a chunk's size": (b"Transfer-Encoding: chunked", b"000" + CHUNKED),
    "an extension": (b"Transfer-Encoding: chunked", HEX + b";a=b\r\n" + SMUGGLED + b"\r\n0;c\r\n\r\n"),
    "a quoted extension": (b"Transfer-Encoding: chunked", HEX + b';a="b;c"\r\n' + SMUGGLED + b"\r\n0\r\n\r\n"),
    "a trailer": (b"Transfer-Encoding: chunked", CHUNKED[:-2] + b"Authorization: Bearer x\r\n\r\n"),
    "no chunk": (b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
    "a length in another name": (b"Content_Length: 3\r\nContent-Length: " + SIZE, SMUGGLED),
    "a coding in another name": (b"Transfer_Encoding: chunked\r\nContent-Length: " + SIZE, SMUGGLED),
}

# Headers and body that must be refused; what follows is not seen.
BAD_FRAMES = {
    "a length and chunks": (b"Content-Length: 4\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKED),
    "chunks and the right length": (b"Transfer-Encoding: chunked\r\nContent-Length: " + SIZE, SMUGGLED),
    "two lengths": (b"Content-Length: " + SIZE + b"\r\nContent-Length: 0", SMUGGLED),
    "two lengths, the other order": (b"Content-Length: 0\r\nContent-Length: " + SIZE, SMUGGLED),
    "the same length twice": (b"Content-Length: " + SIZE + b"\r\nContent-Length: " + SIZE, SMUGGLED),
    "a list of lengths": (b"Content-Length: " + SIZE + b", " + SIZE, SMUGGLED),
    "a signed length": (b"Content-Length: +" + SIZE, SMUGGLED),
    "a negative length": (b"Content-Length: -1", SMUGGLED),
    "a hexadecimal length": (b"Content-Length: 0x" + HEX, SMUGGLED),
    "a length with a space inside": (b"Content-Length: 3 4", SMUGGLED),
    "a blank length": (b"Content-Length:", SMUGGLED),
    "a length in words": (b"Content-Length: four", SMUGGLED),
    "a length with a point": (b"Content-Length: " + SIZE + b".0", SMUGGLED),
    "a length in other digits": ("Content-Length: ٣٤".encode(), SMUGGLED),
    "a length beyond all numbers": (b"Content-Length: 18446744073709551616", SMUGGLED),
    "a length that wraps": (b"Content-Length: 18446744073709551650", SMUGGLED),
    "a space before the colon": (b"Content-Length : " + SIZE, SMUGGLED),
    "a space before the colon of the coding": (b"Transfer-Encoding : chunked", CHUNKED),
    "a space before the name": (b" Content-Length: " + SIZE, SMUGGLED),
    "a folded length": (b"Content-Length:\r\n " + SIZE, SMUGGLED),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked", CHUNKED),
    "a folded header": (b"X: y\r\n z\r\nContent-Length: " + SIZE, SMUGGLED),
    "a NUL in a name": (b"Content-\0Length: " + SIZE, SMUGGLED),
    "a NUL in a value": (b"X: a\0b\r\nContent-Length: " + SIZE, SMUGGLED),
    "a bare CR in a value": (b"X: a\rContent-Length: 0\r\nContent-Length: " + SIZE, SMUGGLED),
    "a bare LF after a header": (b"X: a\nContent-Length: " + SIZE, SMUGGLED),
    "a bare LF after the coding": (b"Transfer-Encoding: chunked\nX: y", CHUNKED),
    "no colon": (b"Content-Length " + SIZE, SMUGGLED),
    "no name": (b": x", b""),
    "a name with a bracket": (b"A[b]: x", b""),
    "a name that is not ASCII": ("Länge: 3".encode(), b""),
    "another coding": (b"Transfer-Encoding: gzip", CHUNKED),
    "another coding before chunks": (b"Transfer-Encoding: gzip, chunked", CHUNKED),
    "another coding after chunks": (b"Transfer-Encoding: chunked, gzip", CHUNKED),
    "identity": (b"Transfer-Encoding: identity", CHUNKED),
    "chunks and identity": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED),
    "identity and chunks": (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
    "a list of chunks": (b"Transfer-Encoding: chunked, chunked", CHUNKED),
    "a coding that only begins so": (b"Transfer-Encoding: chunkedx", CHUNKED),
    "a coding that only ends so": (b"Transfer-Encoding: xchunked", CHUNKED),
    "a coding with a parameter": (b"Transfer-Encoding: chunked;q=1", CHUNKED),
    "a quoted coding": (b'Transfer-Encoding: "chunked"', CHUNKED),
    "a coding with a vertical tab": (b"Transfer-Encoding: \x0bchunked", CHUNKED),
    "a blank coding": (b"Transfer-Encoding:", CHUNKED),
    "Host twice": (b"Host: y\r\nContent-Length: " + SIZE, SMUGGLED),
    "two Authorizations": (b"Authorization: Bearer a\r\nAuthorization: Bearer b", b""),
    "an upgrade with a body": (b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: " + SIZE, SMUGGLED),
}

# Chunks that must be refused.
BAD_CHUNKS = {
    "no size": b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    "a negative size": b"-1\r\n" + SMUGGLED,
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size in words": b"three\r\nabc\r\n0\r\n\r\n",
    "a size before a space": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size after a space": b" 3\r\nabc\r\n0\r\n\r\n",
    "a size beyond all numbers": b"10000000000000000\r\n" + SMUGGLED,
    "a size that wraps": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "a size before a bare LF": b"3\nabc\r\n0\r\n\r\n",
    "a size before a bare CR": b"3\rabc\r\n0\r\n\r\n",
    "data longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "data before a bare LF": b"3\r\nabc\n0\r\n\r\n",
    "data without an end": b"3\r\nabc0\r\n\r\n",
    "an extension with a bare LF": b"3;a\nabc\r\n0\r\n\r\n",
    "an extension with a NUL": b"3;a\0b\r\nabc\r\n0\r\n\r\n",
    "an extension with a bare CR": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a last chunk before a bare LF": b"3\r\nabc\r\n0\n\n",
    "a trailer with a bare LF": b"3\r\nabc\r\n0\r\nA: b\n\r\n",
    "a trailer with a space before its colon": b"3\r\nabc\r\n0\r\nA : b\r\n\r\n",
    "a trailer with a NUL": b"3\r\nabc\r\n0\r\nA\0: b\r\n\r\n",
    "a trailer of a length": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
}

# Request lines that must be refused, or are no request at all.
BAD_LINES = {
    "HTTP/0.9": b"GET {}\r\n",
    "HTTP/2.0": b"GET {} HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET {} HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/11": b"GET {} HTTP/11\r\nHost: x\r\n\r\n",
    "http in small letters": b"GET {} http/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET {}\r\nHost: x\r\n\r\n",
    "a tab": b"GET\t{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space behind": b"GET {} HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a bare LF": b"GET {} HTTP/1.1\nHost: x\n\n",
    "a bare CR": b"GET {} HTTP/1.1\rHost: x\r\r",
    "a method in small letters": b"get {} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of our own": b"BEAT {} HTTP/1.1\r\nHost: x\r\n\r\n",
    "no method": b" {} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET {}#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the target": b"GET {}\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET {} x HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target without a slash": b"GET heartbeat HTTP/1.1\r\nHost: x\r\n\r\n",
    "another scheme": b"GET ftp://x{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a user in the target": b"GET http://a@x{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority with another method": b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no Host": b"GET {} HTTP/1.1\r\n\r\n",
    "chunks of HTTP/1.0": b"POST {} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "an end of a line in the middle": b"GET {} HTTP/1.1\r\nHost: x\r\n\rX: y\r\n\r\n",
}

# Request lines that are good, with the path that is seen.
GOOD_LINES = {
    "HTTP/1.0": (b"GET {} HTTP/1.0\r\n\r\n", "{}"),
    "an absolute target": (b"GET http://y:2000{} HTTP/1.1\r\nHost: x\r\n\r\n", "{}"),
    "an absolute target without a path": (b"GET http://y HTTP/1.1\r\nHost: x\r\n\r\n", "/"),
    "an absolute target with a query alone": (b"GET http://y?a=b HTTP/1.1\r\nHost: x\r\n\r\n", "/"),
    "a query": (b"GET {}?a=b?c HTTP/1.1\r\nHost: x\r\n\r\n", "{}"),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "*"),
    "two slashes": (b"GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "/{}"),
    "dots": (b"GET /..{} HTTP/1.1\r\nHost: x\r\n\r\n", "/..{}"),
    "an end of a line before it": (b"\r\n\r\nGET {} HTTP/1.1\r\nHost: x\r\n\r\n", "{}"),
    "an upgrade": (b"GET {} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "{}"),
    "Connection: close": (b"GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "{}"),
    "two spaces": (b"GET  {} HTTP/1.1\r\nHost: x\r\n\r\n", "{}"),
    "a header of a tab": (b"GET {} HTTP/1.1\r\nHost:\tx\t\r\nX:\r\n\r\n", "{}"),
}
LAST = {"HTTP/1.0", "an upgrade", "Connection: close"}  # of these: nothing is seen after them


def framed(path: bytes, headers: bytes, body: bytes, first: bool) -> bytes:
    """first: whether Host comes before the headers."""
    lines = [b"Host: x", headers]
    return b"POST " + path + b" HTTP/1.1\r\n" + b"\r\n".join(lines if first else lines[::-1]) + b"\r\n\r\n" + body


def cases() -> Iterator[Case]:
    """All of them, each alone, and after a good request of each kind."""
    before = {"": b"", "after a hot one, ": b"POST /heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{"}
    before["after one of the application, "] = b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n"
    seen_before = {"": (), "after a hot one, ": ("/heartbeat",), "after one of the application, ": ("/app",)}
    for (said, prefix), (kind, path) in product(before.items(), PATHS.items()):
        for case in alone(kind, path):
            yield Case(said + case.name, prefix + case.raw, seen_before[said] + case.seen, case.status)


def alone(kind: str, path: bytes) -> Iterator[Case]:
    own = path.decode()
    for name, (headers, body) in GOOD_FRAMES.items():
        for first in (True, False):
            raw = framed(path, headers, body, first)
            yield Case(f"{kind}: {name}, Host {'before' if first else 'behind'}", raw + SECOND, (own, "/second"))
        yield Case(f"{kind}: {name}, cut off", framed(path, headers, body, True)[:-1], (), 400)
    for name, (headers, body) in BAD_FRAMES.items():
        for first in (True, False):
            raw = framed(path, headers, body, first)
            yield Case(f"{kind}: {name}, Host {'before' if first else 'behind'}", raw + SMUGGLED, (), 400)
    for name, body in BAD_CHUNKS.items():
        raw = framed(path, b"Transfer-Encoding: chunked", body, True)
        yield Case(f"{kind}: chunks: {name}", raw + SMUGGLED, (), 400)
    for name, line in BAD_LINES.items():
        yield Case(f"{kind}: {name}", line.replace(b"{}", path) + SMUGGLED, (), 400)
    for name, (line, seen) in GOOD_LINES.items():
        second = SMUGGLED if name in LAST else SECOND
        paths = (seen.replace("{}", own),) if name in LAST else (seen.replace("{}", own), "/second")
        yield Case(f"{kind}: {name}", line.replace(b"{}", path) + second, paths)
