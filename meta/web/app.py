"""The Flask application: ops-meta's routes, with its answers as recorded under tests/wire, and our REST API beside them.

Promises that every route has a rule, which is kept before its function runs (create_app raises for one without); a plain text,
JSON or problem answer to every request; that a fault of our own is a 500 that tells the client nothing and the log everything.
Heartbeats never come here: meta.heartbeat.wsgi answers them before Flask sees them.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, abort, current_app, g, request
from werkzeug.exceptions import HTTPException

from meta.access.clients import Limits, bucket_of, default_limits, host_refusal, is_local, page_refusal
from meta.access.roles import ENROLMENT, NOBODY, Principal, Rule, Verdict, judge
from meta.access.tokens import NotKnown, Unauthorised
from meta.api.framework.operation import PREFIX
from meta.api.framework.problems import CHALLENGE, Refusal
from meta.api.routes import blueprint, http_problem, problem_response
from meta.artifacts import transfer
from meta.errors import MetaError
from meta.heartbeat.responses import JSON, TEXT
from meta.heartbeat.wsgi import Front
from meta.queries import ops_meta_status
from meta.service import Service
from meta.web import metrics
from updater.wire.heartbeat import VERSION
from updater.wire.limits import MAX_BODY
from updater.wire.text import one_line

View = Callable[..., Any]
log = logging.getLogger(__name__)
routes = Blueprint("meta", __name__)


def create_app(service: Service, clock: Callable[[], float] = time.time, limits: Limits | None = None) -> Flask:
    """The WSGI application over one service. clock: Unix seconds."""
    app = Flask("meta", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # one more, or a body without a length would be cut, not refused
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # it would redirect; no peer follows one
    app.extensions["meta"] = (service, clock)
    app.extensions["meta limits"] = limits or default_limits()
    transfer.limit_transfers(app)
    app.register_blueprint(blueprint())
    app.register_blueprint(routes)
    for endpoint, view in app.view_functions.items():
        if not isinstance(getattr(view, "rule", None), Rule):
            raise TypeError(f"the route {endpoint} has no rule")
    app.before_request(_keep_rule)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    app.after_request(_harden)
    app.wsgi_app = Front(service, app.wsgi_app, clock)  # type: ignore[assignment, method-assign]
    return app


def rule(wanted: Rule) -> Callable[[View], View]:
    """Who may use the route of this view function."""

    def marked(view: View) -> View:
        view.rule = wanted  # type: ignore[attr-defined]
        return view

    return marked


def _service() -> Service:
    service: Service = current_app.extensions["meta"][0]
    return service


def _now() -> float:
    return float(current_app.extensions["meta"][1]())


# --- who may ---


def _keep_rule() -> Any:
    """Before every route: who asks, how often, and whether he may. An answer here is a refusal."""
    if request.endpoint is None:
        return None
    view: Any = current_app.view_functions[request.endpoint]
    wanted: Rule = view.rule
    limits: Limits = current_app.extensions["meta limits"]
    address, anonymous = _service().peer(request.environ)
    client, now = bucket_of(address), _now()
    counted = request.path.startswith(f"{PREFIX}/") and wanted is not Rule.ENROL
    if counted and (wait := limits.requests.take(client, now)):
        return _too_many("too many requests", wait)
    if wanted in (Rule.LOCAL, Rule.READ) and (why := page_refusal(request.environ)):
        return _refusal(403, why)
    g.principal = NOBODY
    if wanted not in (Rule.PUBLIC, Rule.LOCAL):
        try:
            g.principal = _service().tokens.authenticate(request.headers.get("Authorization", ""), now)
        except Unauthorised as e:
            if wait := limits.failures.take(client, now):
                return _too_many("too many refused tokens", wait)
            soon = {"Retry-After": "1"} if wanted is Rule.ENROL and isinstance(e, NotKnown) else {}
            return _refusal(401, str(e), CHALLENGE | soon)
    if wanted is Rule.ENROL:
        shown = f"token {g.principal.id}" if g.principal.role == ENROLMENT else client
        if wait := limits.enrolments.take(shown, now):
            return _too_many("too many enrolments", wait)
    return _judged(wanted, g.principal, anonymous) or _misnamed(wanted, g.principal)


def _misnamed(wanted: Rule, principal: Principal) -> Response | None:
    """The refusal of what is only allowed because it comes from this machine, under a name that is none of this machine's."""
    anonymous_here = wanted is Rule.READ and principal == NOBODY and _service().settings.anonymous_hosts is None
    why = host_refusal(request.environ) if wanted is Rule.LOCAL or anonymous_here else ""
    return _refusal(403, why) if why else None


