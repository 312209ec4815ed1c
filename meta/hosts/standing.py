"""How far a host has followed its order for an agent: good, on trial, to do, failed or held.

It also says whether a host's silence counts as a failure. Progress, counts, `--failed` and metrics all use this. Pure.
"""

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from meta.hosts.classes import Class, Reported, Verdict, drifts
from updater.wire.heartbeat import FAILED, REFUSED, ROLLED_BACK, Desired
from updater.wire.names import START, STOP

if TYPE_CHECKING:
    from meta.hosts.model import Host

GOOD, TRIAL, TODO, HAS_FAILED, HELD = "good", "on trial", "to do", "failed", "held"
HEARTBEAT = "heartbeat"  # what a change waits for on a host that was not heard of since its order came in force
LAG = 10.0  # seconds for which another meta may answer by former records: one that is further behind is not ready
MISSED = 3  # heartbeats that a late host has missed: a third of lateAfter is close enough to its interval


def stand(order: Desired, reported: Reported, verdict: Verdict | None) -> str:
    """Return the state of the hosts of a group for this order.

    What has failed stays `failed` if a person holds it. A host that looks as desired while its change is under way, or waits,
    is `to do`: it may be about to follow a former order.
    """
    _, version, status, held, trial, waits, _ = reported
    if failed(order, reported, verdict):
        return HAS_FAILED
    if not drifts(order, version, status):
        if waits is not UNSET:
            return TODO
        return TRIAL if trial is True and order.cmd == START else GOOD
    return HELD if isinstance(held, str) and held else TODO


def rejects(order: Desired, reported: Reported) -> bool:
    """Whether these hosts report that they rolled back the ordered version, and will not try it again by themselves."""
    rejected = reported.rejected
    if isinstance(rejected, UnsetType) or order.cmd != START:
        return False
    return rejected.version == order.version and rejected.attempt >= order.attempt


def is_down_while_held(order: Desired, reported: Reported) -> bool:
    """Whether the ordered version stopped during its watch while a person held the agent."""
    _, version, status, held, trial, *_ = reported
    is_its = order.cmd == START and trial is True and version == order.version
    return is_its and isinstance(held, str) and bool(held) and drifts(order, version, status)


def failed(order: Desired | None, reported: Reported, verdict: Verdict | None) -> bool:
    """Whether an agent reported like this, with this verdict, has failed to follow this order.

    It has failed if it cannot run the ordered version, if the running version did not stop, or if the host refused the order.
    A host with other bytes of that version refuses it though it runs it.
    A refused download (no such file, or a wrong digest) has failed too. A failed download is tried again, so it has not.

    A version that stopped in its watch has failed too if a person held the agent, so that it was not rolled back. So it has if
    it was started again for lack of a previous version, until it comes through its watch.

    A failure of another version, or at a lower attempt, does not count. An updater that reports trials reports rejections too,
    so its verdict `rolled back` does not count.
    """
    _, version, status, _, trial, _, _ = reported
    if order is None:
        return False
    if rejects(order, reported) or is_down_while_held(order, reported):
        return True
    if verdict is None:
        return False
    if verdict.result == ROLLED_BACK and trial is not UNSET:
        return False
    if verdict.attempt is not UNSET and verdict.attempt < order.attempt:
        return False
    is_its = order.cmd == START and verdict.to == order.version
    is_refused = (verdict.step, verdict.result) == ("order", REFUSED)
    if not drifts(order, version, status):
        return is_its and (is_refused or (trial is True and (verdict.step, verdict.result) == ("watch", FAILED)))
    is_stuck = verdict.step == STOP and verdict.to in (version, order.version)
    return is_stuck or (is_refused and verdict.to in ("", order.version)) or (is_its and not is_tried_again(verdict))


def is_tried_again(verdict: Verdict | None) -> bool:
    """Whether the download failed on these hosts, so that they try it again by themselves."""
    return verdict is not None and (verdict.step, verdict.result) == ("install", FAILED)


def is_asked_for_again(order: Desired, reported: Reported, verdict: Verdict | None) -> bool:
    """Whether these hosts refused a download, so that they take it once the file is mended, without another order."""
    its = (verdict.step, verdict.result) if verdict else ()
    return its == ("install", REFUSED) and not rejects(order, reported)


def is_unsure(order: Desired, reported: Reported, state: str) -> bool:
    """Whether hosts that look good do not report trials. Then `is_on_trial` decides for each host by time."""
    return state == GOOD and reported.trial is UNSET and order.cmd == START


def is_on_trial(host: "Host", place: int, late_after: float) -> bool:
    """Whether a host that does not report trials is on trial: it is as desired, but not for long enough.

    place: the position of the agent among those that the host reports.
    """
    since = host.since
    if isinstance(since, tuple):
        since = since[min(place, len(since) - 1)]
    return host.last_seen - since < late_after / MISSED


def settled_since(order: Desired, tells_turns: bool, klass: Class, late_after: float, lag: float = 0.0) -> float:
    """Return the time since which hosts that look good must have been heard of, or 0.0 if any time will do.

    A host that was last heard of before its order came in force, or before this meta started, may still follow a former one.
    A later report says whether a change has begun. Only an updater that reports no trials may say nothing about a change for
    as long as it takes. So may any that is ordered other bytes of the version that it runs: whether it refuses them, it tells
    only after it has received the order.

    tells_turns: see AgentSet; lag: seconds for which another meta may answer by former records. It counts from the start of
    this meta too, because the order may have come in force just before.
    """
    since = max(klass.since.get(order.name, 0.0), klass.book.began)
    is_told = tells_turns and order.name not in klass.republished
    return since + (lag if is_told else settling(late_after, lag)) if since else 0.0


def settling(late_after: float, lag: float) -> float:
    """Return how long after its order came in force a host that looks good must be heard of at most, in seconds."""
    return lag + late_after / MISSED


def is_down(state: str, klass: Class, agent: str, last_seen: float, excused: float) -> bool:
    """Whether the version may have silenced a host, which was on trial, or had got the order and never reported to follow it.

    excused: the first value of `Seen.excuse`. A host heard of later may be silent because meta was away, so it does not count.
    """
    if state not in (TODO, TRIAL, HAS_FAILED) or last_seen >= excused:
        return False
    return state == TRIAL or klass.has_heard(agent, last_seen)


def on_trial(order: Desired | None, reported: Reported, verdict: Verdict | None) -> bool:
    """Whether these hosts report the ordered version on trial, and it has not failed.

    A version that no order asks for, and an agent that is to be stopped, do not count: their watch does not matter.
    """
    _, version, status, _, trial, waits, _ = reported
    if trial is not True or waits is not UNSET or order is None or order.cmd != START or drifts(order, version, status):
        return False
    return not failed(order, reported, verdict)
