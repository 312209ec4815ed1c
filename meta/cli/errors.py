"""Turns a refusal of meta (HTTP status and problem document, RFC 9457) into an error whose text says what to do."""

from collections.abc import Sequence

import msgspec

from meta.api.schemas.types import Problem
from meta.errors import MetaError, Misconfigured, NotThere, TryLater
from updater.wire.text import indented_line, one_line

TO_GET_ONE = (
    "put yours into ~/.config/meta/token (mode 600) or META_TOKEN; an admin creates one with `meta token new NAME --role "
    "ROLE`, the first one with --database URL on meta's own machine"
)


class Conflict(MetaError):
    """The current state does not allow the edit. lines: the changes that others made since the edit's base, if that is why."""

    def __init__(self, sentence: str, lines: Sequence[str]):
        super().__init__(sentence, lines)
        self.sentence = sentence
        self.lines = list(lines)

    def __str__(self) -> str:
        return self.sentence


class TooLarge(Misconfigured):
    """The request's body is larger than the server accepts."""


def error(status: int, body: bytes, what: str, has_token: bool) -> MetaError:
    """The error for a response. what: the response in words, in case it is not a problem document."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeError):
        return _foreign(status, what)
    said = one_line(problem.detail or problem.title, 2000)
    if status == 401:
        return Misconfigured(f"{said}: {TO_GET_ONE}" if has_token else f"this needs a token: {TO_GET_ONE}")
    if status == 403:
        return Misconfigured(said)
    if status == 404:
        return NotThere(said)
    if status in (409, 412):
        return Conflict(_all_problems(problem, said), [indented_line(line, 2000) for line in problem.difference])
    if status == 413:
        return TooLarge(said)
    if status == 500:
        return TryLater(f"meta failed with an internal error ({said}): its log has the details")
    if status == 504:
        return TryLater(f"meta says: {said}")  # without "try again": it may be done already
    if status in (408, 429) or status > 500:
        return TryLater(f"meta says: {said}; try again in a moment")
    return Misconfigured(_all_problems(problem, said))


def _foreign(status: int, what: str) -> MetaError:
    if status in (502, 503, 504):
        return TryLater(f"a proxy answers, but no meta behind it ({what}); try again in a moment")
    if status == 413:
        return TooLarge(
            f"the proxy before meta refuses a body of this size ({what}): deploy/nginx.conf has what meta takes"
        )
    return Misconfigured(f"the server is not meta, or of another version ({what}): check META_URL")


def _all_problems(problem: Problem, said: str) -> str:
    if not problem.problems:
        return said
    return "\n".join(
        ": ".join(part for part in (one.path, one_line(one.text, 2000)) if part) for one in problem.problems
    )


def is_unreached(failure: Exception) -> bool:
    """Whether the request certainly did not reach a server."""
    return "NewConnectionError" in repr(failure) or "NameResolutionError" in repr(failure)
