"""A tarball from its base URL to the disk, proven by its digest: nothing is handed on before the whole file's is right.

What is handed on is the open file that was hashed, never its path: another file may stand there a moment later.

Where the expected digest comes from (the peers' rules, and sha256 of ours): the record's sha256; else the record's md5 when
it is 32 hex digits; else the file `{base}/{name}-{version}.tar.gz.md5` (digest_files.py), where base is the record's md5
when that is a URL, and the tarball's own base when it is blank.
"""

import contextlib
import hashlib
import itertools
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from updater import backoff, digest_files, files, peer_values
from updater.errors import Refused, TryLater
from updater.http import Http, Response, Way, shown
from updater.wire import Desired, is_digest

MAX_TARBALL = 4 << 30  # bytes
MAX_VALIDATOR = 1024  # bytes
SHORTEST_TRY = 1.0  # seconds; with less left, no further try is begun
_VALIDATOR = re.compile(r'"[\x21\x23-\x7e]{0,1022}"|[A-Za-z]{3,9},? [A-Za-z0-9,:+ -]{1,40}')  # RFC 9110, 8.8 and 5.6.7


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
    """A tarball on the disk that has the expected digest. file: open, what was hashed; size: bytes; md5, sha256: lower-case
    hex."""

    file: BinaryIO
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
    url = _url(base, f"{order.file_name}.md5")
    with http.exchange("GET", url, within) as answer:
        _check_status(answer, "digest file")
        digest = digest_files.digest_in(answer.read(64 << 10, of_a_file=True), order.file_name, str(answer.way))
    return Expected("md5", digest, f"{shown(url)}, at {whose}")


def _url(base: str, file_name: str) -> str:
    """A file's URL. Its name is quoted: stores of the S3 kind take a `+` for a blank."""
    return f"{base.rstrip('/')}/{quote(file_name, safe='')}"


@contextlib.contextmanager
def fetch(http: Http, order: Desired, expected: Expected, to: Path, terms: Terms) -> Iterator[Fetched]:
    """Download the tarball to `to` and prove it; goes on where a cut download ended, also one of an earlier cycle.

    The block has the open file. The order's mirrors are asked in turn. Raises Refused for a wrong digest or a missing file,
    and then nothing is left at `to`; TryLater for the network and the disk, and then what came so far stays for the next
    cycle.
    """
    with contextlib.closing(_Part(to)) as part:
        yield _fetched(http, order, expected, part, terms)


def _fetched(http: Http, order: Desired, expected: Expected, part: "_Part", terms: Terms) -> Fetched:
    deadline = time.monotonic() + terms.within
    urls = [_url(base, order.file_name) for base in (order.tarball, *order.mirrors)]
    for attempt in itertools.count():
        url = urls[attempt % len(urls)]
        try:
            resumed = _download(http, url, part, deadline, terms)
            fetched = part.proven(expected, str(part.way or shown(url)))
        except Refused as e:
            last = attempt + 1 >= len(urls)
            if isinstance(e, _WrongDigest) and resumed:
                last = False  # two files may have been joined: the next try starts from the first byte
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
    """A download on the disk, and next to it what the server called this state of its file (ETag or Last-Modified)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._validator = path.with_name(f"{path.name}.validator")
        self._file: BinaryIO | None = files.open_again(path)
        self.size = self._file.tell() if self._file else 0
        self.way: Way | None = None  # who sent the last of it

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file, self.size = None, 0

    def resume_headers(self) -> dict[str, str]:
        """What asks for the rest only, if the file is still the same; nothing when there is no part to go on with."""
        validator = files.read_state(self._validator, MAX_VALIDATOR).decode("latin-1")
        if not self.size or not _VALIDATOR.fullmatch(validator):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, validator: str) -> None:
        """A new file, to be filled from its first byte on."""
        self.discard()
        files.make_directory(self._path.parent)
        if validator:
            files.write_atomic(self._validator, validator.encode())
        self._file = files.open_new(self._path)

    def check_room(self, more: int) -> None:
        """Raises TryLater when the disk has no room for so many bytes."""
        files.check_room(self._path.parent, more)

    def append(self, data: bytes) -> None:
        files.append(self._opened(), data)
        self.size += len(data)

    def proven(self, expected: Expected, source: str) -> Fetched:
        """The whole file, if it has the digest. source: where it came from, in words."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        file = self._opened()
        for piece in files.pieces(file):
            md5.update(piece)
            sha256.update(piece)
            size += len(piece)
        fetched = Fetched(file, size, md5.hexdigest(), sha256.hexdigest())
        if (found := getattr(fetched, expected.kind)) != expected.digest:
            raise _WrongDigest(
                f"{source} has {expected.kind} {found}, expected {expected.digest} ({expected.source}): {size} bytes came"
            )
        return fetched

    def forget_validator(self) -> None:
        files.remove_tree(self._validator)

    def discard(self) -> None:
        self.close()
        files.remove_tree(self._path)
        self.forget_validator()

    def _opened(self) -> BinaryIO:
        if self._file is None:  # a server may say that there is no rest of a file that never began
            raise TryLater(f"nothing of {self._path.name} has come yet")
        return self._file


