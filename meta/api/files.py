"""Sends files of the tarball directory: in parts, resumable, and no more at once than the server has threads to spare. The
places for these, for uploads and for large bodies are counted here."""

import logging
import re
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO

from flask import Response, abort, current_app, request, send_file
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wsgi import FileWrapper

from meta import tarballs
from meta.errors import TryLater

CHUNK = 256 * 1024  # bytes of a file sent at once
MAX_DOWNLOADS = 48  # at once; each holds one of the server's threads (meta.serve) while its client is slow
IMMUTABLE = "public, max-age=31536000, immutable"
MAX_UPLOADS = 4
MAX_LARGE = 2  # bodies of more than 1 MiB at once: each takes some hundred megabytes while it is judged
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)
log = logging.getLogger(__name__)


def limit_transfers(app: Any) -> None:
    """Give this application its places for downloads, uploads and large bodies."""
    app.extensions["meta downloads"] = BoundedSemaphore(MAX_DOWNLOADS)
    app.extensions["meta uploads"] = BoundedSemaphore(MAX_UPLOADS)
    app.extensions["meta large bodies"] = BoundedSemaphore(MAX_LARGE)


def place_for_upload() -> AbstractContextManager[None]:
    """Raises TryLater when all are taken."""
    return _place("meta uploads", f"{MAX_UPLOADS} uploads are under way; wait for one of them")


def place_for_large_body() -> AbstractContextManager[None]:
    """Raises TryLater when all are taken."""
    return _place("meta large bodies", f"{MAX_LARGE} bodies as large are under way; wait for one of them")


@contextmanager
def _place(name: str, problem: str) -> Iterator[None]:
    free = current_app.extensions[name]
    if not free.acquire(blocking=False):
        raise TryLater(problem)
    try:
        yield
    finally:
        free.release()


def send(name: str) -> Response:
    """The published file that this path below the tarball directory means, or 404."""
    directory = current_app.extensions["meta"][0].settings.tarballs
    found = tarballs.find(directory, name) if directory else None
    if found is None:
        abort(404)
    free = current_app.extensions["meta downloads"]
    request.environ["wsgi.file_wrapper"] = lambda file, _size: _Download(file, free)
    digest = tarballs.known_md5(found)
    try:
        size = found.stat().st_size
        etag = f"{digest}-{size:x}" if digest else True
        _ignore_what_asks_for_nothing(request.environ, size)
        response = send_file(found, mimetype=tarballs.media_type(found.name), conditional=True, etag=etag)
    except OSError as e:
        log.warning("cannot send %s: %s", found, e.strerror)
        abort(404)
    if response.status_code == 412:  # with the file as its body
        response.close()
        abort(412)
    if digest and _is_for_good(name, found):
        response.headers["Cache-Control"] = IMMUTABLE
    if request.method == "HEAD" or response.status_code == 304:
        response.close()  # no server asks for a body here, so none would close it
    return response


def _ignore_what_asks_for_nothing(environ: dict[str, Any], size: int) -> None:
    """A Range that is not one that can be sent is no Range (RFC 9110, 14.2), and `If-Match: *` is true of what is there."""
    if asked := one_range(environ.pop("HTTP_RANGE", ""), size):
        environ["HTTP_RANGE"] = asked
    if environ.get("HTTP_IF_MATCH", "").strip() == "*":
        del environ["HTTP_IF_MATCH"]


def one_range(header: str, size: int) -> str:
    """The one part of so many bytes that this asks for, from its first byte on; "" where there is no such part."""
    match = _RANGE.fullmatch(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        is_there = int(first) < size and (not last or int(first) <= int(last))
        return f"bytes={first}-{last}" if is_there else ""
    return f"bytes={max(size - int(last), 0)}-" if last and int(last) and size else ""


def _is_for_good(name: str, found: Path) -> bool:
    """Whether this name means these bytes for ever: that of a published version, not of a symlink to one."""
    return name.rsplit("/", 1)[-1] == found.name and bool(re.fullmatch(tarballs.PUBLISHED, found.name))


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
