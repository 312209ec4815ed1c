"""Who may use a route: roles, the rules that routes have, and the judgement. Pure."""

from enum import Enum
from typing import NamedTuple

OPERATOR, ENROLMENT, HOST = "operator", "enrolment", "host"  # kinds of a token
VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"  # roles of an operator, each may do what those before it may
ROLES = (VIEWER, EDITOR, ADMIN)


class Principal(NamedTuple):
    """Who asks. role: viewer, editor, admin, host (name is its hostname), enrolment, or "" for nobody; id: of the token."""

    name: str = ""
    role: str = ""
    id: int = 0


NOBODY = Principal()


class Rule(Enum):
    """Who may use a route."""

    PUBLIC = "everybody"
    LOCAL = "who asks on this machine itself, whatever his token"
    READ = "any operator or host; without a token where anonymous hosts are allowed"
    VIEWER = "operators"
    EDITOR = "editors and admins"
    ADMIN = "admins"
    ENROL = "who shows an enrolment token"


class Verdict(Enum):
    """The value is the HTTP status of the refusal, 0 when there is none."""

    ALLOWED = 0
    WHO_ARE_YOU = 401
    FORBIDDEN = 403


_LOWEST = {Rule.VIEWER: 0, Rule.EDITOR: 1, Rule.ADMIN: 2}


def judge(rule: Rule, principal: Principal, is_local: bool, anonymous: bool) -> Verdict:
    """is_local: asked on this machine, not through a proxy; anonymous: whether hosts without a token are allowed from there."""
    if rule is Rule.PUBLIC:
        return Verdict.ALLOWED
    if rule is Rule.LOCAL:
        return Verdict.ALLOWED if is_local else Verdict.FORBIDDEN
    if principal == NOBODY:
        return Verdict.ALLOWED if rule is Rule.READ and anonymous else Verdict.WHO_ARE_YOU
    return Verdict.ALLOWED if _may(rule, principal.role) else Verdict.FORBIDDEN


def _may(rule: Rule, role: str) -> bool:
    if rule is Rule.READ:
        return role == HOST or role in ROLES
    if rule is Rule.ENROL:
        return role == ENROLMENT
    return role in ROLES and ROLES.index(role) >= _LOWEST[rule]
