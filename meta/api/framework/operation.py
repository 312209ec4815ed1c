"""One operation of the REST API: a function and all that is to be known of it, in one value. The routes, the rules, the
decoding and the OpenAPI document are all made from it, so they cannot differ."""

from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from meta.access.roles import Principal, Rule
from updater.wire.limits import MAX_BODY

if TYPE_CHECKING:
    from meta.service import Service

PREFIX = "/api/v1"
SECRET = "Idempotency-Key"  # noqa: S105 - the header of what a host made up for its enrolment
MAX_RECORDS = 32 << 20  # bytes of a body that holds records: as many values of 30 bytes as a records file may hold
FILE = "a file"  # in place of a type: bytes that are no JSON


class Call(NamedTuple):
    """One request, already decoded, by somebody who may make it. now: Unix seconds; path, query, body: values of the
    operation's types (None where it has none); if_match, if_none_match: the headers as they came, "" without; stream,
    length: of an upload; origin: the scheme and the Host that were asked; secret: the header SECRET; prefix: the path
    below which we were asked."""

    service: "Service"
    who: Principal
    now: float
    path: Mapping[str, Any]
    query: Any
    body: Any
    if_match: str = ""
    if_none_match: str = ""
    stream: IO[bytes] | None = None
    length: int = 0
    origin: tuple[str, str] = ("http", "")
    secret: str = ""
    prefix: str = ""


class Reply(NamedTuple):
    """status and body: as the operation's `answers` promise; file: what a FILE answer sends instead of a body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}
    file: str = ""


class Operation(NamedTuple):
    """path: below PREFIX, its parts in braces; parts: their types; answers: status -> type of the body (None: no body);
    refusals: the statuses it may refuse with, beside those that any may; conditional: the headers that are part of it; check:
    what makes the value from the body's data, where it is not the type itself; most: bytes of a JSON body."""

    method: str
    path: str
    rule: Rule
    summary: str
    view: Callable[[Call], Reply]
    parts: Mapping[str, Any]
    query: type[Any] | None
    body: Any
    answers: Mapping[int, Any]
    refusals: tuple[int, ...]
    conditional: tuple[str, ...]
    check: Callable[[Any], Any] | None
    most: int

    @property
    def name(self) -> str:
        return self.view.__name__


def operation(
    method: str,
    path: str,
    rule: Rule,
    summary: str,
    *,
    parts: Mapping[str, Any] | None = None,
    query: type[Any] | None = None,
    body: Any = None,
    answers: Mapping[int, Any],
    refusals: Iterable[int] = (),
    conditional: Iterable[str] = (),
    check: Callable[[Any], Any] | None = None,
    most: int = MAX_BODY,
) -> Callable[[Callable[[Call], Reply]], Operation]:
    """Makes a view function an Operation."""

    def made(view: Callable[[Call], Reply]) -> Operation:
        kinds, more, headers = dict(parts or {}), tuple(refusals), tuple(conditional)
        return Operation(method, path, rule, summary, view, kinds, query, body, answers, more, headers, check, most)

    return made
