"""A heartbeat's body -> its answer, from memory alone: decode, check the host's token, take the report in, look its reply up.

The hot path: knows neither server nor framework nor database. Promises an answer to every body there is, and that a fault of
our own is a 500, never an empty list of desired agents.
"""

import logging
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from meta.classes import Class
from meta.errors import TooMany
from meta.hosts import HostTable
from updater.wire import WireError, decode_report

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=utf-8"
Check = Callable[[str, str, bool], str]  # hostname, Authorization, anonymous allowed -> why not, or ""
log = logging.getLogger(__name__)


class Dialect(Enum):
    """Whose form of the reply."""

    FALCON = "open-falcon"
    CORALDANE = "coraldane"


class Answer(NamedTuple):
    """What goes back to the host."""

    status: int
    content_type: str
    body: bytes


def answer(
    hosts: HostTable,
    may_report: Check,
    body: bytes,
    address: str,
    authorization: str,
    anonymous: bool,
    now: float,
    dialect: Dialect = Dialect.FALCON,
) -> Answer:
    """One heartbeat. address: of the peer that sent it; anonymous: whether it may do without a token; now: Unix seconds."""
    try:
        report = decode_report(body)
        if problem := may_report(report.hostname, authorization, anonymous):
            return Answer(401 if not authorization else 403, TEXT, f"{problem}\n".encode())
        klass = hosts.beat(report, address, now)
    except WireError as e:
        return Answer(400, TEXT, f"{e}\n".encode())
    except TooMany as e:
        return Answer(429, TEXT, f"{e}\n".encode())
    except Exception:  # whatever it is, the host must see a failure and change nothing
        log.exception("heartbeat from %s failed", address)
        return Answer(500, TEXT, b"internal error\n")
    return Answer(200, JSON, _reply(klass, dialect))


def _reply(klass: Class, dialect: Dialect) -> bytes:
    return klass.reply if dialect is Dialect.FALCON else klass.coraldane_reply
