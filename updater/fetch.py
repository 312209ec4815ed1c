"""A tarball from its base URL to the disk, proven by its digest: nothing is handed on before the whole file's is right.

Where the expected digest comes from (the peers' rules, and sha256 of ours): the record's sha256; else the record's md5 when
it is 32 hex digits; else the file `{base}/{name}-{version}.tar.gz.md5`, as `md5sum` prints it, where base is the record's md5
when that is a URL, and the tarball's own base when it is blank.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from updater import files
from updater.errors import Refused, TryLater
from updater.http import Http, Response, shown
from updater.wire import Desired, is_digest, one_line

MAX_TARBALL = 4 << 30  # bytes
_DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{32})(?:[ \t]+[ *]?(.*))?")


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


def tarball_url(order: Desired) -> str:
    return f"{order.tarball.rstrip('/')}/{order.file_name}"


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


def fetch(
    http: Http, order: Desired, expected: Expected, to: Path, within: float, check: Callable[[], None]
) -> Fetched:
    """Download the tarball to `to` and prove it, in at most `within` seconds; `check` is called often and may raise.

    Raises Refused for a wrong digest or size or a missing file, TryLater for the network and the disk. On an error nothing is
    left at `to`.
    """
    url = tarball_url(order)
    try:
        with http.exchange("GET", url, within) as answer:
            _check_status(answer, url, "tarball")
            fetched = _store(answer, to, check)
        found = getattr(fetched, expected.kind)
        if found != expected.digest:
            raise Refused(
                f"{shown(url)} has {expected.kind} {found}, expected {expected.digest} ({expected.source}): "
                f"{fetched.size} bytes came"
            )
    except BaseException:
        files.remove_tree(to)
        raise
    return fetched


def _store(answer: Response, to: Path, check: Callable[[], None]) -> Fetched:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    files.make_directory(to.parent)
    files.remove_tree(to)
    announced = answer.headers.get("Content-Length", "")
    files.check_room(to.parent, int(announced) if announced.isdigit() else 0)
    with files.new_file(to) as write:
        for chunk in answer.chunks():
            check()
            size += len(chunk)
            if size > MAX_TARBALL:
                raise Refused(f"the tarball is larger than {MAX_TARBALL} bytes")
            md5.update(chunk)
            sha256.update(chunk)
            write(chunk)
    return Fetched(to, size, md5.hexdigest(), sha256.hexdigest())


def _check_status(answer: Response, url: str, what: str) -> None:
    if answer.status == 200:
        return
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise TryLater(f"{shown(url)} answered {answer.status}")
    raise Refused(f"no {what}: {shown(url)} answered {answer.status}")


def _digest_in(text: str, file_name: str, url: str) -> str:
    """The digest of `file_name` in what md5sum printed: the line that names it, or a lone line without a name."""
    lines = [found for line in text.splitlines() if (found := _DIGEST_LINE.fullmatch(line.strip()))]
    for digest, name in (line.groups() for line in lines):
        if (name or "").rpartition("/")[2] == file_name or (not name and len(lines) == 1):
            return str(digest).lower()
    shown_text = one_line(text, 80)
    raise Refused(f'{shown(url)} has no md5 of {file_name} in it (it says "{shown_text}")')
