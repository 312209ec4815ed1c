"""A download on the disk: what of it has come, and the proof that it is all of it.

What is handed on is the open file that was hashed, never its path: another file may stand there a moment later.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from updater import durable_files
from updater.errors import Refused, TryLater

MAX_VALIDATOR = 1024  # bytes
_VALIDATOR = re.compile(r'"[\x21\x23-\x7e]{0,1022}"|[A-Za-z]{3,9},? [A-Za-z0-9,:+ -]{1,40}')  # RFC 9110, 8.8 and 5.6.7


@dataclass(frozen=True, slots=True)
class Expected:
    """A digest in lower-case hex, its kind (`md5` or `sha256`), and where it comes from, in words."""

    kind: str
    digest: str
    source: str

    @property
    def named(self) -> str:
        """`KIND:HEX`."""
        return f"{self.kind}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A tarball on the disk that has the expected digest. file: open, what was hashed; size: bytes; md5, sha256: lower-case
    hex."""

    file: BinaryIO
    size: int
    md5: str
    sha256: str


class WrongBytes(Refused):
    """What came is another file than the one that was wanted. found: its digest, "" where that was never asked."""

    def __init__(self, text: str, found: str = "") -> None:
        super().__init__(text)
        self.found = found


class Part:
    """A download on the disk, and next to it what the server called this state of its file (ETag or Last-Modified)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._validator = path.with_name(f"{path.name}.validator")
        self._file: BinaryIO | None = durable_files.open_again(path)
        self.size = self._file.tell() if self._file else 0

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file, self.size = None, 0

    def resume_headers(self) -> dict[str, str]:
        """What asks for the rest only, if the file is still the same; nothing when there is no part to go on with."""
        validator = durable_files.read_state(self._validator, MAX_VALIDATOR).decode("latin-1")
        if not self.size or not _VALIDATOR.fullmatch(validator):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, *names: str) -> None:
        """A new file, to be filled from its first byte on. names: what the server calls this state of it, best first; kept is
        a strong ETag or a date. One that is long or odd is not: it would have to be read back and sent."""
        validator = next((text for text in names if _VALIDATOR.fullmatch(text)), "")
        self.discard()
        durable_files.make_directory(self._path.parent)
        if validator:
            durable_files.write_atomic(self._validator, validator.encode())
        self._file = durable_files.open_new(self._path)

    def check_room(self, more: int) -> None:
        """Raises TryLater when the disk has no room for so many bytes."""
        durable_files.check_room(self._path.parent, more)

    def append(self, data: bytes) -> None:
        durable_files.append(self._opened(), data)
        self.size += len(data)

    def proven(self, expected: Expected, source: str) -> Fetched:
        """The whole file, if it has the digest; else raises WrongBytes. source: where it came from, in words."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        file = self._opened()
        for piece in durable_files.pieces(file):
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

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise TryLater(f"nothing of {self._path.name} has come yet")
        return self._file
