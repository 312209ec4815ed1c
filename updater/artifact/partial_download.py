"""A download on the disk, complete or partial, and the check of its digest.

Callers get the open file that was hashed, never its path: another file may be at that path a moment later.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from updater import durable_files
from updater.errors import Refused, TryLater

MAX_VALIDATOR = 1024  # bytes
PIECE = 256 << 10  # bytes, read at once
_VALIDATOR = re.compile(r'"[\x21\x23-\x7e]{0,1022}"|[A-Za-z]{3,9},? [A-Za-z0-9,:+ -]{1,40}')  # RFC 9110, 8.8 and 5.6.7


@dataclass(frozen=True, slots=True)
class Expected:
    """The digest that a tarball must have."""

    kind: str  # `md5` or `sha256`
    digest: str  # lower-case hex
    source: str  # where the digest comes from, for messages

    @property
    def named(self) -> str:
        """`KIND:HEX`."""
        return f"{self.kind}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A tarball on the disk that has the expected digest."""

    file: BinaryIO  # open: the very file that was hashed
    size: int  # bytes
    md5: str  # lower-case hex
    sha256: str  # lower-case hex


class WrongBytes(Refused):
    """The digest of the received bytes is not the expected one. found: that digest; "" if it was not computed."""

    def __init__(self, text: str, found: str = "") -> None:
        super().__init__(text)
        self.found = found


class Part:
    """A partial download on the disk, with the server's validator (ETag or Last-Modified) in a file next to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._validator = path.with_name(f"{path.name}.validator")
        self._file: BinaryIO | None = _open_again(path)
        self.size = self._file.tell() if self._file else 0

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file, self.size = None, 0

    def resume_headers(self) -> dict[str, str]:
        """Request headers that ask for the missing rest only, if the file did not change; {} if nothing can be resumed."""
        validator = durable_files.read_state(self._validator, MAX_VALIDATOR).decode("latin-1")
        if not self.size or not _VALIDATOR.fullmatch(validator):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, *names: str) -> None:
        """Start a new file. names: the server's validators, best first; the first strong ETag or date is stored.

        Long or malformed validators are dropped, since they would have to be sent back later.
        """
        validator = next((text for text in names if _VALIDATOR.fullmatch(text)), "")
        self.discard()
        durable_files.make_directory(self._path.parent)
        if validator:
            durable_files.write_atomic(self._validator, validator.encode())
        self._file = _open_new(self._path)

    def check_room(self, more: int) -> None:
        """Raises TryLater if the disk has no room for `more` bytes."""
        durable_files.check_room(self._path.parent, more)

    def append(self, data: bytes) -> None:
        """Write all data to its end, without fsync. Raises TryLater."""
        file, rest = self._opened(), memoryview(data)
        with self._trouble("write"):
            while rest:
                rest = rest[file.write(rest) :]
        self.size += len(data)

    def proven(self, expected: Expected, source: str) -> Fetched:
        """The complete file, if it has the expected digest; else raises WrongBytes. source: its origin, for messages."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        file = self._opened()
        with self._trouble("read"):
            file.seek(0)
            while piece := file.read(PIECE):
                md5.update(piece)
                sha256.update(piece)
                size += len(piece)
        fetched = Fetched(file, size, md5.hexdigest(), sha256.hexdigest())
        if (found := getattr(fetched, expected.kind)) != expected.digest:
            text = f"{source} has {expected.kind} {found}, expected {expected.digest} ({expected.source}): {size} bytes came"
            raise WrongBytes(text, found)
        return fetched

    def forget_validator(self) -> None:
        durable_files.remove_tree(self._validator)

    def discard(self) -> None:
        self.close()
        durable_files.remove_tree(self._path)
        self.forget_validator()

    @contextmanager
    def _trouble(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise durable_files.trouble(f"cannot {verb} {self._path}", e) from e

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise TryLater(f"nothing of {self._path.name} has come yet")
        return self._file


def _open_new(path: Path) -> BinaryIO:
    """Create a new unbuffered file, replacing an old one. Raises TryLater."""
    durable_files.remove_tree(path)
    return _open(path, os.O_CREAT | os.O_EXCL)


def _open_again(path: Path) -> BinaryIO | None:
    """Open an existing regular file at its end, else like `_open_new`; None if there is none. Raises TryLater."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise durable_files.trouble(f"cannot look at {path}", e) from e
    return _open(path, 0)


def _open(path: Path, flags: int) -> BinaryIO:
    flags |= os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = open(os.open(path, flags, 0o644), "r+b", buffering=0)  # noqa: SIM115
        file.seek(0, os.SEEK_END)
    except OSError as e:
        raise durable_files.trouble(f"cannot open {path}", e) from e
    return file
