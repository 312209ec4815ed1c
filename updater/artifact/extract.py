"""Unpacks an untrusted .tar.gz as root into a new directory, and touches nothing outside of it.

On success the tree is complete and on the disk. It has directories (0755), files (0644, or 0755 if the archive has any run
bit), hard links among these, and symlinks that stay inside. Anything else is refused: see tar_reader.py for the format and
member_rules.py for the names. On an error nothing is left.

Each announced size is checked against the limits and the free space before anything is written. Paths are only reached
through descriptors of directories that this module made, and no link is followed. Files belong to the user of the process.
They keep their times if these are not in the future, since compiled Python is valid only with the time of its source.
tarfile is not used, as its filters were bypassed repeatedly (ADR 5).
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from updater.artifact import gzip_stream
from updater.artifact.fsync_pool import FsyncPool, fsync_pool
from updater.artifact.member_rules import Claims, linked_name
from updater.artifact.tar_reader import DIRECTORY, FILE, HARD_LINK, PROGRAM, SYMLINK, Limits, Member, members, shown
from updater.errors import Refused, TryLater

USUAL = Limits()
_KEPT_OPEN = 64  # open directories; a hard link needs two chains of them at once
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacked(msgspec.Struct, frozen=True):
    """The result of unpacking."""

    members: int  # files, links and directories
    bytes: int  # of all files
    skipped: tuple[str, ...] = ()  # AppleDouble files (`._NAME`), in which macOS's tar stores attributes; not unpacked


def unpack(
    tarball: BinaryIO,
    into: Path,
    limits: Limits = USUAL,
    *,
    need: Sequence[str] = ("control",),
    durable: bool = True,
    decompressor: Callable[[], gzip_stream.Decompressor] = gzip_stream.fastest,
) -> Unpacked:
    """Unpack an open, unbuffered .tar.gz (see `opened`) into the new directory `into`, whose parent must exist.

    It takes an open file rather than a path, so that the bytes unpacked are those that the caller verified. need: names at
    the archive's root that must be executable files. durable: fsync every file and directory made; the caller syncs the
    parent of `into`, after renaming it. Raises Refused for a bad archive and TryLater for errors of this host; in both cases
    `into` is removed.
    """
    with ExitStack() as stack:
        root = stack.enter_context(_fresh(into))
        tarball.seek(0)
        pool = stack.enter_context(fsync_pool()) if durable else None
        tree = stack.enter_context(closing(_Tree(root, limits, pool)))
        archive = gzip_stream.Stream(
            stack.enter_context(gzip_stream.ReadAhead(gzip_stream.inflate(tarball, decompressor)))
        )
        claims = Claims(limits)
        ceiling = limits.inflated(os.fstat(tarball.fileno()).st_size)
        symlinks, skipped = [], []
        for member in members(archive, limits, ceiling):
            if not member.name:
                continue  # the archive's root, which exists already
            if _is_apple_double(member):
                skipped.append(member.name)
                continue
            claims.claim(member)
            if member.kind == SYMLINK:
                symlinks.append(member)  # made last, so that nothing can be written through one
            else:
                tree.make(member, archive)
        claims.check_programs(need)
        for symlink in symlinks:
            tree.make(symlink, archive)
        tree.finish()
        return Unpacked(len(claims.kinds), tree.bytes, tuple(skipped))


def _is_apple_double(member: Member) -> bool:
    name = member.name.rpartition("/")[2]
    return member.kind in (FILE, PROGRAM) and name.startswith("._") and len(name) > 2


def in_words(skipped: Sequence[str]) -> str:
    """One sentence about the files that were left out, or ""."""
    if not skipped:
        return ""
    files = f"{shown(skipped[0])} is" if len(skipped) == 1 else f"{len(skipped)} files such as {shown(skipped[0])} are"
    return f"{files} left out: attributes for macOS (AppleDouble), which its tar does not write with COPYFILE_DISABLE=1"


@contextmanager
def opened(tarball: Path) -> Iterator[BinaryIO]:
    """Open a tarball for `unpack`. Raises TryLater if it cannot be opened, Refused if it is not a regular file."""
    try:
        fd = os.open(tarball, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a FIFO would block
    except OSError as e:
        raise TryLater(f"cannot open {tarball}: {e.strerror}") from e
    with _closed_after(fd):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused(f"{tarball} is not a regular file")
        with open(fd, "rb", buffering=0, closefd=False) as file:
            yield file


@contextmanager
def _fresh(into: Path) -> Iterator[int]:
    """Yield the descriptor of a new directory of mode 0700; if the block fails, the directory is removed."""
    try:
        parent = os.open(into.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise TryLater(f"cannot open {into.parent}: {e.strerror}") from e
    with _closed_after(parent):
        try:
            os.mkdir(into.name, 0o700, dir_fd=parent)
        except OSError as e:
            raise TryLater(f"cannot make {into}: {_in_words(e, parent)}") from e
        try:
            with _closed_after(os.open(into.name, _OPEN_DIRECTORY, dir_fd=parent)) as root:
                yield root
        except (OSError, MemoryError) as e:
            trouble = f"cannot unpack into {into}: {_in_words(e, parent)}"  # before the removal frees disk space
            if isinstance(e, FileExistsError):
                trouble += " (this file system takes two names of the archive for one, as those without case do)"
            _remove(into, parent, trouble)
            raise TryLater(trouble) from e
        except BaseException as e:
            _remove(into, parent, str(e))
            raise


@contextmanager
def _closed_after(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _in_words(e: OSError | MemoryError, directory: int) -> str:
    if isinstance(e, MemoryError):
        return "out of memory"
    words = e.strerror or str(e)
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        with suppress(OSError):  # a failing statvfs must not prevent the cleanup
            disk = os.fstatvfs(directory)
            words += f" ({disk.f_bavail * disk.f_frsize} bytes and {disk.f_favail} inodes are free there)"
    return words


def _remove(into: Path, parent: int, why: str) -> None:
    try:
        shutil.rmtree(into.name, dir_fd=parent)
    except OSError as e:
        raise TryLater(f"cannot remove {into}, left by a failure ({why}): {e.strerror}") from e


class _Tree:
    """The directory being filled, reached from the descriptor `root`."""

    def __init__(self, root: int, limits: Limits, pool: FsyncPool | None) -> None:
        self.bytes = 0  # written to files so far
        self._root, self._pool = root, pool
        self._made: dict[str, None] = {}  # directories, parents first
        self._open: dict[str, int] = {}  # descriptors of some of them, the most recently used last
        disk = os.fstatvfs(root)
        self._block, self._free, self._reserve = disk.f_frsize, disk.f_bavail * disk.f_frsize, limits.reserve
        self._now = int(time.time())

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)

    def make(self, member: Member, archive: gzip_stream.Stream) -> None:
        """Create a member whose name was accepted by Claims; a file's data is read from the archive."""
        above, _, name = member.name.rpartition("/")
        if member.kind == DIRECTORY:
            self._directory(member.name)
        elif member.kind == SYMLINK:
            os.symlink(member.target, name, dir_fd=self._directory(above))
        elif member.kind == HARD_LINK:
            self._link(linked_name(member), name, self._directory(above))
        else:
            self._take_space(member)
            self._write(member, name, self._directory(above), archive)

    def finish(self) -> None:
        """Sync everything to the disk and make the directories readable for all users, the root last."""
        if self._pool:
            self._pool.wait()
        for path in (*self._made, ""):
            fd = self._directory(path)
            os.fchmod(fd, 0o755)
            if self._pool:
                os.fsync(fd)

    def _directory(self, path: str) -> int:
        """The descriptor of a directory, created if new; opened part by part from the root, so that no link is followed."""
        if not path:
            return self._root
        fd = self._open.pop(path, -1)
        if fd < 0:
            above, _, name = path.rpartition("/")
            parent = self._directory(above)
            if path not in self._made:
                os.mkdir(name, 0o700, dir_fd=parent)
                self._made[path] = None
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
            if len(self._open) >= _KEPT_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = fd
        return fd

    def _link(self, target: str, name: str, directory: int) -> None:
        above, _, old = target.rpartition("/")
        os.link(old, name, src_dir_fd=self._directory(above), dst_dir_fd=directory, follow_symlinks=False)

    def _take_space(self, member: Member) -> None:
        """Subtract the file from the free bytes measured at the start. Raises TryLater if it does not fit."""
        blocks = -(-member.size // self._block)
        if blocks * self._block > self._free - self._reserve:
            raise TryLater(
                f"the disk is too full for member {shown(member.name)} of {member.size} bytes:"
                f" {self._free} are free, {self._reserve} of them reserved"
            )
        self._free -= blocks * self._block

    def _write(self, member: Member, name: str, directory: int, archive: gzip_stream.Stream) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        try:
            end = archive.at + member.size
            for part in archive.parts(member.size):
                while part:
                    part = part[os.write(fd, part) :]
            if archive.at < end:
                raise Refused(f"the archive is cut short within member {shown(member.name)}")
            os.fchmod(fd, 0o755 if member.kind == PROGRAM else 0o644)
            if member.mtime is not None and member.mtime <= self._now:
                os.utime(fd, (self._now, member.mtime))
        except BaseException:
            os.close(fd)
            raise
        self.bytes += member.size
        if self._pool:
            self._pool.take(fd)
        else:
            os.close(fd)
