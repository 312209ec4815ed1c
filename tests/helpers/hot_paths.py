"""The hot paths and the framework behind one WSGI callable, for tests that ask without a server."""

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from meta.access.clients import RateLimits
from meta.door.request import TOO_LARGE
from meta.heartbeat.paths import HotPaths
from meta.service import Service
from meta.web.app import create_app
from updater.wire.limits import MAX_BODY


def whole_app(service: Service, limits: RateLimits | None = None) -> Flask:
    """The application of a service, with the paths that the door answers before it."""
    app = create_app(service, limits)
    paths, framework = HotPaths(service).paths, app.wsgi_app

    def ask(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = paths.get(environ["PATH_INFO"])
        if path is None:
            return framework(environ, start)
        body = environ["wsgi.input"].read()
        answer = path(environ, body) if len(body) <= MAX_BODY else TOO_LARGE
        start(answer.line, list(answer.headers))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    app.wsgi_app = ask
    return app
