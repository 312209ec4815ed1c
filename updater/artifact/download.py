"""Downloads a tarball to the disk and checks its digest; callers get the file only if the digest is right.

The expected digest is the record's sha256, else the record's md5 if it is 32 hex digits. Otherwise it is read from the file
`{base}/{name}-{version}.tar.gz.md5` (digest_files.py). There, base is the record's md5 if that is a URL, and the base of the
tarball if it is blank. These are ops-updater's rules, with sha256 added.
"""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from updater.artifact import digest_files
from updater.artifact.partial_download import Expected as Expected
from updater.artifact.partial_download import Fetched as Fetched
from updater.artifact.partial_download import Part, WrongBytes
from updater.errors import Refused, TryLater, UpdaterError
from updater.net import backoff, peer_values
from updater.net.http import Http, Response
from updater.wire.heartbeat import Desired
from updater.wire.names import is_digest
from updater.wire.urls import shown

MAX_TARBALL = 4 << 30  # bytes
MOST_REASONS = 8  # of failed tries, that are told of one download
SHORTEST_TRY = 1.0  # seconds; with less time left, no further try is started

_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits of a download."""

    within: float  # seconds for the whole download, with all tries and pauses
    min_speed: float = 1024  # bytes per second; a try that is slower for `slow_after` seconds ends
    check: Callable[[], None] = lambda: None  # called often; may raise to end the download
    slow_after: float = 30.0  # seconds
    put_off: Callable[[UpdaterError], None] = lambda _why: None  # called once for each reason why it is tried again


def ordered_digest(order: Desired) -> Expected | None:
    """The digest that the order itself names; None if a digest file is to be asked for it."""
    if order.sha256:
        return Expected("sha256", order.sha256.lower(), "the record's sha256")
    return Expected("md5", order.md5.lower(), "the record's md5") if is_digest(order.md5) else None


def expected_digest(http: Http, order: Desired, within: float) -> Expected:
    """The digest that the tarball must have. Raises Refused if there is none, TryLater for network errors."""
    if given := ordered_digest(order):
        return given
    base, whose = (order.md5, "the record's md5 URL") if order.md5 else (order.tarball, "the tarball's URL")
    url = _url(base, f"{order.file_name}.md5")
    with http.exchange("GET", url, within) as answer:
        _check_status(answer, "digest file")
        kind, digest = digest_files.digest_in(answer.read(64 << 10, of_a_file=True), order.file_name, _whence(answer))
    return Expected(kind, digest, f"{shown(url)}, at {whose}")


def _url(base: str, file_name: str) -> str:
    """The URL of a file. The file name is quoted, since S3-like stores read a `+` as a blank."""
    return f"{base.rstrip('/')}/{quote(file_name, safe='')}"


@contextlib.contextmanager
def fetch(http: Http, order: Desired, expected: Expected, to: Path, terms: Terms) -> Iterator[Fetched]:
    """Download the tarball to `to`, check its digest, and yield the open file. Resumes an interrupted download.

    The tarball's base and its mirrors are asked in turn. Raises Refused if each of them has a wrong digest or no such file;
    then nothing is left at `to`. Raises TryLater for errors of the network, the disk or a busy server; then the part that was
    received stays for the next cycle.
    """
    with contextlib.closing(Part(to)) as part:
        yield _fetched(http, order, expected, part, terms)


class _Source:
    """A URL that may have the tarball, and the results of asking it during this download."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.due = 0.0  # when it may be asked next, on the monotonic clock
        self.is_settled = False  # it has refused, and is not asked again
        self._tries = 0
        self._doubted = ""  # the wrong digest received last

    def put_off(self, asked: float) -> None:
        """Delay the next request. asked: the least number of seconds that the server wants."""
        self.due = time.monotonic() + backoff.until_retry(self._tries, asked, random.random())  # noqa: S311
        self._tries += 1

    def is_in_doubt(self, found: str) -> bool:
        """Whether bytes with the wrong digest `found` may be a truncated file: true until the same digest came twice."""
        before, self._doubted = self._doubted, found
        return found != before


class _Reasons:
    """Tells why tries of this download fail: each reason once, also with other numbers in it."""

    def __init__(self, tell: Callable[[UpdaterError], None]) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def note(self, error: UpdaterError) -> None:
        kind = _DIGITS.sub("", str(error))
        if kind not in self._told and len(self._told) < MOST_REASONS:
            self._told.add(kind)
            self._tell(error)


