"""Limits of what clients may send and hold. TABLE lists them for docs/operating-meta.md. Pure.

Beyond a limit a client gets an answer: 408, 413, 431, or 503 with Retry-After. Only a kept connection that is idle, and a
client that does not read its answer, are hung up on without one.
"""

from typing import NamedTuple

from updater.wire.limits import MAX_BODY

MAX_HEAD = 16 << 10  # bytes: the request line and all headers
MAX_HEADERS = 100
HEAD_WITHIN = 10.0  # seconds, from its first byte, or from the connection
BODY_WITHIN = 15.0  # seconds, of a heartbeat
FRAMEWORK_BODY_WITHIN = 60.0  # seconds, of any other body of up to MAX_BODY bytes
FREE_BODY = 64 << 10  # bytes of each body that are not counted as held
MAX_HELD = 64 << 20  # bytes of all bodies beyond FREE_BODY
MAX_FRAMING = 64 << 10  # bytes of chunk sizes, extensions and trailers, and FRAMING for each byte of the body
FRAMING = 8
MAX_PIPELINED = 100  # requests that one read brings, or that wait for the answer to an earlier one
LEAST_SPEED = 10_000  # bytes a second of a body of more than MAX_BODY bytes
SPEED_OVER = 30.0  # seconds over which that speed is taken
UNREAD = 60.0  # seconds without progress of an answer
MAX_UNREAD = 256 << 20  # bytes of the framework's answers that are not sent yet; one larger answer is taken alone
IDLE = 75.0  # seconds of a kept connection
LINGER = 10.0  # seconds that a refused client may go on sending, so that it can read the answer
MAX_LINGERING = 2 * MAX_BODY  # bytes that it may send then
THREADS = 32  # of the framework
MAX_WAITING = 2048  # requests that wait for one of them
LARGE_BODIES = 8  # bodies of more than MAX_BODY bytes that are read at once; each takes a thread of its own
MAX_DOWNLOADS = 2048  # at once
STALLED = 1.0  # seconds after which the loop counts as stalled

RETRY = "503, Retry-After 5"


class Row(NamedTuple):
    """One row of TABLE, in words."""

    what: str
    limit: str
    then: str


TABLE = (
    Row("head of a request", f"{MAX_HEAD >> 10} KiB and {MAX_HEADERS} headers", "431"),
    Row("how long it takes", f"{HEAD_WITHIN:g} s", "408"),
    Row("body of a heartbeat or of JSON", f"{MAX_BODY >> 20} MiB", "413"),
    Row("how long a heartbeat's body takes; any other's", f"{BODY_WITHIN:g} s; {FRAMEWORK_BODY_WITHIN:g} s", "408"),
    Row("bodies on their way, what each has beyond 64 KiB", f"{MAX_HELD >> 20} MiB for all", RETRY),
    Row("speed of a larger body", f"{LEAST_SPEED:,} bytes/s over {SPEED_OVER:g} s", "408"),
    Row("larger bodies read at once", f"{LARGE_BODIES}", RETRY),
    Row(
        "sizes, extensions and trailers of chunks", f"{MAX_FRAMING >> 10} KiB, and {FRAMING} bytes for each byte", "413"
    ),
    Row("requests of one connection that wait for an earlier answer", f"{MAX_PIPELINED}", RETRY),
    Row("body that is shorter than announced", "none", "400"),
    Row("an answer that its client does not read", f"{UNREAD:g} s", "hung up"),
    Row("such answers to requests other than heartbeats", f"{MAX_UNREAD >> 20} MiB for all", RETRY),
    Row(
        "a kept connection without a request",
        f"{IDLE:g} s",
        "closed; a proxy must let go of it before: `keepalive_timeout 60s` in nginx.conf",
    ),
    Row("connections at once", "`maxConnections`, 10,000", RETRY),
    Row("connections from one address (IPv6: /64), but a trusted proxy's", "`maxConnectionsOfOne`, 4,000", RETRY),
    Row("parked hosts at once", "`maxParked`, 50,000", "503, Retry-After 300"),
    Row("how long a host is parked", "`notifyWait`, 270 s", "204"),
    Row("requests other than heartbeats at once", f"{THREADS}; {MAX_WAITING:,} more wait", RETRY),
    Row("downloads at once", f"{MAX_DOWNLOADS:,}, at `downloadRate` bytes/s in all", RETRY),
)
