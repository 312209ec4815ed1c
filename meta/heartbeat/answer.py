"""A heartbeat's body -> its answer, from memory alone: decode, check the host's token, take the report in, look its reply up.

The hot path: knows neither server nor framework nor database. Promises an answer to every body there is, and that a fault of
our own is a 500, never an empty list of desired agents.
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
_LOOKED = b',"look":true}'  # in place of a reply's last brace
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
) -> Answer:
    """One heartbeat, or a look at what one would be answered. address: of the peer that sent it; anonymous: whether it may do
    without a token; now: Unix seconds."""
    try:
        report = decode_report(body)
        if problem := may_report(report.hostname, authorization, anonymous):
            return refusal(403 if authorization else 401, problem)
        if report.look is True:
            return _looked_up(hosts, report.hostname, dialect)
        klass = hosts.beat(report, address, now)
        return reply(klass, dialect)
    except WireError as e:
        return refusal(400, str(e))
    except TooMany as e:
        return refusal(429, str(e))
    except Exception:  # whatever it is, the host must see a failure and change nothing
        log.exception("heartbeat from %s failed", address)
        return refusal(500, "internal error")


def _looked_up(hosts: HostTable, hostname: str, dialect: Dialect) -> Answer:
    """What a heartbeat of this host would be answered, and that it was none; nothing is kept. Raises WireError for a name that
    is none."""
    if problem := hostname_problem(hostname):
        raise WireError(problem)
    orders = reply(hosts.classes.of(hostname), dialect)
    return Answer(200, JSON, orders.body[:-1] + _LOOKED)
