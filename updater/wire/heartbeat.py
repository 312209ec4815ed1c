"""The heartbeat's wire, spoken by updater and meta alike: parse (bytes -> value) and render (value -> bytes).

Source of the format: open-falcon's ops-updater and ops-meta, as recorded under tests/wire. Unknown fields are ignored
on both sides and a peer never needs ours, so either side may run against the Go program. What a peer sends is
checked here once: names, versions and commands become paths and arguments later.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from updater import __version__
from updater.wire import additions
from updater.wire.doubled_keys import keys_problem
from updater.wire.limits import MAX_AGENTS, MAX_ATTEMPT, MAX_MIRRORS
from updater.wire.names import (
    STOP,
    cmd_problem,
    hostname_problem,
    md5_problem,
    name_problem,
    sha256_problem,
    version_problem,
)
from updater.wire.text import one_line
from updater.wire.urls import base_problem

VERSION = __version__  # of the software, shown by both services

DONE, FAILED, REFUSED, ROLLED_BACK = "done", "failed", "refused", "rolled back"  # results of an outcome
BY_HAND = "a person on the host took it back"  # reason of an outcome
STARTED, STOPPED = "started", ("stoped", "stopped")  # the first spelling is the peers'
WAITS = ("window", "download", "lock")  # what a change may wait for; no updater says the first and last yet

Second = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
Fingerprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16,64}\Z")]
Attempt = Annotated[int, msgspec.Meta(ge=0, le=MAX_ATTEMPT)]


class WireError(ValueError):
    """A body that is not of the wire. The text is the peers' own where they have one."""


class RealAgent(msgspec.Struct, frozen=True, gc=False):
    """One agent as its host saw it. status: the trimmed output of `./control status`, or why there is none;
    timestamp: Unix seconds of that look. Added fields, which old peers ignore: held: why a person holds the agent; trial:
    whether the version may yet be taken back, in a report of an updater that tells it and the others, always; waits: one of
    WAITS, what its change waits for; rejected: the version that was given up here, and is not tried again while the order
    stays as it is; attempt: of that order, left out for 0."""

    name: str = ""
    version: str = ""
    status: str = ""
    timestamp: Second = 0
    held: str | msgspec.UnsetType = msgspec.UNSET
    trial: bool | msgspec.UnsetType = msgspec.UNSET
    waits: str | msgspec.UnsetType = msgspec.UNSET
    rejected: str | msgspec.UnsetType = msgspec.UNSET
    attempt: Attempt | msgspec.UnsetType = msgspec.UNSET


class Outcome(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What became of one attempt to change an agent; an added field of the heartbeat. A version that was switched to is done
    when it has come through its watch, not when it is started.

    step: where it ended (`order`, `install`, `stop`, `switch`, `start`, `watch`); result: one of the four words
    above; evidence: the last lines of the control script's output; at: Unix seconds; attempt: of the order that failed, from an
    updater that tries a version again when its order has a higher one; older ones tell it of rollbacks alone.
    """

    agent: str = ""
    from_: str = ""
    to: str = ""
    step: str = ""
    result: str = ""
    reason: str = ""
    evidence: str = ""
    at: Second = 0
    attempt: Attempt | msgspec.UnsetType = msgspec.UNSET


class Report(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A heartbeat, host -> meta. The fields from `ip` on are additions that old peers ignore.

    look: this is no heartbeat, the host's orders are only looked up. A meta that knows the key has it in its reply too; others
    take the report for a heartbeat. machine, boot: hashes of the machine's own id and of its boot's, 16 to 64 hex
    digits; anything else is taken for none.
    """

    hostname: str = ""
    real_agents: Annotated[list[RealAgent], msgspec.Meta(max_length=MAX_AGENTS)] | None = None
    ip: str | msgspec.UnsetType = msgspec.UNSET
    updater_version: str | msgspec.UnsetType = msgspec.UNSET
    outcomes: Annotated[list[Outcome], msgspec.Meta(max_length=MAX_AGENTS)] | msgspec.UnsetType | None = msgspec.UNSET
    look: bool | msgspec.UnsetType = msgspec.UNSET
    machine: Fingerprint | msgspec.UnsetType = msgspec.UNSET
    boot: Fingerprint | msgspec.UnsetType = msgspec.UNSET


class _FullAgent(RealAgent, frozen=True, kw_only=True, gc=False):
    name: str
    version: str
    status: str
    timestamp: Second


class _FullReport(Report, frozen=True, gc=False, kw_only=True, rename="camel"):  # no key left out
    hostname: str
    real_agents: Annotated[list[_FullAgent], msgspec.Meta(max_length=MAX_AGENTS)]  # type: ignore[assignment]


class Desired(msgspec.Struct, frozen=True, rename="camel"):
    """What one agent shall be on one host. Ours, which old peers ignore: sha256, mirrors (more bases of the tarball), attempt:
    a host that has rejected the version tries it again when this is higher than it was then; leftovers, unknown_status: one
    of LEFTOVERS and UNKNOWN_STATUS, "" where nothing is said. A word that is neither means the first."""

    name: str = ""
    version: str = ""
    tarball: str = ""
    md5: str = ""
    cmd: str = ""
    sha256: str = ""
    mirrors: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_MIRRORS)] = ()
    attempt: Attempt = 0
    leftovers: str = ""
    unknown_status: str = ""

    @property
    def file_name(self) -> str:
        """The tarball's name below its base URL."""
        return f"{self.name}-{self.version}.tar.gz"


_full_decoder, _report_decoder = msgspec.json.Decoder(_FullReport), msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def parse_report(body: bytes) -> Report:
    """A heartbeat's body -> Report; raises WireError with the text that the peers answer."""
    report = decode_report(body)
    if problem := hostname_problem(report.hostname):
        raise WireError(problem)
    return report


def decode_report(body: bytes) -> Report:
    """The same for whoever looks at the hostname himself: it is only known not to be blank."""
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
    try:  # with keys left out, or odd ones
        return _report_decoder.decode(body)
    except msgspec.ValidationError:
        return additions.decode(body, Report, RealAgent, Outcome, MAX_AGENTS)


def render_report(report: Report) -> bytes:
    """Report -> a heartbeat's body; additions that are unset do not appear."""
    return _encoder.encode(report)


def render_reply(desired: Sequence[Desired], error_message: str = "") -> bytes:
    """The desired agents of one host -> a reply's body, in the peers' form."""
    return _encoder.encode({"errorMessage": error_message, "desiredAgents": [desired_fields(d) for d in desired]})


_OURS = ("sha256", "mirrors", "attempt", "leftovers", "unknownStatus")


def desired_fields(desired: Desired) -> dict[str, Any]:
    """One entry of a reply; our own fields appear only where they say something."""
    fields = msgspec.to_builtins(desired)
    return {key: value for key, value in fields.items() if value or key not in _OURS}


def desired_problem(desired: Desired) -> str:
    """Why this order must not be followed, or "" when it may. A `stop` needs nothing but a name."""
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
