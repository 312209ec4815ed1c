"""Parses a heartbeat's reply on the host. Each order is checked by itself, as names and versions become paths and arguments."""

from hashlib import sha256
from typing import Annotated, NamedTuple

import msgspec

from updater.wire.decode_problems import in_words
from updater.wire.heartbeat import Desired, WireError, desired_problem
from updater.wire.limits import MAX_AGENTS, MAX_NOTIFY
from updater.wire.text import one_line


class RefusedOrder(NamedTuple):
    """An entry of a reply that failed a check."""

    name: str  # the agent's, or "entry N" if that cannot be read
    why: str
    version: str = ""  # the version that it orders, "" if that cannot be read or is ambiguous


class Reply(msgspec.Struct, frozen=True):
    """meta's reply, checked."""

    desired: tuple[Desired, ...] = ()  # orders that passed all checks
    refused: tuple[RefusedOrder, ...] = ()  # the others
    look: bool = False  # meta says that it took the report for a query, not for a heartbeat
    notify: int = 0  # the longest wait of a `GET /notify` that meta allows, in seconds; 0: it has none
    known: str = ""  # by which meta tells at a `GET /notify` whether the host has its newest reply


class _WireReply(msgspec.Struct, rename="camel"):
    desired_agents: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_AGENTS)] | None
    error_message: str | None = ""
    look: bool = False
    notify: msgspec.Raw = msgspec.Raw(b"0")  # an added field: one of a wrong type is ignored


class _Named(msgspec.Struct):
    name: str


class _Versioned(msgspec.Struct):
    version: str


_Seconds = Annotated[int, msgspec.Meta(ge=0)]

_reply_decoder = msgspec.json.Decoder(_WireReply)
_desired_decoder = msgspec.json.Decoder(Desired)
_named_decoder = msgspec.json.Decoder(_Named)
_versioned_decoder = msgspec.json.Decoder(_Versioned)
_seconds_decoder = msgspec.json.Decoder(_Seconds)


def parse_reply(body: bytes) -> Reply:
    """The body of meta's 200 response -> Reply; raises WireError if it is not a reply at all.

    A bad entry goes to `refused` and does not affect the others. An agent that is listed twice is refused, since it is
    unknown which entry is meant.
    """
    try:
        wire = _reply_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise WireError(f"not a heartbeat reply: {in_words(e)}") from e
    if wire.error_message:
        raise WireError(f"meta says: {one_line(wire.error_message, 300)}")
    good: dict[str, Desired] = {}
    refused: dict[str, RefusedOrder] = {}
    for position, raw in enumerate(wire.desired_agents or ()):
        name, desired, problem = _parse_desired(bytes(raw), position)
        version = _version_in(bytes(raw))
        if first := good.pop(name, None) or refused.get(name):
            refused[name] = RefusedOrder(name, "listed more than once", version if version == first.version else "")
        elif desired is None:
            refused[name] = RefusedOrder(name, problem, version)
        else:
            good[name] = desired
    known = sha256(body).hexdigest()[:16]
    return Reply(tuple(good.values()), tuple(refused.values()), wire.look, _notify_in(wire.notify), known)


def _parse_desired(raw: bytes, position: int) -> tuple[str, Desired | None, str]:
    try:
        desired = _desired_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        return _name_in(raw) or f"entry {position}", None, in_words(e)
    problem = desired_problem(desired)
    return one_line(desired.name, 64) or f"entry {position}", None if problem else desired, problem


def _notify_in(raw: msgspec.Raw) -> int:
    try:
        return min(_seconds_decoder.decode(raw), MAX_NOTIFY)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return 0


def _version_in(raw: bytes) -> str:
    try:
        return one_line(_versioned_decoder.decode(raw).version, 64)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _name_in(raw: bytes) -> str:
    try:
        return one_line(_named_decoder.decode(raw).name, 64)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
