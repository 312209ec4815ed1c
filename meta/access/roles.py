"""Authorisation: roles of principals, rules of routes, and the decision who may use a route. Pure."""

from enum import Enum
from typing import NamedTuple

OPERATOR, ENROLMENT, HOST = "operator", "enrolment", "host"  # kinds of a token
VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"  # roles of an operator; each includes those before it
ROLES = (VIEWER, EDITOR, ADMIN)


class Principal(NamedTuple):
    """Who makes a request."""

    name: str = ""  # of the token; a host's own name
    role: str = ""  # viewer, editor, admin, host, enrolment, or "" without a token
    id: int = 0  # of the token


NOBODY = Principal()  # a request without a token


class Rule(Enum):
    """Who may use a route."""

    PUBLIC = "everybody"
    LOCAL = "clients on this machine, with any token or none"
    READ = "any operator or host; without a token where anonymous hosts are allowed"
    VIEWER = "operators"
    EDITOR = "editors and admins"
    ADMIN = "admins"
    ENROL = "holders of an enrolment token"


class Decision(Enum):
    """Whether a request is allowed; the value is the HTTP status of a refusal, 0 for ALLOWED."""

    ALLOWED = 0
    WHO_ARE_YOU = 401
    FORBIDDEN = 403


_LOWEST = {Rule.VIEWER: 0, Rule.EDITOR: 1, Rule.ADMIN: 2}


def judge(rule: Rule, principal: Principal, is_local: bool, anonymous: bool) -> Decision:
    """Decide whether the principal may use a route of this rule.

    is_local: the request was made on this machine, not through a proxy; anonymous: hosts without a token are accepted.
    """
    if rule is Rule.PUBLIC:
        return Decision.ALLOWED
    if rule is Rule.LOCAL:
        return Decision.ALLOWED if is_local else Decision.FORBIDDEN
    if principal == NOBODY:
        return Decision.ALLOWED if rule is Rule.READ and anonymous else Decision.WHO_ARE_YOU
    return Decision.ALLOWED if _may(rule, principal.role) else Decision.FORBIDDEN


def _may(rule: Rule, role: str) -> bool:
    if rule is Rule.READ:
        return role == HOST or role in ROLES
    if rule is Rule.ENROL:
        return role == ENROLMENT
    return role in ROLES and ROLES.index(role) >= _LOWEST[rule]
