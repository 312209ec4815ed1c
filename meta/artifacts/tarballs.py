"""The tarball directory: which file a request's path means, what is published there, and how a new tarball gets in.

Refuses, by answering None, everything but regular files below that directory: other kinds, names with a leading dot, and
whatever a symlink leads out of it. A tarball is published whole or not at all, on disk before it has its name, and never again
with other bytes: hosts and caches keep it for good.
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

CHUNK = 1 << 20
PUBLISHED = re.compile(TARBALL_FORM)
_GZIP = b"\x1f\x8b\x08"
_UPLOAD, _GONE = ".upload-", ".gone-"  # names of what is not published yet, or no more
_FORGOTTEN = 86400.0  # seconds after which an upload that was killed is cleared away
_MD5_LINE = re.compile(r"([0-9a-f]{32})\b")


class BadTarball(MetaError):
    """These bytes are not what they should be."""


class Published(MetaError):
    """Other bytes have this name already."""


class Tarball(NamedTuple):
    """One published file. modified: Unix seconds; md5, sha256: lower hex, blank where they are not known."""

    name: str
    size: int
    md5: str
    sha256: str
    modified: float


def find(directory: Path, name: str) -> Path | None:
    """name: the path below the directory, already percent-decoded once."""
    parts = name.split("/")
    if any(_is_hidden(part) for part in parts):
        return None
    root = os.path.realpath(directory)
    try:
        target = os.path.realpath(os.path.join(root, *parts))  # noqa: PTH118 (bytes that Path would fold must not fold)
        relative = os.path.relpath(target, root)
        if any(_is_hidden(part) for part in relative.split("/")) or not os.path.isfile(target):  # noqa: PTH113
            return None
    except (OSError, ValueError):  # too long, a NUL, not encodable
        return None
    return Path(target)


def _is_hidden(part: str) -> bool:
    """Nothing, `.`, `..` (so also what lies outside the directory), a dotfile, or a separator of another system."""
    return not part or part.startswith(".") or "\\" in part


def media_type(name: str) -> str:
    """A tarball is told to be one, so that no client unpacks it on the way (its digest is that of the packed file)."""
    if name.endswith((".tar.gz", ".tgz")):
        return "application/gzip"
    return "text/plain" if name.endswith((".md5", ".sha256", ".txt")) else "application/octet-stream"


def known_md5(file: Path) -> str:
    """The digest in FILE.md5, or "" when there is none that was written after the file."""
    beside = file.with_name(f"{file.name}.md5")
    try:
        if beside.stat().st_mtime < file.stat().st_mtime:
            return ""
        with beside.open(encoding="ascii", errors="replace") as text:
            match = _MD5_LINE.match(text.read(64))
    except OSError:
        return ""
    return match[1] if match else ""


def look(directory: Path, name: str) -> Tarball | None:
    """What is published under this name, or None."""
    path = find(directory, name) if PUBLISHED.fullmatch(name) else None
    return _known(path) if path else None


def remove(directory: Path, name: str, is_needed: Callable[[], bool]) -> bool:
    """Remove a published file and its digest, unless it is needed; returns whether that is done. What is not there is no error.

    is_needed is asked once the names are free: who publishes the file now, in this process or in another meta's, either has
    said so before, or finds the name free and takes it. Raises TryLater.
    """
    # Its digest first: no file that is published meanwhile may lose the digest that came with it.
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
    """NAME-VERSION.tar.gz -> (name, version): of the known agents the one that fits best, else the version begins at the first
    digit after a `-`, else after the last `-`."""
    stem = file.removesuffix(".tar.gz")
    fitting = [name for name in known if stem.startswith(f"{name}-")]
    if fitting:
        name = max(fitting, key=len)
    else:
        name = stem[: found.start()] if (found := re.search(r"-(?=[0-9])", stem)) else stem.rpartition("-")[0]
    return name, stem[len(name) + 1 :]


def listing(directory: Path) -> list[Tarball]:
    """What is published at the top of the directory, by name."""
    names = sorted(name for name in os.listdir(directory) if PUBLISHED.fullmatch(name))  # noqa: PTH208 (names alone)
    found = [_known(path) for name in names if (path := find(directory, name))]
    return [tarball for tarball in found if tarball]


def _known(path: Path) -> Tarball | None:
    try:
        stat = path.stat()
    except OSError:  # gone meanwhile
        return None
    return Tarball(path.name, stat.st_size, known_md5(path), "", stat.st_mtime)


def publish(directory: Path, name: str, stream: IO[bytes], length: int, expected: str = "") -> tuple[Tarball, bool]:
    """Read all of the stream and publish it: (what is there now, whether it is new). The same bytes may come again.

    length: the bytes that must come; expected: the sha256 that they must have, or "". Raises BadTarball, Published, TryLater.
    """
    _clear_forgotten(directory)
    target, size, by_md5, by_sha256, is_new = directory / name, 0, "", "", True
    with _disk_errors(name):
        try:
            with durable_files.whole_file(target, 0o644, _hidden_name(), replace=False) as file:
                size, by_md5, by_sha256 = _receive(file, stream, length)
                if expected and expected.lower() != by_sha256:
                    raise BadTarball(f"the bytes that came have the sha256 {by_sha256}, not {expected.lower()}")
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
    """The stream into the file: (size, md5, sha256)."""
    by_md5, by_sha256, size = md5(usedforsecurity=False), sha256(), 0
    while chunk := stream.read(CHUNK):
        if not size and not chunk.startswith(_GZIP):
            raise BadTarball("these bytes are no gzip file")
        size += len(chunk)
        if size > length:
            break
        file.write(chunk)
        by_md5.update(chunk)
        by_sha256.update(chunk)
    if size != length or not size:
        raise BadTarball(f"{'more' if size > length else size} bytes came, not {length}")
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