def _download(http: Http, url: str, part: _Part, deadline: float, terms: Terms) -> bool:
    """Fetch a file, or the rest of it; returns whether it was the rest."""
    headers = part.resume_headers()
    left = max(deadline - time.monotonic(), 0.001)
    with http.exchange("GET", url, left, headers=headers) as answer:
        part.way = answer.way
        if answer.status == 416:  # there is no rest: the part is whole, or of another file
            return True
        resumed = answer.status == 206 and bool(headers)
        if resumed:
            _check_range(answer, part)
        else:
            _check_status(answer, "tarball")
            part.begin(_validator(answer))
        _store(answer, part, terms)
    return resumed


def _check_range(answer: Response, part: _Part) -> None:
    try:
        if peer_values.range_start(answer.headers.get("Content-Range", "")) == part.size:
            return
        problem = "answered with another part than asked for"
    except TryLater as e:
        problem = str(e)
    part.discard()
    raise TryLater(f"{answer.way}: {problem}")


def _validator(answer: Response) -> str:
    """What names this state of the file when the rest of it is asked for later: a strong ETag or a date, "" for neither. One
    that is long or odd is not kept: it would have to be read back and sent."""
    found = (answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))
    return next((text for text in found if _VALIDATOR.fullmatch(text)), "")


def _store(answer: Response, part: _Part, terms: Terms) -> None:
    part.check_room(answer.length or 0)
    since, came = time.monotonic(), 0
    for chunk in answer.chunks(of_a_file=True):
        terms.check()
        part.append(chunk)
        came += len(chunk)
        if part.size > MAX_TARBALL:
            raise Refused(f"the tarball is larger than {MAX_TARBALL} bytes")
        if (took := time.monotonic() - since) > terms.slow_after:
            if came < terms.min_speed * took:
                raise TryLater(f"only {came / took:.0f} bytes a second came, which is less than {terms.min_speed:.0f}")
            since, came = time.monotonic(), 0


def _pause(seconds: float, deadline: float, terms: Terms, error: TryLater) -> None:
    """Wait before the next try, or raise the error when there would be no time for one."""
    end = time.monotonic() + seconds
    if end + SHORTEST_TRY >= deadline:
        raise error
    while (left := end - time.monotonic()) > 0:
        terms.check()
        time.sleep(min(left, 0.2))


def _check_status(answer: Response, what: str) -> None:
    if answer.status == 200:
        return
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise TryLater(f"{answer.way} answered {answer.status}", answer.retry_after)
    raise Refused(f"no {what}: {answer.way} answered {answer.status}")
