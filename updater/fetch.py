"""A tarball from its base URL to the disk, proven by its digest: nothing is handed on before the whole file's is right.

Where the expected digest comes from (the peers' rules, and sha256 of ours): the record's sha256; else the record's md5 when
it is 32 hex digits; else the file `{base}/{name}-{version}.tar.gz.md5`, as `md5sum` prints it, where base is the record's md5
when that is a URL, and the tarball's own base when it is blank.
"""

import hashlib
import itertools
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from updater import backoff, files
from updater.errors import Refused, TryLater
from updater.http import Http, Response, shown
from updater.wire import Desired, is_digest, one_line

MAX_TARBALL = 4 << 30  # bytes
SHORTEST_TRY = 1.0  # seconds; with less left, no further try is begun
_DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{32})(?:[ \t]+[ *]?(.*))?")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Terms:
    """How a download is gone about. within: seconds for all of it, every try and pause included; min_speed: bytes a second,
    less than that over `slow_after` seconds is given up; check: called often, may raise to end it."""

    within: float
    min_speed: float = 1024
    check: Callable[[], None] = lambda: None
    slow_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Expected:
    """A digest in lower-case hex, its kind (`md5` or `sha256`), and where it comes from, in words."""

    kind: str
    digest: str
    source: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A tarball on the disk that has the expected digest. size: bytes; md5, sha256: lower-case hex."""

    path: Path
    size: int
    md5: str
    sha256: str


def expected_digest(http: Http, order: Desired, within: float) -> Expected:
    """The digest that the tarball must have. Raises Refused when there is none to be had, TryLater for the network."""
    if order.sha256:
        return Expected("sha256", order.sha256.lower(), "the record's sha256")
    if is_digest(order.md5):
        return Expected("md5", order.md5.lower(), "the record's md5")
    base, whose = (order.md5, "the record's md5 URL") if order.md5 else (order.tarball, "the tarball's URL")
    url = f"{base.rstrip('/')}/{order.file_name}.md5"
    with http.exchange("GET", url, within) as answer:
        _check_status(answer, url, "digest file")
        text = answer.read(64 << 10).decode("utf-8", "replace")
    return Expected("md5", _digest_in(text, order.file_name, url), f"{shown(url)}, at {whose}")


def fetch(http: Http, order: Desired, expected: Expected, to: Path, terms: Terms) -> Fetched:
    """Download the tarball to `to` and prove it; goes on where a cut download ended, also one of an earlier cycle.

    The order's mirrors are asked in turn. Raises Refused for a wrong digest or a missing file, and then nothing is left at
    `to`; TryLater for the network and the disk, and then what came so far is kept for the next cycle.
    """
    deadline = time.monotonic() + terms.within
    urls = [f"{base.rstrip('/')}/{order.file_name}" for base in (order.tarball, *order.mirrors)]
    part = _Part(to)
    for attempt in itertools.count():
        url = urls[attempt % len(urls)]
        try:
            resumed = _download(http, url, part, deadline, terms)
            fetched = part.proven(expected, url)
        except Refused as e:
            last = attempt + 1 >= len(urls)
            if isinstance(e, _WrongDigest) and resumed:
                last = False  # two files may have been joined: the next try begins anew
            part.discard()
            if last:
                raise
        except TryLater as e:
            _pause(backoff.until_retry(attempt // len(urls), e.after, random.random()), deadline, terms, e)  # noqa: S311
        else:
            part.forget_validator()
            return fetched
    raise AssertionError("count() does not end")


class _WrongDigest(Refused):
    pass


class _Part:
    """A download on the disk, and beside it what the server called this state of its file (ETag or Last-Modified)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._validator = path.with_name(f"{path.name}.validator")

    def resume_headers(self) -> dict[str, str]:
        """What asks for the rest only, if the file is still the same; nothing when there is no part to go on with."""
        validator = (files.read_small(self._validator, 1024) or b"").decode("latin-1")
        size = self.size()
        return {"Range": f"bytes={size}-", "If-Range": validator} if size and validator else {}

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def begin(self, validator: str) -> None:
        """A new file from its first byte on."""
        self.discard()
        files.make_directory(self.path.parent)
        if validator:
            files.write_atomic(self._validator, validator.encode("latin-1"))

    def proven(self, expected: Expected, url: str) -> Fetched:
        """The whole file, if it has the digest."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        for piece in files.pieces(self.path):
            md5.update(piece)
            sha256.update(piece)
            size += len(piece)
        fetched = Fetched(self.path, size, md5.hexdigest(), sha256.hexdigest())
        if (found := getattr(fetched, expected.kind)) != expected.digest:
            raise _WrongDigest(
                f"{shown(url)} has {expected.kind} {found}, expected {expected.digest} ({expected.source}): {size} bytes came"
            )
        return fetched

    def forget_validator(self) -> None:
        files.remove_tree(self._validator)

    def discard(self) -> None:
        files.remove_tree(self.path)
        self.forget_validator()


def _download(http: Http, url: str, part: _Part, deadline: float, terms: Terms) -> bool:
    """Fetch a file, or the rest of it; returns whether it was the rest."""
    headers = part.resume_headers()
    left = max(deadline - time.monotonic(), 0.001)
    with http.exchange("GET", url, left, headers=headers) as answer:
        if answer.status == 416:  # there is no rest: the part is whole, or of another file
            return True
        resumed = answer.status == 206 and bool(headers)
        if resumed:
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != part.size():
                part.discard()
                raise TryLater(f"{shown(url)} answered with another part than asked for")
        else:
            _check_status(answer, url, "tarball")
            etag = answer.headers.get("ETag", "")
            part.begin(etag if etag.startswith('"') else answer.headers.get("Last-Modified", ""))
        _store(answer, part, terms)
    return resumed


def _store(answer: Response, part: _Part, terms: Terms) -> None:
    announced = answer.headers.get("Content-Length", "")
    files.check_room(part.path.parent, int(announced) if announced.isdigit() else 0)
    size = part.size()
    since, came = time.monotonic(), 0
    with files.appending(part.path) as write:
        for chunk in answer.chunks():
            terms.check()
            write(chunk)
            size += len(chunk)
            came += len(chunk)
            if size > MAX_TARBALL:
                raise Refused(f"the tarball is larger than {MAX_TARBALL} bytes")
            if (took := time.monotonic() - since) > terms.slow_after:
                if came < terms.min_speed * took:
                    raise TryLater(
                        f"only {came / took:.0f} bytes a second came, which is less than {terms.min_speed:.0f}"
                    )
                since, came = time.monotonic(), 0


def _pause(seconds: float, deadline: float, terms: Terms, error: TryLater) -> None:
    """Wait before the next try, or raise the error when there would be no time for one."""
    end = time.monotonic() + seconds
    if end + SHORTEST_TRY >= deadline:
        raise error
    while (left := end - time.monotonic()) > 0:
        terms.check()
        time.sleep(min(left, 0.2))


def _check_status(answer: Response, url: str, what: str) -> None:
    if answer.status == 200:
        return
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise TryLater(f"{shown(url)} answered {answer.status}", answer.retry_after)
    raise Refused(f"no {what}: {shown(url)} answered {answer.status}")


def _digest_in(text: str, file_name: str, url: str) -> str:
    """The digest of `file_name` in what md5sum printed: the line that names it, or a lone line without a name."""
    lines = [found for line in text.splitlines() if (found := _DIGEST_LINE.fullmatch(line.strip()))]
    for digest, name in (line.groups() for line in lines):
        if (name or "").rpartition("/")[2] == file_name or (not name and len(lines) == 1):
            return str(digest).lower()
    shown_text = one_line(text, 80)
    raise Refused(f'{shown(url)} has no md5 of {file_name} in it (it says "{shown_text}")')
