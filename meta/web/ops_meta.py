"""ops-meta's routes, for its clients and its `control`. tests/wire/go-meta.json has its own answers, which these equal.

Heartbeats and /health are routes of ops-meta too, but meta.heartbeat.paths answers them.
"""

from pathlib import Path

from flask import Blueprint, Response, abort, current_app, request

from meta.access.roles import Rule
from meta.api.state import state
from meta.artifacts import transfer
from meta.artifacts.addresses import TARBALLS
from meta.errors import MetaError
from meta.queries import ops_meta_status
from meta.web.answers import is_api, json, text
from meta.web.authorisation import rule
from updater.wire.heartbeat import VERSION
from updater.wire.text import visible

routes = Blueprint("ops-meta", __name__)


@routes.get("/status/json/", defaults={"agent": ""})
@routes.get("/status/json/<agent>")
@rule(Rule.READ)
def status_as_json(agent: str) -> Response:
    service = state().service
    return json(ops_meta_status.as_fields(service.table, _named(agent), service.clock.now()))


@routes.get("/status/text/", defaults={"agent": ""})
@routes.get("/status/text/<agent>")
@rule(Rule.READ)
def status_as_text(agent: str) -> Response:
    service = state().service
    return text(ops_meta_status.as_text(service.table, _named(agent), service.clock.now()))


def _named(agent: str) -> str:
    if not agent:
        abort(text("agent name is blank\n", 400))
    return agent


@routes.get("/version")
@rule(Rule.PUBLIC)
def version() -> Response:
    return text(VERSION)


@routes.get("/workdir")
@rule(Rule.LOCAL)
def workdir() -> Response:
    return json({"msg": "success", "data": str(Path.cwd())})


@routes.get("/config/reload")  # ops-meta's `control` uses GET
@routes.post("/config/reload")
@rule(Rule.LOCAL)
def reload() -> Response:
    """Read the records file again and put it in force.

    ops-meta has no arguments here. `dryRun=true` only shows what would be done, with a seal; `confirm=SEAL` confirms that.
    """
    service = state().service
    dry_run = request.args.get("dryRun") == "true"
    try:
        reading = service.would_reload() if dry_run else service.reload(request.args.get("confirm", ""))
    except MetaError as e:
        return json({"msg": visible(str(e))})
    more = {key: getattr(reading, key) for key in ("difference", "affected", "removals", "seal")}
    return json({"msg": "success", "data": reading.data} | (more if dry_run else {}))


@routes.get(f"{TARBALLS}/<path:name>")
@rule(Rule.READ)
def tarball(name: str) -> Response:
    return _sent(name)


@routes.get("/<path:name>")
@rule(Rule.READ)
def tarball_at_root(name: str) -> Response:
    """Any path without a route of its own: tarballs, while hosts may be sent here for them."""
    if is_api():
        _refuse_unknown()
    if not state().service.root.has_tarballs(request.headers.get("Host", "")):
        abort(404)
    return _sent(name)


def _sent(name: str) -> Response:
    return transfer.send(name, state().service.settings.tarballs, state().places)


def _refuse_unknown() -> None:
    """Answer 404, or 405 if other methods have this path of the API. Without this, the route would match any path."""
    adapter = current_app.url_map.bind("")
    methods = {method for method in ("PUT", "POST", "PATCH", "DELETE") if adapter.test(request.path, method)}
    abort(405, valid_methods=sorted(methods)) if methods else abort(404)
