"""Checks, before each view function, who may use the route, how often, and from where."""

import math
from collections.abc import Callable
from typing import Any

from flask import Response, current_app, g, request

from meta.access.clients import bucket_of, host_refusal, is_local, page_refusal
from meta.access.roles import ENROLMENT, NOBODY, Decision, Principal, Rule, judge
from meta.access.tokens import NotKnown
from meta.api.framework.problems import CHALLENGE
from meta.api.state import state
from meta.errors import Unauthorised
from meta.web.answers import is_api, refusal, text

View = Callable[..., Any]


def rule(wanted: Rule) -> Callable[[View], View]:
    """Decorate a view function with the rule that says who may use its route."""

    def marked(view: View) -> View:
        view.rule = wanted  # type: ignore[attr-defined]
        return view

    return marked


def keep_rule() -> Response | None:
    """Check a request before its view function runs. Returns a refusal, or None if the request is allowed."""
    if request.endpoint is None:
        return None
    view: Any = current_app.view_functions[request.endpoint]
    wanted: Rule = view.rule
    service, limits = state().service, state().limits
    address, anonymous = service.peer(request.environ)
    client, now = bucket_of(address), service.clock.now()
    counted = is_api() and wanted is not Rule.ENROL
    if counted and (wait := limits.requests.take(client, now)):
        return _too_many("too many requests", wait)
    if wanted in (Rule.LOCAL, Rule.READ) and (why := page_refusal(request.environ)):
        return refusal(403, why)
    g.principal = NOBODY
    if wanted not in (Rule.PUBLIC, Rule.LOCAL):
        try:
            g.principal = service.tokens.authenticate(request.headers.get("Authorization", ""), now)
        except Unauthorised as e:
            if wait := limits.failures.take(client, now):
                return _too_many("too many refused tokens", wait)
            soon = {"Retry-After": "1"} if wanted is Rule.ENROL and isinstance(e, NotKnown) else {}
            return refusal(401, str(e), CHALLENGE | soon)
    if wanted is Rule.ENROL:
        shown = f"token {g.principal.id}" if g.principal.role == ENROLMENT else client
        if wait := limits.enrolments.take(shown, now):
            return _too_many("too many enrolments", wait)
    return _judged(wanted, g.principal, anonymous) or _misnamed(wanted, g.principal)


def _misnamed(wanted: Rule, principal: Principal) -> Response | None:
    """Refuse a request that is allowed only because it comes from this machine, if its Host header names another one."""
    anonymous_here = wanted is Rule.READ and principal == NOBODY and state().service.settings.anonymous_hosts is None
    why = host_refusal(request.environ) if wanted is Rule.LOCAL or anonymous_here else ""
    return refusal(403, why) if why else None


def _judged(wanted: Rule, principal: Principal, anonymous: bool) -> Response | None:
    decision = judge(wanted, principal, is_local(request.environ), anonymous)
    if decision is Decision.WHO_ARE_YOU:
        return refusal(401, "send a token: Authorization: Bearer TOKEN")
    if decision is Decision.FORBIDDEN and wanted is Rule.LOCAL:
        return text("no privilege", 403)
    if decision is Decision.FORBIDDEN:
        return refusal(403, f"this is for {wanted.value}; the token in this request has the role {principal.role}")
    return None


def _too_many(why: str, wait: float) -> Response:
    return refusal(429, f"{why}; wait a moment", {"Retry-After": str(math.ceil(wait))})
