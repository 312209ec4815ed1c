"""Files that survive a crash: atomic writes, durable renames, careful reads, the lock.

Promises: a reader sees the old content or the new one, never a part; what returned without an error is on the disk.
Refuses to follow a link or to open anything but a regular file when it reads a file that others can plant.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from updater import places
from updater.errors import Misconfigured, TryLater

RESERVE = 64 << 20  # bytes of the disk that are left to others


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `path` hold `data`, durably, in one step. The directory must exist. Raises TryLater.

    mode: whatever the umask is. A file that only its owner may read becomes the directory's owner's, for whom root may
    write it.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(fd, "wb") as file:
            if os.fstat(fd).st_mode & 0o777 != mode:
                os.fchmod(fd, mode)
            if not mode & 0o077 and (owner := path.parent.stat()).st_uid != os.geteuid():
                os.fchown(fd, owner.st_uid, owner.st_gid)
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise trouble(f"cannot write {path}", e) from e


def read_small(path: Path, limit: int) -> bytes | None:
    """The whole content of a regular file of at most `limit` bytes; None when there is no file.

    Raises ValueError for a link, a directory, a FIFO or a larger file, TryLater when the disk does not answer.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise ValueError(f"{path} is not a regular file") from e
        raise trouble(f"cannot read {path}", e) from e
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # asked first: open() has an error of its own for a directory
            raise ValueError(f"{path} is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as e:
        raise trouble(f"cannot read {path}", e) from e
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return data


def read_state(path: Path, limit: int) -> bytes:
    """A file that this program wrote; b"" when there is none, and when what is there cannot be ours: a link, a directory, or
    more than `limit` bytes. Raises TryLater when the disk does not answer."""
    try:
        return read_small(path, limit) or b""
    except ValueError:
        return b""


def open_new(path: Path) -> BinaryIO:
    """A new file in place of what is there, unbuffered, to `append` to and to read again by `pieces`. Raises TryLater."""
    remove_tree(path)
    return _opened(path, os.O_CREAT | os.O_EXCL)


def open_again(path: Path) -> BinaryIO | None:
    """An existing regular file, positioned at its end, else as `open_new`; None when there is none. Raises TryLater."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise trouble(f"cannot look at {path}", e) from e
    return _opened(path, 0)


def _opened(path: Path, flags: int) -> BinaryIO:
    flags |= os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = open(os.open(path, flags, 0o644), "r+b", buffering=0)  # noqa: SIM115
        file.seek(0, os.SEEK_END)
    except OSError as e:
        raise trouble(f"cannot open {path}", e) from e
    return file


def append(file: BinaryIO, data: bytes) -> None:
    """Write all of it to the end of an unbuffered file. Not fsynced. Raises TryLater."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as e:
        raise trouble(f"cannot write {file.name}", e) from e


def keep_last(path: Path, size: int) -> None:
    """Cut a file that another process appends to down to its last `size` bytes, not durably. Raises TryLater."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            last = os.pread(fd, size, max(0, os.fstat(fd).st_size - size))
            os.ftruncate(fd, 0)
            os.write(fd, last)
        finally:
            os.close(fd)
    except OSError as e:
        raise trouble(f"cannot cut {path}", e) from e


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """The content of an unbuffered file from its start on, in pieces. Raises TryLater."""
    try:
        file.seek(0)
        while piece := file.read(256 << 10):
            yield piece
    except OSError as e:
        raise trouble(f"cannot read {file.name}", e) from e


def is_executable_file(path: Path) -> bool:
    """Whether a regular file with a run bit is here. Raises TryLater when the disk does not tell."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as e:
        raise trouble(f"cannot look at {path}", e) from e
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def names_in(directory: Path) -> list[str]:
    """The names in a directory, sorted; none when it is not there. Raises TryLater."""
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as e:
        raise trouble(f"cannot list {directory}", e) from e


def make_directory(path: Path, mode: int | None = None) -> None:
    """mkdir -p, durably. mode: of a new one, whatever the umask is; None: as the umask has it. Raises TryLater."""
    if places.is_directory(path):
        return
    try:
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        if mode is not None and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
        sync_directory(path.parent)
    except OSError as e:
        raise trouble(f"cannot make the directory {path}", e) from e


def move_directory(source: Path, target: Path, marker: str) -> None:
    """Rename a directory whose content is durable; an old `target` is set aside, then removed. marker: the name in it that says
    that it is whole. Raises TryLater."""
    aside = target.with_name(f".{target.name}.old")
    try:
        remove_tree(aside)
        if os.path.lexists(target):
            _set_aside(target, aside, marker)
        source.rename(target)
        sync_directory(target.parent)
    except OSError as e:
        raise trouble(f"cannot move {source} to {target}", e) from e
    remove_tree(aside)


def remove_directory(path: Path, marker: str) -> None:
    """Remove a directory so that a crash meanwhile leaves it whole, under a hidden name, or without its marker. Raises
    TryLater."""
    aside = path.with_name(f".{path.name}.old")
    try:
        remove_tree(aside)
        _set_aside(path, aside, marker)
        sync_directory(path.parent)
    except OSError as e:
        raise trouble(f"cannot remove {path}", e) from e
    remove_tree(aside)


def _set_aside(path: Path, aside: Path, marker: str) -> None:
    """Rename a directory; one of an overlay's lower layer, which cannot be renamed, is removed where it is."""
    try:
        path.rename(aside)
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        (path / marker).unlink(missing_ok=True)
        sync_directory(path)
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a file or a directory with all below it; nothing there is well. Raises TryLater."""
    try:
        if places.is_directory(path) and not places.is_link(path):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as e:
        raise trouble(f"cannot remove {path}", e) from e


def settle(directory: Path) -> None:
    """What a killed owner left in a directory: half-written files go, and the names that are there get durable, since they
    will be built upon. Raises TryLater."""
    for name in names_in(directory):
        if name.startswith(".") and name.endswith(".new") and not places.is_directory(directory / name):
            remove_tree(directory / name)
    try:
        if places.is_directory(directory):
            sync_directory(directory)
    except OSError as e:
        raise trouble(f"cannot sync {directory}", e) from e


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_room(directory: Path, size: int) -> None:
    """Raises TryLater when a file of `size` bytes would leave less than the RESERVE free."""
    try:
        disk = os.statvfs(directory)
    except OSError as e:
        raise trouble(f"cannot look at the disk of {directory}", e) from e
    free = disk.f_bavail * disk.f_frsize
    if size > free - RESERVE:
        raise TryLater(
            f"the disk of {directory} is too full for {size} bytes: {free} are free, {RESERVE} of them reserved"
        )


def trouble(what: str, error: OSError) -> TryLater:
    """An OSError in words; of a file that is reached through a link that leads nowhere, that too."""
    broken = places.dangling(Path(error.filename)) if isinstance(error.filename, str) else ""
    return TryLater(f"{what}: {error.strerror or error}{f' ({broken})' if broken else ''}")


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file for the time of the block. Raises Misconfigured when another process holds it.

    The descriptor is closed in children, so a daemon that an agent's script leaves behind does not keep the lock.
    """
    make_directory(lock.parent)
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise trouble(f"cannot open the lock {lock}", e) from e
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Misconfigured(
                f"another updater (pid {owner}) works on {lock.parent.parent}: stop it first, or use another --root"
            ) from e
        # It is only told to the next one: a full disk must not keep us from our work.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
