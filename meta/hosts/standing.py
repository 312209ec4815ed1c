"""How a host stands to its order of an agent: good, on trial, to do, failed or held; and whether its silence is a failure.

Pure. Progress, counts, `--failed` and metrics all judge by this.
"""

from typing import TYPE_CHECKING

from msgspec import UNSET

from meta.hosts.classes import Class, Look, Verdict, drifts, failed, is_down_while_held, rejects
from updater.wire.heartbeat import FAILED, REFUSED, Desired
from updater.wire.names import START

if TYPE_CHECKING:
    from meta.hosts.model import Host

GOOD, TRIAL, TODO, BROKEN, HELD = "good", "on trial", "to do", "failed", "held"
MISSED = 3  # heartbeats of a host that is late, so that its interval is known well enough


def stand(order: Desired, look: Look, verdict: Verdict | None) -> str:
    """The state of the hosts of a group. A download that failed is tried again by the host, so it is to do; one that was
    refused (there is no such file, or it has another digest) waits for a person, so it has failed. What has failed, or is down
    within its watch, is not less so because a person holds it."""
    _, version, status, held, trial, *_ = look
    if failed(order, look, verdict) and not is_tried_again(order, look, verdict):
        return BROKEN
    if not drifts(order, version, status):
        return TRIAL if trial is True and order.cmd == START else GOOD
    return HELD if isinstance(held, str) and held else TODO


def is_tried_again(order: Desired, look: Look, verdict: Verdict | None) -> bool:
    """Whether these hosts try their download again, which has failed."""
    its = (verdict.step, verdict.result) if verdict else ()
    return its == ("install", FAILED) and not rejects(order, look) and not is_down_while_held(order, look)


def is_asked_for_again(order: Desired, look: Look, verdict: Verdict | None) -> bool:
    """Whether these hosts have refused a download, and take it once other bytes are published, without another order."""
    its = (verdict.step, verdict.result) if verdict else ()
    return its == ("install", REFUSED) and not rejects(order, look)


def is_unsure(order: Desired, look: Look, state: str) -> bool:
    """Whether hosts that look good do not tell whether they are on trial: each is asked since when it is so."""
    return state == GOOD and look[4] is UNSET and order.cmd == START


def is_on_trial(host: "Host", place: int, late_after: float) -> bool:
    """Whether a host that does not tell it has not been as desired for long enough. place: of the agent among its looks."""
    since = host.since
    if isinstance(since, tuple):
        since = since[min(place, len(since) - 1)]
    return host.last_seen - since < late_after / MISSED


def is_down(state: str, klass: Class, agent: str, last_seen: float, excused: float) -> bool:
    """Whether a silent host may be down by the version: it was on trial, or has heard of its order and has not said since that
    it is as desired. Not so where it is meta that was away (excused: see `Seen.excuse`)."""
    if state not in (TODO, TRIAL, BROKEN) or last_seen >= excused:
        return False
    return state == TRIAL or klass.has_heard(agent, last_seen)


def on_trial(order: Desired | None, look: Look, verdict: Verdict | None) -> bool:
    """Whether these hosts say that they have in its watch what they shall run, and it has not failed. Of a version that no
    order asks for any more, and of an agent that shall be stopped, nobody waits for the end of its watch."""
    _, version, status, _, trial, *_ = look
    if trial is not True or order is None or order.cmd != START or drifts(order, version, status):
        return False
    return not failed(order, look, verdict)
