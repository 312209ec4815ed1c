"""The two dialects of a reply, open-falcon's and that of coraldane's fork. Each is rendered once for a class of hosts. Pure."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import assert_never

import msgspec

from meta.heartbeat.responses import JSON, Answer
from meta.hosts.classes import Class
from meta.records.model import RUN_AS, resolve_run_as
from updater.wire.heartbeat import Desired, desired_fields, render_reply

_OF_CORALDANE = {"configFileName": "", "configRemoteUrl": ""}  # its updater expects them, and they may be blank


class Dialect(Enum):
    """The form of a reply."""

    FALCON = "open-falcon"
    CORALDANE = "coraldane"


def reply(klass: Class, dialect: Dialect, notify: int = 0) -> Answer:
    """The reply to hosts of this class, rendered on first use. notify: as for `render_reply`, the same at each call."""
    found: Answer | None = klass.replies.get(dialect)
    if found is None:
        found = klass.replies.setdefault(dialect, Answer(200, JSON, _rendered(klass, dialect, notify)))
    return found


def _rendered(klass: Class, dialect: Dialect, notify: int) -> bytes:
    match dialect:
        case Dialect.FALCON:
            return render_reply(klass.desired, notify)
        case Dialect.CORALDANE:
            return render_coraldane_reply(klass.desired, resolve_run_as(klass.book.records, klass.matched))
        case _:
            assert_never(dialect)  # mypy names a dialect that has no case


def render_coraldane_reply(desired: Sequence[Desired], run_as: Mapping[str, tuple[str, str]]) -> bytes:
    """The reply in the dialect of coraldane's fork. run_as: agent -> (runUser, workDir).

    That updater stops and removes an agent if either value changes. So an agent without both is left out, which leaves it
    unchanged there.
    """
    agents = [
        desired_fields(one) | dict(zip(RUN_AS, run_as[one.name], strict=True)) | _OF_CORALDANE
        for one in desired
        if all(run_as[one.name])
    ]
    return msgspec.json.encode({"errorMessage": "", "desiredAgents": agents})
