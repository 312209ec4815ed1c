"""The tarball directory: finds the file for a request, lists what is published, and publishes new tarballs.

Only regular files below the directory are found. Other kinds of files, names with a leading dot, and targets of symlinks
outside the directory are not.

A tarball is published completely or not at all: it gets its name when it is on the disk. Its bytes never change after that,
because hosts and caches keep them for good.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import md5, sha256
from pathlib import Path
from secrets import token_hex
from typing import IO, NamedTuple

from meta.errors import MetaError, TryLater
from updater import durable_files
from updater.wire.limits import TARBALL_FORM

CHUNK = 1 << 20  # bytes
PUBLISHED = re.compile(TARBALL_FORM)
_GZIP = b"\x1f\x8b\x08"
_UPLOAD, _GONE = ".upload-", ".gone-"  # prefixes of files that are not published yet, and of those being removed
_FORGOTTEN = 86400.0  # seconds after which such a file is deleted: the process that made it was killed
_MD5_LINE = re.compile(r"([0-9a-f]{32})\b")


class BadTarball(MetaError):
    """The uploaded bytes are no gzip file, or have a wrong length or digest."""


class Published(MetaError):
    """The name is already published with other bytes."""


class Tarball(NamedTuple):
    """One published file."""

    name: str
    size: int  # bytes
    md5: str  # in lower-case hex; "": not known
    sha256: str  # in lower-case hex; "": not known
    modified: float  # Unix seconds


def find(directory: Path, name: str) -> Path | None:
    """Return the file for a request; None if there is none that may be sent.

    name: the path below the directory, already percent-decoded once.
    """
    parts = name.split("/")
    if any(_is_hidden(part) for part in parts):
        return None
    root = os.path.realpath(directory)
    try:
        target = os.path.realpath(os.path.join(root, *parts))  # noqa: PTH118 (bytes that Path would fold must not fold)
        relative = os.path.relpath(target, root)
        if any(_is_hidden(part) for part in relative.split("/")) or not os.path.isfile(target):  # noqa: PTH113
            return None
    except (OSError, ValueError):  # the name is too long, has a NUL, or cannot be encoded
        return None
    return Path(target)


def _is_hidden(part: str) -> bool:
    """Whether this part of a path is empty, starts with a dot (also `..`), or has a backslash."""
    return not part or part.startswith(".") or "\\" in part


def media_type(name: str) -> str:
    """Return the Content-Type of a file.

    A tarball is never sent as gzip-encoded content, or a client would unpack it, and its digest would not match.
    """
    if name.endswith((".tar.gz", ".tgz")):
        return "application/gzip"
    return "text/plain" if name.endswith((".md5", ".sha256", ".txt")) else "application/octet-stream"


def known_md5(file: Path) -> str:
    """Return the digest in FILE.md5; "" if there is no such file, or it is older than the tarball."""
    md5_file = file.with_name(f"{file.name}.md5")
    try:
        if md5_file.stat().st_mtime < file.stat().st_mtime:
            return ""
        with md5_file.open(encoding="ascii", errors="replace") as text:
            match = _MD5_LINE.match(text.read(64))
    except OSError:
        return ""
    return match[1] if match else ""


def look(directory: Path, name: str) -> Tarball | None:
    """Return the tarball that is published under this name, or None."""
    path = find(directory, name) if PUBLISHED.fullmatch(name) else None
    return _known(path) if path else None


def remove(directory: Path, name: str, is_needed: Callable[[], bool]) -> bool:
    """Remove a published file and its digest file, unless it is needed. Returns whether they are removed. Raises TryLater.

    A file that does not exist counts as removed. is_needed is called after the files were renamed away. So a publication at
    this moment is either recorded already, and seen by is_needed, or it finds the name free and publishes the file again.
    """
    # The digest file goes first, so that a file published at this moment does not lose its own digest file.
    names = [(directory / one, directory / f"{_GONE}{token_hex(8)}") for one in (f"{name}.md5", name)]
    needed = True
    with _disk_errors(name, "removed"):
        moved = [pair for pair in names if _moved(*pair)]
        try:
            needed = is_needed()
        finally:
            for path, hidden in reversed(moved):
                if needed:
                    with suppress(FileExistsError):
                        os.link(hidden, path)
                hidden.unlink(missing_ok=True)
            durable_files.sync_directory(directory)
    return not needed


def _moved(path: Path, to: Path) -> bool:
    try:
        path.rename(to)
    except FileNotFoundError:
        return False
    return True


def split(file: str, known: Iterable[str]) -> tuple[str, str]:
    """Split NAME-VERSION.tar.gz into (name, version).

    The name is the longest name of a known agent that fits. Otherwise the version begins at the first digit after a `-`, or
    else after the last `-`.
    """
    stem = file.removesuffix(".tar.gz")
    fitting = [name for name in known if stem.startswith(f"{name}-")]
    if fitting:
        name = max(fitting, key=len)
    else:
        name = stem[: found.start()] if (found := re.search(r"-(?=[0-9])", stem)) else stem.rpartition("-")[0]
    return name, stem[len(name) + 1 :]


def listing(directory: Path) -> list[Tarball]:
    """Return the tarballs at the top of the directory, by name."""
    names = sorted(name for name in os.listdir(directory) if PUBLISHED.fullmatch(name))  # noqa: PTH208 (names alone)
    found = [_known(path) for name in names if (path := find(directory, name))]
    return [tarball for tarball in found if tarball]


def _known(path: Path) -> Tarball | None:
    try:
        stat = path.stat()
    except OSError:  # it was removed just now
        return None
    return Tarball(path.name, stat.st_size, known_md5(path), "", stat.st_mtime)


def publish(directory: Path, name: str, stream: IO[bytes], length: int, expected: str = "") -> tuple[Tarball, bool]:
    """Read the whole stream and publish it. Returns (the tarball, whether it is new); the same bytes may be published again.

    length: how many bytes the stream must have; expected: their sha256, "" for any. Raises BadTarball, Published, TryLater.
    """
    _clear_forgotten(directory)
    target, size, by_md5, by_sha256, is_new = directory / name, 0, "", "", True
    with _disk_errors(name):
        try:
            with durable_files.whole_file(target, 0o644, _hidden_name(), replace=False) as file:
                size, by_md5, by_sha256 = _receive(file, stream, length)
                if expected and expected.lower() != by_sha256:
                    raise BadTarball(f"the uploaded bytes have the sha256 {by_sha256}, not {expected.lower()}")
        except FileExistsError:
            if _digest(target) != by_sha256:
                raise Published(f"{name} is published with other bytes; give yours another version") from None
            is_new = False
        with durable_files.whole_file(directory / f"{name}.md5", 0o644, _hidden_name()) as file:
            file.write(f"{by_md5}  {name}\n".encode("ascii"))
        return Tarball(name, size, by_md5, by_sha256, target.stat().st_mtime), is_new


def _hidden_name() -> str:
    return f"{_UPLOAD}{token_hex(8)}"


@contextmanager
def _disk_errors(name: str, verb: str = "kept") -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise TryLater(f"{name} cannot be {verb}: {e.strerror or e}") from e


def _receive(file: IO[bytes], stream: IO[bytes], length: int) -> tuple[int, str, str]:
    """Copy the stream into the file. Returns (size, md5, sha256). Raises BadTarball."""
    by_md5, by_sha256, size = md5(usedforsecurity=False), sha256(), 0
    while chunk := stream.read(CHUNK):
        if not size and not chunk.startswith(_GZIP):
            raise BadTarball("the uploaded bytes are no gzip file")
        size += len(chunk)
        if size > length:
            break
        file.write(chunk)
        by_md5.update(chunk)
        by_sha256.update(chunk)
    if size != length or not size:
        received = f"more than {length}" if size > length else f"only {size} of {length}"
        raise BadTarball(f"{received} bytes were received; upload the file again")
    return size, by_md5.hexdigest(), by_sha256.hexdigest()


def _digest(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as bytes_:
        while chunk := bytes_.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _clear_forgotten(directory: Path) -> None:
    for path in (*directory.glob(f"{_UPLOAD}*"), *directory.glob(f"{_GONE}*")):
        with suppress(OSError):
            stat = path.stat()
            since = stat.st_mtime if path.name.startswith(_UPLOAD) else stat.st_ctime  # when it got this name
            if time.time() - since > _FORGOTTEN:
                path.unlink()
