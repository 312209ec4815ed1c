"""Sends files of the tarball directory, whole or in parts.

Each upload and each large body occupies a thread of the server, each download an open file. So their numbers are limited here,
and so is that of files that are being opened: on a file system that hangs, each of these holds a thread.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO

from flask import Response, abort, request, send_file
from werkzeug.exceptions import ServiceUnavailable

from meta.artifacts import tarballs
from meta.artifacts.file_part import FilePart
from meta.errors import TryLater

MAX_DOWNLOADS = 2048  # at once
MAX_OPENING = 8  # files that are looked for and opened at once
IMMUTABLE = "public, max-age=31536000, immutable"
OPENS_WITHIN = 1.0  # seconds that one more of them waits
MAX_UPLOADS = 4  # at once
MAX_LARGE = 2  # bodies of more than 1 MiB at once; each takes some hundred megabytes while it is processed
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)
_JUDGED = ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_RANGE")
log = logging.getLogger(__name__)


class Places:
    """The places of one application for downloads, uploads and large bodies at the same time."""

    def __init__(self) -> None:
        self.downloads = BoundedSemaphore(MAX_DOWNLOADS)
        self._opening = BoundedSemaphore(MAX_OPENING)
        self._uploads = BoundedSemaphore(MAX_UPLOADS)
        self._large_bodies = BoundedSemaphore(MAX_LARGE)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Take a place for a file that is being opened; wait for it a moment. Raises ServiceUnavailable."""
        if not self._opening.acquire(timeout=OPENS_WITHIN):
            raise ServiceUnavailable(retry_after=5)
        try:
            yield
        finally:
            self._opening.release()

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Take a place for an upload. Raises TryLater if all are taken."""
        with _taken(self._uploads, f"{MAX_UPLOADS} uploads are under way; wait for one of them"):
            yield

    @contextmanager
    def large_body(self) -> Iterator[None]:
        """Take a place for a large body. Raises TryLater if all are taken."""
        with _taken(self._large_bodies, f"{MAX_LARGE} bodies as large are under way; wait for one of them"):
            yield


@contextmanager
def _taken(free: BoundedSemaphore, problem: str) -> Iterator[None]:
    if not free.acquire(blocking=False):
        raise TryLater(problem)
    try:
        yield
    finally:
        free.release()


def send(name: str, directory: Path | None, places: Places) -> Response:
    """Send the file with this path below the tarball directory; 404 if there is none."""
    with places.opening():
        return _opened(name, directory, places)


def _opened(name: str, directory: Path | None, places: Places) -> Response:
    found = tarballs.find(directory, name) if directory else None
    if found is None:
        abort(404)
    digest = tarballs.known_md5(found)
    try:
        size = found.stat().st_size
        etag = f"{digest}-{size:x}" if digest else True
        request.environ["wsgi.file_wrapper"] = lambda file, _size: _part(file, size, places.downloads)
        response = send_file(found, mimetype=tarballs.media_type(found.name), conditional=False, etag=etag)
    except OSError as e:
        log.warning("cannot send %s: %s", found, e.strerror)
        abort(404)
    _heed_conditions(response, size)
    if digest and _is_for_good(name, found):
        response.headers["Cache-Control"] = IMMUTABLE
    if request.method == "HEAD" or response.status_code == 304:
        response.close()  # no body is sent, so the server would not close it
    return response


def _heed_conditions(response: Response, size: int) -> None:
    """Apply the conditions of the request, and then its range, to a response whose body is a FilePart.

    Conditions come first: if they rule the file out, no part of it is sent (RFC 9110, 13.2.2). An invalid Range is ignored
    (14.2).
    """
    part: Any = response.response
    status = _ruled_out(response.get_etag()[0] or "", response.last_modified)
    if status == 412:
        response.close()
        abort(status)
    asked = "" if status else one_range(request.headers.get("Range", ""), size)
    environ = {key: value for key, value in request.environ.items() if key not in _JUDGED}
    response.make_conditional(
        environ | ({"HTTP_RANGE": asked} if asked else {}), accept_ranges=True, complete_length=size
    )
    response.status_code = status or response.status_code
    if response.status_code == 206:
        part.narrow(response.content_range.start or 0, response.content_length or 0)
        response.response = part  # it was wrapped, and would not be known as a part of a file


def _ruled_out(etag: str, modified: datetime | None) -> int:
    """Return 412 or 304 if a condition of this request rules out a file with this ETag; else 0."""
    if request.if_match:
        if not request.if_match.contains(etag):
            return 412
    elif _is_later(modified, request.if_unmodified_since):
        return 412
    if request.if_none_match:
        return 304 if request.if_none_match.contains_weak(etag) else 0
    since = request.if_modified_since
    return 304 if since and modified and not _is_later(modified, since) else 0


def _is_later(modified: datetime | None, than: datetime | None) -> bool:
    return bool(modified and than and modified > than)


def one_range(header: str, size: int) -> str:
    """Return the Range header as `bytes=FIRST-LAST`; "" if it is not one part of a file of `size` bytes."""
    match = _RANGE.fullmatch(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        is_there = int(first) < size and (not last or int(first) <= int(last))
        return f"bytes={first}-{last}" if is_there else ""
    return f"bytes={max(size - int(last), 0)}-" if last and int(last) and size else ""


def _is_for_good(name: str, found: Path) -> bool:
    """Whether this URL always means these bytes: it names a published version, not a symlink to one."""
    return name.rsplit("/", 1)[-1] == found.name and bool(re.fullmatch(tarballs.PUBLISHED, found.name))


def _part(file: BinaryIO, size: int, free: BoundedSemaphore) -> FilePart:
    """The whole of a file, with its place among the downloads."""
    if not free.acquire(blocking=False):
        file.close()
        raise ServiceUnavailable(retry_after=5)
    return FilePart(file, size, free.release)
