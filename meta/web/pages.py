"""Our routes outside the REST API: for people with a browser, load balancers and Prometheus."""

from flask import Blueprint, Response, abort, request

from meta.access.roles import Rule
from meta.api.framework.operation import PREFIX
from meta.api.state import state
from meta.artifacts.addresses import TARBALLS
from meta.web import metrics
from meta.web.answers import text
from meta.web.authorisation import rule
from updater.wire.heartbeat import VERSION
from updater.wire.text import one_line

routes = Blueprint("pages", __name__)
_INDEX = f"""ops-updater's meta {VERSION}

{PREFIX}    the REST API, described in {PREFIX}/openapi.json
/health    whether meta answers
/ready     whether meta accepts edits, and warnings
/metrics   for Prometheus
{TARBALLS}/   published tarballs, by name
"""


@routes.get("/")
@rule(Rule.PUBLIC)
def index() -> Response:
    """Show the main paths; 404 while tarballs are served at `/`, as in ops-meta."""
    if state().service.root.has_tarballs(request.headers.get("Host", "")):
        abort(404)
    return text(_INDEX)


@routes.route("/", methods=["OPTIONS"])
@routes.route("/ready", methods=["OPTIONS"])
@routes.route("/version", methods=["OPTIONS"])
@routes.route("/metrics", methods=["OPTIONS"])
@rule(Rule.PUBLIC)
def options() -> Response:
    """Answer a load balancer that checks by OPTIONS whether meta is there. It tells nothing of what a GET would answer."""
    return Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS"})


@routes.get("/ready")
@rule(Rule.PUBLIC)
def ready() -> Response:
    """Say whether edits are accepted and written: "ready", with warnings on the following lines, or 503 with the reasons."""
    service = state().service
    troubles = [one_line(trouble, 300) for trouble in service.ready()]
    if troubles:
        return text("".join(f"{trouble}\n" for trouble in troubles), 503)
    return text("\n".join(["ready", *(f"warning: {one}" for one in service.warnings())]))


@routes.get("/metrics")
@rule(Rule.READ)
def prometheus() -> Response:
    service = state().service
    return Response(metrics.render(service, service.clock.now()), content_type=metrics.CONTENT_TYPE)
