"""REST operations on tokens: whoami, tokens of people, enrolment of hosts. A token's text is only in the response that creates
it."""

import logging
import re
from fnmatch import fnmatchcase
from typing import Any

from meta.access.roles import HOST, OPERATOR, Rule
from meta.access.tokens import Token, host_token, mint
from meta.api.framework.operation import SECRET, Call, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.schemas.basics import Hostname, Number
from meta.api.schemas.tokens import EnrolBody, Enrolled, NewToken, TokenBody, Tokens, TokenView, Whoami
from meta.errors import Unauthorised, Unknown
from meta.hosts.similar_names import nearly_selecting
from meta.records.selectors import Glob, glob_problem
from meta.store import Taken
from updater.wire.limits import MAX_SECRET, SECRET_FORM

MAX_UNANSWERED = 10_000  # enrolments
_SECRET = re.compile(SECRET_FORM)
_SHOWN = tuple(TokenView.__struct_fields__)
log = logging.getLogger(__name__)


@operation("GET", "/whoami", Rule.READ, "Show who makes the request, by the token", answers={200: Whoami})
def whoami(call: Call) -> Reply:
    return Reply(200, Whoami(call.who.name, call.who.role))


@operation("GET", "/tokens", Rule.ADMIN, "List all tokens, also revoked ones", answers={200: Tokens})
def get_tokens(call: Call) -> Reply:
    return Reply(200, Tokens([TokenView(**_shown(one)) for one in call.service.store.tokens()]))


@operation(
    "POST",
    "/tokens",
    Rule.ADMIN,
    "Create a token; only this response has its text",
    body=TokenBody,
    answers={201: NewToken},
)
def make_token(call: Call) -> Reply:
    body = call.body
    _check(body, call.now)
    call.service.require_database()
    epoch = call.service.tokens.epoch
    text, hashed = mint(body.kind)
    token = Token(
        id=0,
        kind=body.kind,
        name=body.name,
        role=body.role,
        hash=hashed,
        created=call.now,
        expires=expiry(body, call.now),
        uses=body.uses,
        pattern=body.pattern,
        reenrol=body.reenrol,
    )
    token, serial = call.service.store.add_token(token, call.who.id, epoch)
    call.service.tokens.take(token, serial, epoch)
    role = f" {token.role}" if token.role else ""
    log.info("token %d created: %s%s %s, by %s", token.id, token.kind, role, token.name, call.who.name)
    warnings = nearly_selecting(Glob(token.pattern), call.service.table.folded_names())
    return Reply(201, NewToken(**_shown(token), token=text, warnings=warnings))


def expiry(body: TokenBody, now: float) -> float:
    """When a token that is created now expires, in Unix seconds; 0 for never."""
    return now + body.expires_in if body.expires_in else body.expires


def _check(body: TokenBody, now: float) -> None:
    if body.kind == OPERATOR and not body.role:
        raise Refusal(400, "role is missing: viewer, editor or admin", problems=[("role", "is missing")])
    if body.kind == OPERATOR and (body.uses != -1 or body.pattern != "*" or body.reenrol):
        raise Refusal(400, "uses, pattern and reenrol are for enrolment tokens")
    if body.kind != OPERATOR and body.role:
        raise Refusal(400, "role is for tokens of operators", problems=[("role", "must be blank")])
    if problem := glob_problem(body.pattern, "hosts"):
        raise Refusal(400, problem, problems=[("pattern", problem)])
    if body.expires and body.expires_in:
        raise Refusal(400, "give expires or expiresIn, not both")
    if body.uses == 0 or (body.expires and body.expires <= now):
        raise Refusal(400, "this token could never be used")


@operation(
    "DELETE",
    "/tokens/{id}",
    Rule.ADMIN,
    "Revoke a token, at once",
    parts={"id": Number},
    answers={204: None},
    refusals=[404, 409],
)
def revoke_token(call: Call) -> Reply:
    wanted = call.path["id"]
    call.service.require_database()
    epoch = call.service.tokens.epoch
    written = call.service.store.revoke_token(wanted, call.now, call.who.id, epoch)
    if written is None:
        raise Refusal(404, f"there is no token {wanted}, or it is revoked already")
    call.service.tokens.take(written.token, written.serial, epoch)
    log.info("token %d revoked by %s", wanted, call.who.name)
    return Reply(204)


@operation(
    "POST",
    "/enrol",
    Rule.ENROL,
    "Enrol a host: exchange an enrolment token for a token of the host",
    body=EnrolBody,
    answers={201: Enrolled},
    refusals=[409],
    conditional=[SECRET],
)
def enrol(call: Call) -> Reply:
    """Enrol a host. A problem of the enrolment token is a 401 or 403; a 409 is about the host."""
    host, service, secret = call.body.hostname, call.service, call.secret
    shown = next((one for one in service.tokens.all() if one.id == call.who.id), None)
    if shown is None or not fnmatchcase(host, shown.pattern):
        raise Refusal(403, f"this enrolment token is not for {host}")
    if secret and not _SECRET.fullmatch(secret):
        raise Refusal(400, f"{SECRET} must be 32 to {MAX_SECRET} letters, digits, '_' or '-', chosen at random")
    service.require_database()
    epoch = service.host_tokens.epoch
    key = shown.id, host
    text, hashed = host_token(host, secret) if secret else service.unanswered.get(key) or mint(HOST)
    try:
        written = service.store.use_enrolment(shown.id, host, hashed, call.now, epoch)
    except Unknown:
        if not secret and len(service.unanswered) < MAX_UNANSWERED:
            service.unanswered[key] = text, hashed
        raise
    except (Unauthorised, Taken):
        service.unanswered.pop(key, None)
        raise
    service.unanswered.pop(key, None)  # kept until now, since a repetition that raised TryLater was not answered
    service.host_tokens.update([(host, hashed, written.serial)], epoch=epoch)
    log.info("%s enrolled with token %d (%s)", host, shown.id, shown.name)
    return Reply(201, Enrolled(host, text))


@operation(
    "DELETE",
    "/hosts/{host}/token",
    Rule.ADMIN,
    "Revoke the token of a host, which may enrol again",
    parts={"host": Hostname},
    answers={204: None},
    refusals=[404],
)
def revoke_host_token(call: Call) -> Reply:
    host = call.path["host"]
    call.service.require_database()
    epoch = call.service.host_tokens.epoch
    serial = call.service.store.revoke_host_token(host, call.now, call.who.id, epoch)
    if not serial:
        raise Refusal(404, f"{host} has no token")
    call.service.host_tokens.update([(host, b"", serial)], epoch=epoch)
    log.info("the token of host %s was revoked by %s", host, call.who.name)
    return Reply(204)


def _shown(token: Token) -> dict[str, Any]:
    return {name: getattr(token, name) for name in _SHOWN}
