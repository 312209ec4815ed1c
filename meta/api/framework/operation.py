"""One operation of the REST API as a value: a function and its description. Routes, rules, decoding and the OpenAPI document
are all derived from it, so they cannot differ."""

from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from meta.access.roles import Principal, Rule
from updater.wire.limits import MAX_BODY

if TYPE_CHECKING:
    from meta.service import Service

PREFIX = "/api/v1"
SECRET = "Idempotency-Key"  # noqa: S105 - the header with the secret that a host chose for its enrolment
MAX_RECORDS = 32 << 20  # bytes of a body with records: as many values of 30 bytes as a records file may hold
FILE = "a file"  # stands for a type: bytes instead of JSON


class Call(NamedTuple):
    """One request, decoded and authorised. `path`, `query` and `body` have the operation's types, None if it has none."""

    service: "Service"
    who: Principal
    now: float  # Unix seconds
    path: Mapping[str, Any]
    query: Any
    body: Any
    if_match: str = ""  # header
    if_none_match: str = ""  # header
    stream: IO[bytes] | None = None  # of an upload
    length: int = 0  # of an upload, in bytes
    origin: tuple[str, str] = ("http", "")  # (scheme, Host) of the request
    secret: str = ""  # header SECRET
    prefix: str = ""  # path below which clients reach meta


class Reply(NamedTuple):
    """The result of an operation."""

    status: int  # one of the operation's `answers`
    body: Any = None  # of the type given there
    headers: Mapping[str, str] = {}
    file: str = ""  # sent instead of a body if that type is FILE


class Operation(NamedTuple):
    """The description of an operation."""

    method: str
    path: str  # below PREFIX, with its parts in braces
    rule: Rule
    summary: str
    view: Callable[[Call], Reply]
    parts: Mapping[str, Any]  # part of the path -> type
    query: type[Any] | None
    body: Any
    answers: Mapping[int, Any]  # status -> type of the body, None for no body
    refusals: tuple[int, ...]  # statuses of refusals, in addition to those of all operations
    conditional: tuple[str, ...]  # headers that it uses
    check: Callable[[Any], Any] | None  # converts the body's data, instead of its type
    most: int  # bytes of a JSON body

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
    """Decorator that turns a view function into an Operation."""

    def made(view: Callable[[Call], Reply]) -> Operation:
        kinds, more, headers = dict(parts or {}), tuple(refusals), tuple(conditional)
        return Operation(method, path, rule, summary, view, kinds, query, body, answers, more, headers, check, most)

    return made
