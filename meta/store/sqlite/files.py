"""The files of an SQLite database: its owner's alone from their first byte on, whatever the umask.

SQLite makes a database with what the umask leaves, and gives its -wal and -shm the database's own mode and owner. So the
database is made here, empty and 0600, before SQLite opens it. Its directory may be shared with pid files: 0755.
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
    """mkdir -p; what is new can be entered by all, whatever the umask. Raises TryLater."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir()
        path.chmod(SHARED)
    except OSError as e:
        raise TryLater(f"the database's directory {path} cannot be made: {e.strerror}") from e


def make(file: Path) -> None:
    """An empty file of mode 600, where there is none. One that root makes becomes the directory's owner's, who serves with it.

    A file that is there is not opened: closing it would take away the locks that SQLite holds on it in this process. Where it
    cannot be made nothing is raised, for SQLite then says why."""
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
    """A database that everybody may read was made by an older meta under a usual umask: from now on its owner alone may. What
    a group may do was somebody's decision, and stays."""
    for one in (file.with_name(file.name + end) for end in _ALL):
        with suppress(FileNotFoundError):
            if not one.stat().st_mode & _OTHERS:
                continue
            try:
                one.chmod(PRIVATE)
                log.warning("%s could be read by everybody; its mode is 600 now", one)
            except OSError as e:
                log.warning("%s can be read by everybody: chmod 600 %s (%s)", one, one, e.strerror)
