"""Files that survive a crash: atomic writes, durable renames and careful reads.

Readers see the old content or the new one, never a mixture, and what returned without an error is on the disk. Reads follow no
links and open nothing but regular files, since others may have placed something there.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from updater import places
from updater.errors import TryLater

RESERVE = 64 << 20  # bytes that stay free on the disk


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the content of `path` by `data`, atomically and durably. The directory must exist. Raises TryLater.

    mode: independent of the umask. If root writes a file that only its owner may read, the directory's owner becomes its
    owner.
    """
    try:
        with whole_file(path, mode) as file:
            if not mode & 0o077 and os.geteuid() == 0 and (owner := path.parent.stat()).st_uid != 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(data)
    except OSError as e:
        raise trouble(f"cannot write {path}", e) from e


@contextlib.contextmanager
def whole_file(path: Path, mode: int, hidden: str = "", replace: bool = True) -> Iterator[BinaryIO]:
    """Open a new file for the block; at its end the file gets its name, atomically and durably. Raises OSError.

    If the block raises, the file is removed. mode: from the first byte, independent of the umask. hidden: the temporary
    name; concurrent writers need different ones. Without `replace`, an existing file raises FileExistsError.
    """
    temporary = path.with_name(hidden or f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(fd, "wb") as file:
            if os.fstat(fd).st_mode & 0o777 != mode:
                os.fchmod(fd, mode)
            yield file
            file.flush()
            os.fsync(fd)
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
            temporary.unlink()
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_small(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None if there is no file.

    Raises ValueError for a link, a directory, a FIFO or a larger file, and TryLater if it cannot be read now.
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
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # checked first, since open() raises another error for a directory
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
    """The content of a file that this program wrote; b"" if there is none.

    b"" also if it cannot be such a file: a link, a directory, or more than `limit` bytes. Raises TryLater.
    """
    try:
        return read_small(path, limit) or b""
    except ValueError:
        return b""


def keep_last(path: Path, size: int) -> None:
    """Cut a file to which another process appends to its last `size` bytes, without fsync. Raises TryLater."""
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


def is_executable_file(path: Path) -> bool:
    """Whether the path is a regular file with a run bit. Raises TryLater if that cannot be read now."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as e:
        raise trouble(f"cannot look at {path}", e) from e
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def names_in(directory: Path) -> list[str]:
    """The sorted names in a directory; [] if it does not exist. Raises TryLater."""
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as e:
        raise trouble(f"cannot list {directory}", e) from e


def make_directory(path: Path, mode: int | None = None) -> None:
    """mkdir -p, durably. mode: of a new directory, independent of the umask; None: by the umask. Raises TryLater."""
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
    """Rename a directory whose content is durable; an old `target` is removed. Raises TryLater.

    marker: the name of the file in it which says that it is complete.
    """
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
    """Remove a directory. Raises TryLater.

    A crash leaves it complete, under a hidden name, or without its marker (see `move_directory`).
    """
    aside = path.with_name(f".{path.name}.old")
    try:
        remove_tree(aside)
        _set_aside(path, aside, marker)
        sync_directory(path.parent)
    except OSError as e:
        raise trouble(f"cannot remove {path}", e) from e
    remove_tree(aside)


def _set_aside(path: Path, aside: Path, marker: str) -> None:
    """Rename a directory. One in the lower layer of an overlay file system cannot be renamed, so it is removed in place."""
    try:
        path.rename(aside)
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        (path / marker).unlink(missing_ok=True)
        sync_directory(path)
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a file or a directory with its content, if it exists. Raises TryLater."""
    try:
        if places.is_directory(path) and not places.is_link(path):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as e:
        raise trouble(f"cannot remove {path}", e) from e


def settle(directory: Path) -> None:
    """Clean a directory up after a crash: remove half-written files, and sync the remaining names. Raises TryLater."""
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


def keep_names(directory: Path) -> None:
    """The same. Raises TryLater."""
    try:
        sync_directory(directory)
    except OSError as e:
        raise trouble(f"cannot sync {directory}", e) from e


def check_room(directory: Path, size: int) -> None:
    """Raises TryLater if a file of `size` bytes would leave less than RESERVE bytes free."""
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
    """An OSError as TryLater. what: what failed; a dangling link on the way to the file is added to the text."""
    broken = places.dangling(Path(error.filename)) if isinstance(error.filename, str) else ""
    return TryLater(f"{what}: {error.strerror or error}{f' ({broken})' if broken else ''}")
