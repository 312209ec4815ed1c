"""The Flask application: ops-meta's routes, our pages, and the REST API.

Every route has a rule that says who may use it. The rule is checked before the route's function runs, and create_app raises
TypeError for a route without one.

Every request gets an answer in plain text, JSON or a problem document. An internal error is a 500, with its details in the log
alone. Heartbeats do not come here, nor does /health: meta.heartbeat.paths answers them before Flask.
"""

import logging
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from meta.access.clients import RateLimits, default_rate_limits
from meta.access.roles import Rule
from meta.api.routes import blueprint, http_problem
from meta.api.state import MetaState, keep
from meta.artifacts.transfer import Places
from meta.heartbeat.responses import TEXT
from meta.service import Service
from meta.web import ops_meta, pages
from meta.web.answers import is_api, refusal
from meta.web.authorisation import keep_rule
from updater.wire.limits import MAX_BODY
from updater.wire.text import one_line

log = logging.getLogger(__name__)


def create_app(service: Service, limits: RateLimits | None = None) -> Flask:
    """Return the WSGI application for a service."""
    app = Flask("meta", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # at MAX_BODY, a body without a length would be cut, not refused
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # it would redirect, and ops-meta's clients do not follow redirects
    keep(app, MetaState(service, limits or default_rate_limits(), Places()))
    for routes in (blueprint(), pages.routes, ops_meta.routes):
        app.register_blueprint(routes)
    for endpoint, view in app.view_functions.items():
        if not isinstance(getattr(view, "rule", None), Rule):
            raise TypeError(f"the route {endpoint} has no rule")
    app.before_request(keep_rule)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    app.after_request(_harden)
    return app


def _refused(error: HTTPException) -> Any:
    response = error.get_response()  # has headers like Allow or Content-Range
    if error.response is not None:
        return response
    if is_api():
        return http_problem(error)
    response = Response(f"{error.name.lower()}\n", error.code, response.headers, content_type=TEXT)
    response.content_length = len(response.get_data())
    return response


def _failed(error: Exception) -> Response:
    log.error("%s %s failed", request.method, one_line(request.path, 300), exc_info=error)
    return refusal(500, "internal error")


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
