"""A heartbeat's body -> its answer, from memory alone: parse, remember the host, resolve its records, render.

The hot path: knows neither server nor framework nor database. Promises an answer to every body there is, and that a fault of
our own is a 500, never an empty list of desired agents.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from meta.hosts import HostTable
from meta.records import Record, resolve
from updater.wire import Desired, WireError, desired_fields, parse_report, render_reply

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=utf-8"
Render = Callable[[Sequence[Desired]], bytes]
log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What goes back to the host."""

    status: int
    content_type: str
    body: bytes


def answer(
    records: Sequence[Record],
    hosts: HostTable,
    body: bytes,
    address: str,
    now: float,
    render: Render = render_reply,
) -> Answer:
    """One heartbeat. address: of the peer that sent it; now: Unix seconds; render: the reply's dialect."""
    try:
        report = parse_report(body)
        reply = render(resolve(records, report.hostname))
        hosts.remember(report, address, now)
    except WireError as e:
        return Answer(400, TEXT, f"{e}\n".encode())
    except Exception:  # whatever it is, the host must see a failure and change nothing
        log.exception("heartbeat from %s failed", address)
        return Answer(500, TEXT, b"internal error\n")
    return Answer(200, JSON, reply)


def render_coraldane_reply(desired: Sequence[Desired]) -> bytes:
    """The reply in the dialect of coraldane's fork: more fields per agent, which its updater expects and may be blank."""
    extra = {"runUser": "", "workDir": "", "configFileName": "", "configRemoteUrl": ""}
    agents = [desired_fields(d) | extra for d in desired]
    return msgspec.json.encode({"errorMessage": "", "desiredAgents": agents})
