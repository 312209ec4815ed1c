"""Creates the files of an SQLite database so that only their owner can ever read them, independent of the umask.

SQLite creates a database by the umask, and gives its -wal and -shm files the mode and owner of the database. So the database is
created here, empty and 0600, before SQLite opens it. Its directory may be shared with pid files, and gets 0755.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from meta.errors import TryLater

PRIVATE, SHARED = 0o600, 0o755
_ALL = ("", "-wal", "-shm")
_OTHERS = 0o007
log = logging.getLogger(__name__)


def file_of(url: sa.URL) -> Path:
    """The file of an SQLite URL, which may also be written as a URI: `sqlite:///file:meta.db?uri=true`."""
    database = url.database or ""
    return Path(unquote(urlsplit(database).path) if database.startswith("file:") and "uri" in url.query else database)


def make_directory(path: Path) -> None:
    """mkdir -p; new directories get mode 0755, independent of the umask. Raises TryLater."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir()
        path.chmod(SHARED)
    except OSError as e:
        raise TryLater(f"cannot create the database's directory {path}: {e.strerror}") from e


def make(file: Path) -> None:
    """Create an empty file of mode 600 if there is none. If root creates it, it is given to the directory's owner.

    An existing file is not opened, since closing it would release the locks that SQLite holds on it in this process. Errors are
    ignored, since SQLite will report them.
    """
    with suppress(OSError):
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        try:
            os.fchmod(descriptor, PRIVATE)
            owner = file.parent.stat()
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)


def close_to_others(file: Path) -> None:
    """Make a database private that others can read, as older metas created it. Permissions of the group were set by an
    administrator, and are kept."""
    for one in (file.with_name(file.name + end) for end in _ALL):
        with suppress(FileNotFoundError):
            if not one.stat().st_mode & _OTHERS:
                continue
            try:
                one.chmod(PRIVATE)
                log.warning("%s could be read by everybody; its mode is 600 now", one)
            except OSError as e:
                log.warning("%s can be read by everybody: chmod 600 %s (%s)", one, one, e.strerror)
