"""Answers a heartbeat from memory: decodes the body, checks the host's token, stores the report, and looks the reply up.

This is the hot path: it uses no server, framework or database. Every body gets an answer, and an internal error is a 500, never
an empty list of desired agents.
"""

import logging
from collections.abc import Callable

from meta.errors import TooMany
from meta.heartbeat.dialects import Dialect, reply
from meta.heartbeat.responses import JSON, Answer, refusal
from meta.hosts.table import HostTable
from updater.wire.heartbeat import WireError, decode_report
from updater.wire.names import hostname_problem

Check = Callable[[str, str, bool], str]  # hostname, Authorization, anonymous allowed -> why not, or ""
_OF_A_QUERY = b',"look":true}'  # replaces the last brace of a reply
log = logging.getLogger(__name__)


def answer(
    hosts: HostTable,
    may_report: Check,
    body: bytes,
    address: str,
    authorization: str,
    anonymous: bool,
    now: float,
    dialect: Dialect = Dialect.FALCON,
    notify: int = 0,
) -> Answer:
    """Answer a heartbeat, or a query that only asks for the reply.

    address: of the peer; anonymous: whether a host without a token is accepted; now: Unix seconds; notify: as for
    `render_reply`.
    """
    try:
        report = decode_report(body)
        if problem := may_report(report.hostname, authorization, anonymous):
            return refusal(403 if authorization else 401, problem)
        if report.look is True:
            return _answered_alone(hosts, report.hostname, dialect, notify)
        klass = hosts.beat(report, address, now)
        return reply(klass, dialect, notify)
    except WireError as e:
        return refusal(400, str(e))
    except TooMany as e:
        return refusal(429, str(e))
    except Exception:  # the host must see a failure and change nothing
        log.exception("heartbeat from %s failed", address)
        return refusal(500, "internal error")


def _answered_alone(hosts: HostTable, hostname: str, dialect: Dialect, notify: int) -> Answer:
    """The reply that a heartbeat of this host would get, marked as that of a query; nothing is stored. Raises WireError."""
    if problem := hostname_problem(hostname):
        raise WireError(problem)
    orders = reply(hosts.classes.of(hostname), dialect, notify)
    return Answer(200, JSON, orders.body[:-1] + _OF_A_QUERY)
