"""The wire format of heartbeats, for updater and meta: parse (bytes -> value) and render (value -> bytes).

The format is that of open-falcon's ops-updater and ops-meta, as recorded in tests/wire. Both sides ignore unknown fields,
and our added fields are optional, so either side works with the Go programs. Everything a peer sends is checked here once,
since names, versions and commands become paths and arguments later.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from updater import __version__
from updater.wire import added_fields
from updater.wire.doubled_keys import keys_problem
from updater.wire.limits import FINGERPRINT_FORM, MAX_AGENTS, MAX_ATTEMPT, MAX_MIRRORS
from updater.wire.names import (
    STOP,
    cmd_problem,
    md5_problem,
    name_problem,
    sha256_problem,
    version_problem,
)
from updater.wire.text import one_line
from updater.wire.urls import base_problem

VERSION = __version__  # of the software, shown by both services

DONE, FAILED, REFUSED, ROLLED_BACK = "done", "failed", "refused", "rolled back"  # results of an outcome
FORMER = " before"  # after a result of a failure: it is about an order that has changed since
BY_HAND = "a person on the host took it back"  # reason of an outcome
STARTED, STOPPED = "started", ("stoped", "stopped")  # the first spelling of "stopped" is ops-updater's
CHANGE = "change"  # for nothing, or for a slot: a turn is changing the agent now, or is about to
WAITS = ("window", "download", "lock", CHANGE)  # what a change waits for; no updater sends the first and the third yet

Second = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
Fingerprint = Annotated[str, msgspec.Meta(pattern=rf"^{FINGERPRINT_FORM}\Z")]
Attempt = Annotated[int, msgspec.Meta(ge=0, le=MAX_ATTEMPT)]


class WireError(ValueError):
    """A body that violates the wire format. The text is that of ops-meta where it has one."""


class RealAgent(msgspec.Struct, frozen=True, gc=False):
    """One agent as observed on its host."""

    name: str = ""
    version: str = ""
    status: str = ""  # the trimmed output of `./control status`, or why there is none
    timestamp: Second = 0  # when it was observed, in Unix seconds
    # Added fields, which old peers ignore:
    held: str | msgspec.UnsetType = msgspec.UNSET  # why a person holds the agent
    # Whether the version is on trial, or has died after a start and has to stay up first; only old updaters leave it out.
    trial: bool | msgspec.UnsetType = msgspec.UNSET
    waits: str | msgspec.UnsetType = msgspec.UNSET  # what its change waits for, one of WAITS
    rejected: str | msgspec.UnsetType = msgspec.UNSET  # the version that failed here, not tried again for this order
    attempt: Attempt | msgspec.UnsetType = msgspec.UNSET  # the attempt of that order, left out for 0


class Outcome(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The result of one attempt to change an agent; an added field of the heartbeat.

    A new version counts as done when it has passed its watch, not when it is started.
    """

    agent: str = ""
    from_: str = ""  # version
    to: str = ""  # version
    step: str = ""  # where it ended: `order`, `install`, `stop`, `switch`, `start` or `watch`
    result: str = ""  # DONE, or one of the others, which FORMER may follow
    reason: str = ""
    evidence: str = ""  # the last lines of the control script's output
    at: Second = 0  # Unix seconds
    attempt: Attempt | msgspec.UnsetType = msgspec.UNSET  # of the failed order; old updaters send it for rollbacks only


