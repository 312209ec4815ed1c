"""Parks this host at meta once: a `GET /notify`, which meta answers when it has news for the host, or at the end of a wait.

An answer says when to beat, never what to do: orders come by heartbeats alone. So a lost wake costs one interval, and a forged
one costs one beat.
"""

from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import msgspec

from updater.errors import UpdaterError
from updater.host.context import Host
from updater.meta_client.park_rules import Answer, Kind
from updater.net.deadline import Deadline
from updater.net.http import Response
from updater.wire.limits import MAX_NOTIFY
from updater.wire.urls import shown

LIMIT = 1024  # bytes of an answer
_KINDS = {
    204: Kind.NOTHING,
    401: Kind.FORBIDDEN,
    403: Kind.FORBIDDEN,
    404: Kind.MISSING,
    405: Kind.MISSING,
    501: Kind.MISSING,
    429: Kind.BUSY,
    503: Kind.BUSY,
}


class Asking(NamedTuple):
    """What a park is asked with, from the last heartbeat."""

    server: str  # meta's base URL
    hostname: str  # as reported
    known: str  # of the last reply
    longest: int  # seconds that meta allows; 0: it has no parking


class _Wake(msgspec.Struct):
    within: Annotated[float, msgspec.Meta(ge=0, le=MAX_NOTIFY)]


_decoder = msgspec.json.Decoder(_Wake)


def ask(host: Host, asking: Asking, wait: int, within: float, deadline: Deadline) -> Answer:
    """Ask meta to answer within `wait` seconds. deadline: of `within` seconds; another thread may expire it."""
    place = f"{asking.server}/notify"
    url = f"{place}?{urlencode({'hostname': asking.hostname, 'known': asking.known})}"
    prefer = {"Prefer": f"wait={wait}"}
    try:
        with host.http.exchange(
            "GET", url, within, headers=prefer, redirects=False, idle=within, deadline=deadline
        ) as answer:
            told = _judged(answer)
    except UpdaterError as e:
        told = Answer(Kind.FAILED, str(e))
    return told._replace(why=told.why.replace(shown(url), shown(place)))  # the same words each time


def _judged(answer: Response) -> Answer:
    if answer.status == 200:
        try:
            return Answer(Kind.WAKE, seconds=_decoder.decode(answer.read(LIMIT)).within)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Answer(Kind.FAILED, f"{answer.way} answered with something else than a time to beat")
    kind = _KINDS.get(answer.status, Kind.FAILED)
    return Answer(kind, f"{answer.way} answered {answer.status}", answer.retry_after if kind is Kind.BUSY else 0.0)
