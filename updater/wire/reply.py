"""A heartbeat's reply as the host reads it: each order is checked by itself, for names and versions become paths and words."""

from typing import Annotated, NamedTuple

import msgspec

from updater.wire.decode_problems import in_words
from updater.wire.heartbeat import Desired, WireError, desired_problem
from updater.wire.limits import MAX_AGENTS
from updater.wire.text import one_line


class RefusedOrder(NamedTuple):
    """An entry that did not pass all checks. name: of its agent, or which entry it is; version: what it asks for, "" where that
    cannot be read or is not one."""

    name: str
    why: str
    version: str = ""


class Reply(msgspec.Struct, frozen=True):
    """meta's answer: the desired agents that passed all checks, and those that did not. look: meta says that it took the
    report for a look."""

    desired: tuple[Desired, ...] = ()
    refused: tuple[RefusedOrder, ...] = ()
    look: bool = False


class _WireReply(msgspec.Struct, rename="camel"):
    desired_agents: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_AGENTS)] | None
    error_message: str | None = ""
    look: bool = False


class _Named(msgspec.Struct):
    name: str


class _Versioned(msgspec.Struct):
    version: str


_reply_decoder = msgspec.json.Decoder(_WireReply)
_desired_decoder = msgspec.json.Decoder(Desired)
_named_decoder = msgspec.json.Decoder(_Named)
_versioned_decoder = msgspec.json.Decoder(_Versioned)


def parse_reply(body: bytes) -> Reply:
    """meta's 200 answer -> Reply; raises WireError when it is no usable answer at all.

    One bad entry spoils only itself: it lands in `refused` and the others stand. An agent listed twice is refused
    whole, since nobody can tell which entry is meant.
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
    return Reply(tuple(good.values()), tuple(refused.values()), wire.look)


def _parse_desired(raw: bytes, position: int) -> tuple[str, Desired | None, str]:
    try:
        desired = _desired_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        return _name_in(raw) or f"entry {position}", None, in_words(e)
    problem = desired_problem(desired)
    return one_line(desired.name, 64) or f"entry {position}", None if problem else desired, problem


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
