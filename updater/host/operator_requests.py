"""Requests of a person on this host: to hold an agent, to roll it back, or to retry a rejected version.

A request is a file below `.updater`. So everyone who can write there can make one, and it waits if no updater is running. A
request to roll back or retry holds the version that it was made for: meta may desire another one by the time it is followed.
"""

import logging
import os
import signal
from collections.abc import Callable, Container
from pathlib import Path

from msgspec.structs import replace

from updater import durable_files, places
from updater.errors import Misconfigured, NotThere, TryLater
from updater.kernel import root_lock
from updater.model.layout import Layout
from updater.model.memory import WATCH, Memory
from updater.model.observed import Observed
from updater.model.trials import Dropped
from updater.model.ways_back import no_way_back
from updater.wire.heartbeat import BY_HAND, ROLLED_BACK, Desired, Outcome
from updater.wire.names import name_problem, version_problem
from updater.wire.text import one_line

log = logging.getLogger("updater")

LIMIT = 4096  # bytes of a reason


def hold(layout: Layout, name: str, why: str) -> str:
    """Hold an agent: from the next look on it is not changed. Raises Misconfigured, NotThere, TryLater.

    Without `why`, an agent that is already held keeps its reason, which is returned; otherwise returns "".
    """
    path = layout.held(_checked(layout, name))
    if not why and (before := held(layout, name)):
        return before
    _write(path, why or "no reason given")
    return ""


def unhold(layout: Layout, name: str) -> bool:
    """Let the agent be changed again; returns whether it was held."""
    path = layout.held(_checked(layout, name))
    was = held(layout, name) != ""
    durable_files.remove_tree(path)
    return was


def held(layout: Layout, name: str) -> str:
    """Why the agent is held, "" if it is not. A file without a valid reason also counts. Raises TryLater."""
    try:
        reason = durable_files.read_small(layout.held(name), LIMIT)
    except ValueError as e:
        return str(e)
    return "" if reason is None else one_line(reason.decode("utf-8", "replace"), 200) or "no reason given"


def request_rollback(layout: Layout, name: str, version: str) -> None:
    """Request that the agent's current and desired version is rolled back at its next turn."""
    _write(layout.rollback_request(_checked(layout, name)), version)


def request_retry(layout: Layout, name: str, version: str) -> None:
    """Request that the agent's desired version, which was rejected or refused, is tried again at its next turn."""
    _write(layout.retry_request(_checked(layout, name)), version)


def requested(request: Path) -> str | None:
    """The version that a request to roll back or retry was made for; None if there is no request.

    "" if it names none, as one made by an earlier version of the updater, or by `touch`.
    """
    try:
        text = durable_files.read_small(request, LIMIT)
    except ValueError:
        return ""
    version = None if text is None else text.decode("utf-8", "replace").strip()
    return "" if version and version_problem(version) else version


def clear(request: Path) -> None:
    """Remove a request to roll back or retry, once it was followed or dropped."""
    durable_files.remove_tree(request)


def follow(
    layout: Layout, order: Desired, observed: Observed, note: Callable[[Callable[[Memory], Memory]], Memory], now: float
) -> None:
    """Take the requests since the agent's last turn into its memory. A rollback takes precedence over a retry.

    note: changes the memory, and returns it; now: Unix seconds. A request that cannot be followed is dropped. One that cannot
    be read now waits for the next turn. Raises TryLater for one that cannot be removed: it must not be followed each turn.
    """
    rollback, retry = layout.rollback_request(order.name), layout.retry_request(order.name)
    try:
        asked_back, asked_again = requested(rollback), requested(retry)
    except TryLater as e:
        log.error("%s: %s", order.name, e)
        return
    rolled_back = False
    if (version := asked_back) is not None:
        problem = _other_order(version, order.version)
        if not problem and observed.current != order.version:
            problem = f"{order.version}, which meta desires, is not the current version"
        if not problem and not note(lambda memory: memory).way_back(order.version, observed.installs):
            problem = no_way_back(order.version, observed.installs)
        rolled_back = _followed(order, Dropped("rollback", version, problem, now), note)
        if rolled_back:
            note(lambda memory: _rolled_back(memory, order, observed.installs, now))
        clear(rollback)
    if (version := asked_again) is not None:
        problem = "a rollback was requested too" if rolled_back else _other_order(version, order.version)
        if _followed(order, Dropped("retry", version, problem, now), note):
            note(Memory.retrying)
        clear(retry)


def _other_order(version: str, desired: str) -> str:
    return f"meta desires {desired} by now" if version not in ("", desired) else ""


def _followed(order: Desired, request: Dropped, note: Callable[[Callable[[Memory], Memory]], Memory]) -> bool:
    """Whether a request is followed: if it has no reason against it. Otherwise the reason is remembered and logged."""
    note(lambda memory: replace(memory, dropped=request if request.reason else None))
    if request.reason:
        log.warning("%s: %s", order.name, request)
    return not request.reason


def _rolled_back(memory: Memory, order: Desired, installs: Container[str], now: float) -> Memory:
    memory = memory.rolled_back_by_operator(order, installs)
    what = order.name, memory.back, order.version, WATCH, ROLLED_BACK, BY_HAND
    return memory.with_way_back(Outcome(*what, at=int(now), attempt=order.attempt))


def running_updater(layout: Layout) -> int:
    """The process id of the updater that works on this root, 0 if there is none. Raises TryLater."""
    return root_lock.holder(layout.lock)


def wake(pid: int) -> None:
    """Make the running updater start a cycle at once. Raises TryLater."""
    try:
        os.kill(pid, signal.SIGUSR1)
    except OSError as e:
        raise TryLater(f"cannot wake the updater (pid {pid}): {e.strerror}; its next cycle follows the request") from e


def _checked(layout: Layout, name: str) -> str:
    require(layout, name)
    return name


def require(layout: Layout, name: str) -> None:
    """Raises Misconfigured for an invalid name, NotThere, with a list of those that are, for an agent not on this host."""
    problem = name_problem(name)
    if problem:
        raise Misconfigured(problem)
    if not places.is_directory(layout.agent(name).path):
        known = ", ".join(n for n in durable_files.names_in(layout.root) if places.exists(layout.agent(n).version_file))
        raise NotThere(f"no agent {name} below {layout.root}; there are: {known or 'none'}")


def _write(path: Path, text: str) -> None:
    durable_files.make_directory(path.parent)
    durable_files.write_atomic(path, text.encode()[:LIMIT])
