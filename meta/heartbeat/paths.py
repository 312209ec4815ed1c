"""The hot paths, which are answered without the framework: heartbeats in both dialects, hosts that park, and
/health.

They work on what WSGI calls an environ, of which the method and the headers are enough, and on a whole body. They use no
server, so they are tested without one.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from meta.access.clients import client_address, host_refusal, is_local, page_refusal
from meta.heartbeat import notify
from meta.heartbeat.answer import answer
from meta.heartbeat.dialects import Dialect, reply
from meta.heartbeat.notify import Park
from meta.heartbeat.responses import TEXT, Answer, refusal
from updater.wire.heartbeat import WireError

if TYPE_CHECKING:
    from meta.service import Service

Environ = dict[str, Any]
Path = Callable[[Environ, bytes], Answer | Park]
_NOT_ALLOWED = refusal(405, "method not allowed")
_ONLY_GET = refusal(405, "method not allowed", (("Allow", "GET"),))
_OF_HEALTH = (("Allow", "GET, HEAD, OPTIONS"),)
_HEALTHY = Answer(200, TEXT, b"ok")
_HEALTH_OPTIONS = Answer(204, TEXT, b"", _OF_HEALTH)
_HEALTH_NOT_ALLOWED = refusal(405, "method not allowed", _OF_HEALTH)


class HotPaths:
    """The functions that answer, in `paths`, by path."""

    def __init__(self, service: "Service"):
        self._now = service.clock.now
        self.beats = service.beats
        self._table = service.table
        self._may_report = service.host_tokens.may_report
        self._anonymous = service.settings.anonymous_hosts
        self._proxies = service.settings.trusted_proxies
        self._notify_wait = service.settings.notify_wait
        self.paths: dict[str, Path] = {
            "/heartbeat": partial(self._heartbeat, Dialect.FALCON),
            "/api/heartbeat": partial(self._heartbeat, Dialect.CORALDANE),
            "/health": _health,
        }
        if self._notify_wait:
            self.paths["/notify"] = self._notify

    def _heartbeat(self, dialect: Dialect, environ: Environ, body: bytes) -> Answer:
        address = client_address(environ, self._proxies) if self._proxies else environ.get("REMOTE_ADDR") or ""
        authorization, anonymous = self._shown(environ)
        is_of_a_page = "HTTP_ORIGIN" in environ or "HTTP_SEC_FETCH_SITE" in environ  # all others need no further look
        is_special = is_of_a_page or environ["REQUEST_METHOD"] != "POST" or (anonymous and self._anonymous is None)
        if is_special and (refused := self._refused(environ, anonymous)):
            self.beats.refused(refused.status)
            return refused
        began = time.perf_counter()
        now, longest = self._now(), self._notify_wait
        told = answer(self._table, self._may_report, body, address, authorization, anonymous, now, dialect, longest)
        self.beats.note(told.status, time.perf_counter() - began)
        return told

    def _notify(self, environ: Environ, _body: bytes) -> Answer | Park:
        authorization, anonymous = self._shown(environ)
        if refused := self._refused(environ, anonymous):
            return refused
        if environ["REQUEST_METHOD"] != "GET":
            return _ONLY_GET
        try:
            park = notify.parse(environ, self._notify_wait)
        except WireError as e:
            return refusal(400, str(e))
        if problem := self._may_report(park.hostname, authorization, anonymous):
            return refusal(403 if authorization else 401, problem)
        return park

    def has_news(self, park: Park) -> bool:
        """Whether this host would get another reply than it knows."""
        return reply(self._table.classes.of(park.hostname), Dialect.FALCON, self._notify_wait).known != park.known

    def _shown(self, environ: Environ) -> tuple[str, bool]:
        """The Authorization header, and whether a host that sends this needs none."""
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if self._anonymous is None:
            return authorization, not authorization and is_local(environ)
        return authorization, self._anonymous

    def _refused(self, environ: Environ, anonymous: bool) -> Answer | None:
        """A refusal of a request that a web page sends from a browser, or that is no heartbeat; or None."""
        why = page_refusal(environ)
        if not why and anonymous and self._anonymous is None:
            why = host_refusal(environ)
        if why:
            return refusal(403, why)
        return None if environ["REQUEST_METHOD"] in ("POST", "GET") else _NOT_ALLOWED


def _health(environ: Environ, _body: bytes) -> Answer:
    method = environ["REQUEST_METHOD"]
    if method in ("GET", "HEAD"):
        return _HEALTHY
    return _HEALTH_OPTIONS if method == "OPTIONS" else _HEALTH_NOT_ALLOWED
