"""Turns errors of meta into responses with a problem document (RFC 9457). Each text in it is one line of at most MAX_TEXT
characters."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from meta.api.schemas.types import Problem, ProblemView
from meta.errors import (
    Banned,
    Conflict,
    EditRefused,
    MetaError,
    NotThere,
    RecordsError,
    TryLater,
    Unauthorised,
    Unconfirmed,
    Unknown,
)
from updater.wire.text import indented_line, one_line

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER = 5  # seconds
MAX_TEXT = 2000  # characters
MAX_LINES = 1000
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Refusal(MetaError):
    """An unsuccessful response. problems: (path, text); difference: lines."""

    def __init__(
        self,
        status: int,
        detail: str,
        problems: Iterable[tuple[str, str]] = (),
        difference: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status = status
        self.problems = list(problems)
        self.difference = list(difference)
        self.headers = dict(headers or {})


def refusal(error: MetaError) -> Refusal:
    """The response to an error."""
    match error:
        case Refusal():
            return error
        case Unauthorised():
            return Refusal(401, str(error), headers=CHALLENGE)
        case NotThere():
            return Refusal(404, str(error))
        case RecordsError() | EditRefused():
            found = [(problem.path, problem.text) for problem in error.problems]
            return Refusal(409 if isinstance(error, Banned) else 400, _first(found), problems=found)
        case Conflict():
            return Refusal(412, str(error), difference=error.lines)
        case Unconfirmed():
            return Refusal(409, str(error))
        case Unknown():
            return Refusal(504, str(error))
        case TryLater():
            return Refusal(503, str(error), headers={"Retry-After": str(RETRY_AFTER)})
    return Refusal(409, str(error))  # a person must change something else first


def problem(refused: Refusal) -> Problem:
    """The problem document of a refusal."""
    return Problem(
        title=title(refused.status),
        status=refused.status,
        detail=one_line(str(refused), MAX_TEXT),
        problems=[
            ProblemView(one_line(path, 200), one_line(text, MAX_TEXT)) for path, text in refused.problems[:MAX_LINES]
        ],
        difference=[indented_line(line, MAX_TEXT) for line in refused.difference[:MAX_LINES]],
    )


def title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _first(found: list[tuple[str, str]]) -> str:
    if not found:
        return "the document is refused"
    first = ": ".join(part for part in found[0] if part)
    return first if len(found) == 1 else f"{first} (and {len(found) - 1} more)"
