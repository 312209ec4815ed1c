"""A host's `GET /notify` between two heartbeats: which reply it knows, and how long it waits for news. Pure.

An answer says when to beat, never what to do: orders come by heartbeats alone. So a lost wake costs one interval, and a forged
one costs one heartbeat.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from meta.heartbeat.responses import JSON, TEXT, Answer
from updater.wire.heartbeat import WireError
from updater.wire.names import hostname_problem

NOTHING = Answer(204, TEXT, b"")  # at the end of the wait
_WAIT = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE | re.DOTALL)
_KNOWN = re.compile("[0-9a-f]{16}")


class Park(NamedTuple):
    """A request that waits until there is news."""

    hostname: str
    known: str  # of the reply that the host has, as `Answer.known`
    wait: int  # seconds, at most
    has_token: bool  # it showed the host's own token


def parse(environ: Mapping[str, Any], longest: int) -> Park:
    """The park of a request whose sender is not checked yet. longest: seconds that are allowed. Raises WireError."""
    try:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=16)
    except ValueError as e:
        raise WireError("the query has too many fields") from e
    hostnames, known = query.get("hostname", []), query.get("known", [])
    if len(hostnames) != 1 or len(known) != 1:
        raise WireError("the query must have `hostname` and `known`, once each")
    if problem := hostname_problem(hostnames[0]):
        raise WireError(problem)
    if not _KNOWN.fullmatch(known[0]):
        raise WireError("`known` must be the first 16 hex digits of the SHA-256 of the last reply")
    wait = min(_wait(environ.get("HTTP_PREFER", ""), longest), longest)
    return Park(hostnames[0], known[0], wait, bool(environ.get("HTTP_AUTHORIZATION")))


def _wait(prefer: str, longest: int) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), of which the first one counts; `longest` without one."""
    found = (_WAIT.fullmatch(preference) for preference in prefer.split(","))
    return next((int(match[1]) for match in found if match), longest)


def wake(within: float) -> Answer:
    """The answer that wakes hosts. within: seconds, over which they are to spread their heartbeats."""
    return Answer(200, JSON, msgspec.json.encode({"within": round(within, 3)}))
