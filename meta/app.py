"""The Flask application: ops-meta's routes, with its answers as recorded under tests/wire.

Promises a plain text or JSON answer to every request; a fault of our own is a 500 that tells the client nothing and the log
everything. No route changes anything but /heartbeat (the host that reports) and /config/reload (loopback only).
"""

import logging
import time
import weakref
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO

import msgspec
from flask import Blueprint, Flask, Response, abort, current_app, request, send_file
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wsgi import FileWrapper

from meta import tarballs
from meta.errors import RecordsError
from meta.heartbeat import JSON, TEXT, Render, render_coraldane_reply
from meta.hosts import Host, fresh, status_fields, status_text
from meta.service import Service
from updater.wire import MAX_BODY, VERSION, render_reply

CHUNK = 256 * 1024  # bytes of a file sent at once
MAX_DOWNLOADS = 48  # at once; each holds one of the server's threads (64) for as long as its client is slow
_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
log = logging.getLogger(__name__)
routes = Blueprint("meta", __name__)


def create_app(service: Service, clock: Callable[[], float] = time.time) -> Flask:
    """The WSGI application over one service. clock: Unix seconds."""
    app = Flask("meta", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1  # one more, or a body without a length would be cut, not refused
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # it would redirect; no peer follows one
    app.extensions["meta"] = (service, clock)
    app.extensions["meta downloads"] = BoundedSemaphore(MAX_DOWNLOADS)
    app.register_blueprint(routes)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    app.after_request(_harden)
    return app


def _service() -> Service:
    service: Service = current_app.extensions["meta"][0]
    return service


def _now() -> float:
    return float(current_app.extensions["meta"][1]())


def _text(text: str, status: int = 200) -> Response:
    return Response(text, status, content_type=TEXT)


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), content_type=JSON)


@routes.route("/heartbeat", methods=["GET", "POST"])
def heartbeat() -> Response:
    return _answer(render_reply)


@routes.route("/api/heartbeat", methods=["GET", "POST"])
def api_heartbeat() -> Response:
    return _answer(render_coraldane_reply)


def _answer(render: Render) -> Response:
    body = request.get_data(cache=False)
    if len(body) > MAX_BODY:
        abort(413)
    answer = _service().answer(body, request.remote_addr or "", _now(), render)
    return Response(answer.body, answer.status, content_type=answer.content_type)


@routes.get("/status/json/", defaults={"agent": ""})
@routes.get("/status/json/<agent>")
def status_as_json(agent: str) -> Response:
    return _json(status_fields(_hosts_to_show(agent), agent))


@routes.get("/status/text/", defaults={"agent": ""})
@routes.get("/status/text/<agent>")
def status_as_text(agent: str) -> Response:
    return _text(status_text(_hosts_to_show(agent), agent))


def _hosts_to_show(agent: str) -> list[Host]:
    if not agent:
        abort(_text("agent name is blank\n", 400))
    return fresh(_service().hosts.all(), _now())


@routes.get("/health")
def health() -> Response:
    return _text("ok")


@routes.get("/version")
def version() -> Response:
    return _text(VERSION)


@routes.get("/workdir")
def workdir() -> Response:
    return _json({"msg": "success", "data": str(Path.cwd())})


@routes.get("/config/reload")
def reload() -> Response:
    if not _is_local():
        return _text("no privilege", 403)
    try:
        loaded = _service().reload()
    except RecordsError as e:
        return _json({"msg": str(e)})
    return _json({"msg": "success", "data": loaded.as_data()})


def _is_local() -> bool:
    """Whether the request was made on this machine, and not only handed on by a proxy on it."""
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback and not any(header in request.headers for header in _FORWARDED)


@routes.get("/tarball/<path:name>")
@routes.get("/<path:name>")
def tarball(name: str) -> Response:
    directory = _service().tarballs
    found = tarballs.find(directory, name) if directory else None
    if found is None:
        abort(404)
    free = current_app.extensions["meta downloads"]
    request.environ["wsgi.file_wrapper"] = lambda file, _size: _Download(file, free)
    try:
        response = send_file(found, mimetype=tarballs.media_type(found.name), conditional=True)
    except OSError as e:
        log.warning("cannot send %s: %s", found, e.strerror)
        abort(404)
    if request.method == "HEAD" or response.status_code == 304:
        response.close()  # no server asks for a body here, so none would close it
    return response


class _Download(FileWrapper):
    """A file on its way, with one of the places for downloads. Both are given back when it is closed, or dropped: a server
    may forget it when its client goes away."""

    def __init__(self, file: BinaryIO, free: BoundedSemaphore):
        if not free.acquire(blocking=False):
            file.close()
            raise ServiceUnavailable(retry_after=5)
        super().__init__(file, CHUNK)
        self._end = weakref.finalize(self, self._give_back, file, free)

    @staticmethod
    def _give_back(file: BinaryIO, free: BoundedSemaphore) -> None:
        file.close()
        free.release()

    def close(self) -> None:
        self._end()


def _refused(error: HTTPException) -> Any:
    response = error.get_response()  # with the headers that belong to it, like Allow or Content-Range
    if error.response is None:
        response = Response(f"{error.name.lower()}\n", error.code, response.headers, content_type=TEXT)
        response.content_length = len(response.get_data())
    return response


def _failed(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _text("internal error\n", 500)


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
