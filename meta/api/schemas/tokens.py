"""Bodies of the REST API about tokens. Times are Unix seconds."""

from typing import Annotated, Literal

from msgspec import Meta, field

from meta.api.schemas.basics import TOKEN_NAME, Answer, Body, Hostname
from updater.wire.limits import MAX_HOSTNAME, MAX_SPAN, MAX_TIME, MAX_USES


class Whoami(Answer):
    """Who makes the request."""

    name: Annotated[str, Meta(description="of the token; a host's own name")]
    role: Annotated[str, Meta(description="viewer, editor, admin or host; empty without a token")]


class TokenBody(Body):
    """A token to create."""

    kind: Literal["operator", "enrolment"]
    name: Annotated[str, Meta(pattern=TOKEN_NAME)]
    role: Annotated[
        Literal["", "viewer", "editor", "admin"], Meta(description="required for operators, only for them")
    ] = ""
    expires: Annotated[float, Meta(ge=0, le=MAX_TIME, description="0: never, unless `expiresIn` is given")] = 0.0
    expires_in: Annotated[
        float, Meta(ge=0, le=MAX_SPAN, description="seconds from now by meta's clock; instead of `expires`")
    ] = 0.0
    uses: Annotated[int, Meta(ge=-1, le=MAX_USES, description="how many hosts may enrol; -1: any number")] = -1
    pattern: Annotated[
        str, Meta(min_length=1, max_length=MAX_HOSTNAME, description="a glob of the hostnames that may enrol")
    ] = "*"
    reenrol: Annotated[bool, Meta(description="hosts that have a token may enrol too")] = False


class TokenView(Answer):
    """A token without its text, which only its owner has."""

    id: int
    kind: Annotated[str, Meta(description="operator or enrolment")]
    name: str
    role: Annotated[str, Meta(description="viewer, editor or admin; empty for enrolment tokens")]
    created: float
    expires: Annotated[float, Meta(description="0: never")]
    uses: Annotated[int, Meta(description="how many are left; -1: any number")]
    pattern: Annotated[str, Meta(description="a glob of the hostnames that may enrol")]
    reenrol: Annotated[bool, Meta(description="hosts that have a token may enrol too")]
    revoked: Annotated[float, Meta(description="0: it is not revoked")]


class Tokens(Answer):
    """All tokens."""

    items: list[TokenView]


class NewToken(TokenView, kw_only=True):
    """A new token, with its text."""

    token: Annotated[str, Meta(description="its text, shown only here")]
    warnings: Annotated[list[str], Meta(description="possible mistakes, as a pattern that nearly matches a host")] = (
        field(default_factory=list)
    )


class EnrolBody(Body):
    """The host to enrol."""

    hostname: Hostname


class Enrolled(Answer):
    """An enrolled host."""

    hostname: str
    token: Annotated[str, Meta(description="of the host from now on; shown only here")]
