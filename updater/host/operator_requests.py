"""Requests of a person on this host: to hold an agent, to roll it back, or to retry a rejected version.

A request is a file below `.updater`. So everyone who can write there can make one, and it waits if no updater is running. A
request to roll back or retry holds the version that it was made for: meta may desire another one by the time it is followed.
"""

import os
import signal
from pathlib import Path

from updater import durable_files, places
from updater.errors import Misconfigured, NotThere, TryLater
from updater.kernel import root_lock
from updater.model.layout import Layout
from updater.wire.names import name_problem, version_problem
from updater.wire.text import one_line

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
