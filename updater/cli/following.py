"""Waits until the running updater has followed an operator request, or says why it does not."""

import time
from collections.abc import Callable

from updater.errors import NotThere, TryLater
from updater.host import observe, operator_requests
from updater.host.context import Host
from updater.host.last_reply import load
from updater.host.memories import Memories
from updater.model.memory import Memory

_WAIT = 150.0  # seconds for the daemon to follow a request: a stop, a start and some more
_DROPPED = 5.0  # seconds for the daemon to drop a request itself, with a reason, after meta desires another version
_GONE = 10.0  # seconds without a running updater; one that is started again or replaced takes less
_WAKE_AGAIN = 1.0  # seconds; doubled each time


def wait_for_request(host: Host, agent: str, what: str, version: str) -> None:
    """Wait until the updater has read a request: `rollback` or `retry` of the version.

    Raises NotThere if it was dropped, and TryLater if that takes too long. It is dropped here if meta desires another version
    or nothing by now, and no turn of the agent reads it.
    """
    request = host.layout.rollback_request(agent) if what == "rollback" else host.layout.retry_request(agent)
    began = desired_since = time.monotonic()
    updater = _Updater(host, f"the {what} of {agent} {version}")
    while operator_requests.requested(request) is not None:
        updater.keep_awake()
        now, desired = time.monotonic(), _desired(host, agent)
        desired_since = now if desired == version else desired_since
        if now - desired_since > _DROPPED:
            operator_requests.clear(request)
            raise NotThere(f"{agent}: the {what} of {version} was not followed: {_by_now(desired)}")
        if now - began > _WAIT:
            late = f"the updater has not followed the {what} of {agent} {version} within {_WAIT:.0f} s, but still may"
            raise TryLater(f"{late}: see its log")
        time.sleep(0.1)
    if (dropped := memory(host, agent).dropped) and (dropped.request, dropped.version) == (what, version):
        raise NotThere(f"{agent}: {dropped}")


def wait_for_rollback(host: Host, agent: str, version: str, target: str, is_running: bool) -> None:
    """Wait until the agent is at `target` instead of `version`. is_running: whether an updater runs. Raises as below."""
    done = f"rolled {agent} back to {target}"
    _wait_until(host, agent, version, lambda: current(host, agent) == target, done, _WAIT if is_running else 0.0)


def wait_for_retry(host: Host, agent: str, version: str) -> None:
    """Wait until the version is started, or rolled back or refused again. Raises as below."""
    _wait_until(host, agent, version, lambda: _is_tried(host, agent, version), f"tried {agent} {version} again", _WAIT)


def _wait_until(host: Host, agent: str, version: str, is_done: Callable[[], bool], what: str, within: float) -> None:
    """Wait for the end of what was requested. Raises NotThere once meta desires another version, TryLater after `within`."""
    deadline = time.monotonic() + within
    updater = _Updater(host, f"what was requested of {agent} {version}")
    while not is_done():
        updater.keep_awake()
        if (desired := _desired(host, agent)) != version:
            raise NotThere(f"the updater has not {what}: {_by_now(desired)}")
        if time.monotonic() > deadline:
            raise TryLater(f"the updater has not {what} within {within:.0f} s: see its log")
        time.sleep(0.1)


def _is_tried(host: Host, agent: str, version: str) -> bool:
    found = memory(host, agent)
    started = found.trial is None or found.trial.version != version or found.trial.until > 0
    return bool(found.rejected or found.unfit) or (current(host, agent) == version and started)


def _desired(host: Host, agent: str) -> str:
    """The version that meta desires by its last reply to the running updater; "" for none."""
    return next((one.version for one in load(host.layout.last_reply).orders if one.name == agent), "")


def _by_now(desired: str) -> str:
    return f"meta desires {desired or 'nothing of it'} by now"


class _Updater:
    """The running updater, while a request waits for it. what: the request, in words."""

    def __init__(self, host: Host, what: str) -> None:
        self._layout, self._what = host.layout, what
        self._seen = self._asked = self._woken = time.monotonic()
        self._pause = _WAKE_AGAIN

    def keep_awake(self) -> None:
        """Wake it again, as it may have been starting. Raises TryLater once no updater runs any more."""
        now = time.monotonic()
        if now - self._asked < _WAKE_AGAIN:
            return
        self._asked = now
        if pid := operator_requests.running_updater(self._layout):
            self._seen = now
        elif now - self._seen > _GONE:
            raise TryLater(f"no updater runs any more: {self._what} is followed when one does")
        if pid and now - self._woken > self._pause:
            operator_requests.wake(pid)
            self._woken, self._pause = now, self._pause * 2


def memory(host: Host, agent: str) -> Memory:
    """The agent's memory as on the disk now: the daemon may have changed it."""
    return Memories(host.layout.memories).of(agent)


def current(host: Host, agent: str) -> str:
    """The agent's current version on the disk."""
    return observe.current(host.layout.agent(agent))