class Report(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A heartbeat, host -> meta."""

    hostname: str = ""
    real_agents: Annotated[list[RealAgent], msgspec.Meta(max_length=MAX_AGENTS)] | None = None
    # Added fields, which old peers ignore:
    ip: str | msgspec.UnsetType = msgspec.UNSET
    updater_version: str | msgspec.UnsetType = msgspec.UNSET
    outcomes: Annotated[list[Outcome], msgspec.Meta(max_length=MAX_AGENTS)] | msgspec.UnsetType | None = msgspec.UNSET
    # Not a heartbeat: the host only asks for its orders. The reply has the key, too, unless meta is too old to know it.
    look: bool | msgspec.UnsetType = msgspec.UNSET
    machine: Fingerprint | msgspec.UnsetType = msgspec.UNSET  # hash of the machine id, 16 to 64 hex digits
    boot: Fingerprint | msgspec.UnsetType = msgspec.UNSET  # hash of the boot id, in the same form


class _FullAgent(RealAgent, frozen=True, kw_only=True, gc=False):
    name: str
    version: str
    status: str
    timestamp: Second


class _FullReport(Report, frozen=True, gc=False, kw_only=True, rename="camel"):  # no key left out
    hostname: str
    real_agents: Annotated[list[_FullAgent], msgspec.Meta(max_length=MAX_AGENTS)]  # type: ignore[assignment]


class Desired(msgspec.Struct, frozen=True, rename="camel"):
    """The desired state of one agent on one host."""

    name: str = ""
    version: str = ""
    tarball: str = ""  # base URL: the directory that has the tarball
    md5: str = ""  # 32 hex digits, or the base URL of a digest file, or "" for the tarball's base
    cmd: str = ""  # START or STOP
    # Added fields, which old peers ignore:
    sha256: str = ""  # 64 hex digits, or "" for none
    mirrors: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_MIRRORS)] = ()  # more bases of the tarball
    attempt: Attempt = 0  # a host that rejected the version tries it again when this number is higher than it was then
    leftovers: str = ""  # one of LEFTOVERS; any other word means the first
    unknown_status: str = ""  # one of UNKNOWN_STATUS; any other word means the first

    @property
    def file_name(self) -> str:
        """The tarball's name below its base URL."""
        return f"{self.name}-{self.version}.tar.gz"


_full_decoder, _report_decoder = msgspec.json.Decoder(_FullReport), msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def is_renewed(before: Desired | None, after: Desired | None) -> bool:
    """Whether a host tries again when `after` follows `before`: the artifact or the command differs."""
    return (before and _target(before)) != (after and _target(after))


def _target(order: Desired) -> tuple[object, ...]:
    return order.version, order.tarball, order.mirrors, order.md5, order.sha256, order.cmd


def decode_report(body: bytes) -> Report:
    """A heartbeat's body -> Report; raises WireError with the text that ops-meta answers.

    The host name is only checked for being blank.
    """
    quotes = -1
    try:
        try:
            report: Report = _full_decoder.decode(body)
            ours = (report.ip is not msgspec.UNSET) + (report.updater_version is not msgspec.UNSET)
            trials = [agent.trial for agent in report.real_agents]  # type: ignore[union-attr]
            quotes = 6 + 4 * ours + 16 * len(trials) - 2 * trials.count(msgspec.UNSET)
            quotes += 2 * (report.look is not msgspec.UNSET)
            quotes += 4 * ((report.machine is not msgspec.UNSET) + (report.boot is not msgspec.UNSET))
        except msgspec.ValidationError:
            report = _decode_other(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise WireError("body format error" if body else "body is blank") from e
    if not report.hostname:
        raise WireError("hostname is blank")
    if body.count(b'"') != quotes and (problem := keys_problem(body)):
        raise WireError(f"body format error: {one_line(problem, 300)}")
    return report


def _decode_other(body: bytes) -> Report:
    try:  # with keys left out, or unexpected ones
        return _report_decoder.decode(body)
    except msgspec.ValidationError:
        return added_fields.decode(body, Report, RealAgent, Outcome, MAX_AGENTS)


def render_report(report: Report) -> bytes:
    """Report -> a heartbeat's body, without the fields that are unset."""
    return _encoder.encode(report)


def render_reply(desired: Sequence[Desired], notify: int = 0) -> bytes:
    """The desired agents of one host -> a reply's body. notify: the longest wait of a `GET /notify`, in seconds; 0: none."""
    more = {"notify": notify} if notify else {}
    return _encoder.encode({"errorMessage": "", "desiredAgents": [desired_fields(d) for d in desired]} | more)


_OURS = ("sha256", "mirrors", "attempt", "leftovers", "unknownStatus")


def desired_fields(desired: Desired) -> dict[str, Any]:
    """One entry of a reply; added fields appear only if they are not empty."""
    fields = msgspec.to_builtins(desired)
    return {key: value for key, value in fields.items() if value or key not in _OURS}


def desired_problem(desired: Desired) -> str:
    """Why this order must not be followed, or "" if it may. A `stop` needs only a name."""
    if problem := name_problem(desired.name) or cmd_problem(desired.cmd):
        return problem
    if desired.cmd == STOP:
        return ""
    return (
        version_problem(desired.version)
        or base_problem("tarball", desired.tarball)
        or md5_problem(desired.md5)
        or sha256_problem(desired.sha256)
        or next(filter(None, (base_problem("mirror", mirror) for mirror in desired.mirrors)), "")
    )