def _judged(wanted: Rule, principal: Principal, anonymous: bool) -> Response | None:
    verdict = judge(wanted, principal, is_local(request.environ), anonymous)
    if verdict is Verdict.WHO_ARE_YOU:
        return _refusal(401, "send a token: Authorization: Bearer TOKEN")
    if verdict is Verdict.FORBIDDEN and wanted is Rule.LOCAL:
        return _text("no privilege", 403)
    if verdict is Verdict.FORBIDDEN:
        return _refusal(403, f"this is for {wanted.value}; the token shown is one of {principal.role or 'nobody'}")
    return None


def _too_many(why: str, wait: float) -> Response:
    return _refusal(429, f"{why}; wait a moment", {"Retry-After": str(math.ceil(wait))})


def _refusal(code: int, why: str, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or (CHALLENGE if code == 401 else {}))
    if _is_api():
        return problem_response(Refusal(code, why, headers=headers))
    response = _text(f"{why}\n", code)
    response.headers.update(headers)
    return response


def _is_api() -> bool:
    return request.path.startswith(f"{PREFIX}/")


# --- as ops-meta ---


def _text(text: str, code: int = 200) -> Response:
    return Response(text, code, content_type=TEXT)


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), content_type=JSON)


@routes.get("/status/json/", defaults={"agent": ""})
@routes.get("/status/json/<agent>")
@rule(Rule.READ)
def status_as_json(agent: str) -> Response:
    return _json(ops_meta_status.as_fields(_service().table, _named(agent), _now()))


@routes.get("/status/text/", defaults={"agent": ""})
@routes.get("/status/text/<agent>")
@rule(Rule.READ)
def status_as_text(agent: str) -> Response:
    return _text(ops_meta_status.as_text(_service().table, _named(agent), _now()))


def _named(agent: str) -> str:
    if not agent:
        abort(_text("agent name is blank\n", 400))
    return agent


@routes.route("/", methods=["GET", "OPTIONS"])
@routes.route("/health", methods=["OPTIONS"])
@rule(Rule.PUBLIC)
def options() -> Response:
    """What a balancer asks to know whether we answer at all; there is no page."""
    if request.method != "OPTIONS":
        abort(404)
    return Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS"})


@routes.get("/health")
@rule(Rule.PUBLIC)
def health() -> Response:
    return _text("ok")


@routes.get("/ready")
@rule(Rule.PUBLIC)
def ready() -> Response:
    """Whether edits are taken and written; 503 with the reasons, one on each line, while they are not. Warnings stand in the
    lines after "ready"."""
    troubles = [one_line(trouble, 300) for trouble in (*_service().ready(), *_service().troubles_beside())]
    if troubles:
        return _text("".join(f"{trouble}\n" for trouble in troubles), 503)
    return _text("\n".join(["ready", *(f"warning: {one}" for one in _service().warnings())]))


@routes.get("/version")
@rule(Rule.PUBLIC)
def version() -> Response:
    return _text(VERSION)


@routes.get("/metrics")
@rule(Rule.READ)
def prometheus() -> Response:
    return Response(metrics.render(_service(), _now()), content_type=metrics.CONTENT_TYPE)


@routes.get("/workdir")
@rule(Rule.LOCAL)
def workdir() -> Response:
    return _json({"msg": "success", "data": str(Path.cwd())})


@routes.get("/config/reload")  # as the peers' `control` asks for it
@routes.post("/config/reload")
@rule(Rule.LOCAL)
def reload() -> Response:
    """Of our own: `dryRun=true` only tells what it would do, with a seal; `confirm=SEAL` confirms what that takes away."""
    dry_run = request.args.get("dryRun") == "true"
    try:
        reading = _service().would_reload() if dry_run else _service().reload(request.args.get("confirm", ""))
    except MetaError as e:
        return _json({"msg": str(e)})
    more = {key: getattr(reading, key) for key in ("difference", "affected", "removals", "seal")}
    return _json({"msg": "success", "data": reading.data} | (more if dry_run else {}))


@routes.get("/tarball/<path:name>")
@routes.get("/<path:name>")
@rule(Rule.READ)
def tarball(name: str) -> Response:
    if _is_api():
        _refuse_unknown()
    return transfer.send(name)


def _refuse_unknown() -> None:
    """The API has no such path, or only for other methods; this route would have anything."""
    adapter = current_app.url_map.bind("")
    methods = {method for method in ("PUT", "POST", "PATCH", "DELETE") if adapter.test(request.path, method)}
    abort(405, valid_methods=sorted(methods)) if methods else abort(404)


# --- refusals ---


def _refused(error: HTTPException) -> Any:
    response = error.get_response()  # with the headers that belong to it, like Allow or Content-Range
    if error.response is not None:
        return response
    if _is_api():
        return http_problem(error)
    response = Response(f"{error.name.lower()}\n", error.code, response.headers, content_type=TEXT)
    response.content_length = len(response.get_data())
    return response


def _failed(error: Exception) -> Response:
    log.error("%s %s failed", request.method, one_line(request.path, 300), exc_info=error)
    return _refusal(500, "internal error")


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