def _fetched(http: Http, order: Desired, expected: Expected, part: Part, terms: Terms) -> Fetched:
    """Ask each source in turn until one delivers or all have refused. A busy source may still deliver later, and can
    complete the part that it began to send."""
    deadline = time.monotonic() + terms.within
    sources = [_Source(_url(base, order.file_name)) for base in (order.tarball, *order.mirrors)]
    reasons = _Reasons(terms.put_off)
    later: TryLater | None = None
    while True:
        source = min((one for one in sources if not one.is_settled), key=lambda one: one.due)
        _wait(source.due, deadline, terms, later)
        try:
            fetched = _asked(http, source, expected, part, deadline, terms)
        except TryLater as e:
            later = e
            source.put_off(e.after)
            reasons.note(e)
        except Refused as e:
            source.is_settled = True
            if all(one.is_settled for one in sources):
                part.discard()
                raise
            reasons.note(e)
        else:
            part.forget_validator()
            return fetched


def _asked(http: Http, source: _Source, expected: Expected, part: Part, deadline: float, terms: Terms) -> Fetched:
    """Download from one source and check the digest. Raises TryLater, Refused."""
    came = _download(http, source.url, part, deadline, terms)
    try:
        return part.proven(expected, came.whence)
    except WrongBytes as e:
        part.discard()
        if not came.is_rest:
            if came.has_end or not source.is_in_doubt(e.found):
                raise
            raise TryLater(f"{e}, and maybe not all: nothing said how many there are") from e
    # The parts may be of two different files: download once more from the first byte.
    return _asked(http, source, expected, part, deadline, terms)


@dataclass(frozen=True, slots=True)
class _Came:
    """What a response brought."""

    whence: str  # its origin, for messages
    is_rest: bool  # only the missing rest was sent
    has_end: bool  # a truncated body would have been noticed


def _download(http: Http, url: str, part: Part, deadline: float, terms: Terms) -> _Came:
    """Fetch a file, or the rest of it."""
    headers = part.resume_headers()
    left = max(deadline - time.monotonic(), 0.001)
    with http.exchange("GET", url, left, headers=headers, limit=terms.within) as answer:
        if answer.status == 416 and headers:  # there is no rest: the part is complete, or of another file
            return _Came(_whence(answer), is_rest=True, has_end=True)
        is_rest = answer.status == 206 and bool(headers)
        if is_rest:
            _check_range(answer, part)
        else:
            _check_status(answer, "tarball")
            part.begin(answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))
        _store(answer, part, terms)
        return _Came(_whence(answer), is_rest, answer.has_end)


def _whence(answer: Response) -> str:
    """Who sent these bytes, for messages, with the Content-Encoding if there is one: the bytes may not be the file's."""
    return f"{answer.way} (which calls it {answer.encoding}-encoded)" if answer.encoding else str(answer.way)


def _check_range(answer: Response, part: Part) -> None:
    try:
        if peer_values.range_start(answer.headers.get("Content-Range", "")) == part.size:
            return
        problem = "answered with another part than asked for"
    except TryLater as e:
        problem = str(e)
    part.discard()
    raise TryLater(f"{answer.way}: {problem}")


def _store(answer: Response, part: Part, terms: Terms) -> None:
    part.check_room(answer.length or 0)
    since, came = time.monotonic(), 0
    for chunk in answer.chunks(of_a_file=True):
        terms.check()
        part.append(chunk)
        came += len(chunk)
        if part.size > MAX_TARBALL:
            part.discard()
            raise Refused(f"{answer.way}: the tarball is larger than {MAX_TARBALL} bytes")
        if (took := time.monotonic() - since) > terms.slow_after:
            if came < terms.min_speed * took:
                slow = f"only {came / took:.0f} bytes a second came, which is less than {terms.min_speed:.0f}"
                raise TryLater(f"{answer.way}: {slow}")
            since, came = time.monotonic(), 0


def _wait(due: float, deadline: float, terms: Terms, error: TryLater | None) -> None:
    """Wait until a source may be asked, or raise the last error if there would be no time left for a try."""
    terms.check()
    if error and due > time.monotonic() and due + SHORTEST_TRY >= deadline:
        raise error
    while (left := due - time.monotonic()) > 0:
        terms.check()
        time.sleep(min(left, 0.2))


def _check_status(answer: Response, what: str) -> None:
    if answer.status == 200:
        return
    if answer.status in (408, 416, 425, 429) or answer.status >= 500:  # 416 here answers a request without a range
        raise TryLater(f"{answer.way} answered {answer.status}", answer.retry_after)
    raise Refused(f"no {what}: {answer.way} answered {answer.status}")
