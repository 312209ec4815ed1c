"""Unpacks the libraries of updater.pyz, once: extension modules cannot be loaded from inside a zip.

Promises that the directory appears complete and on the disk, byte-code included, or not at all, however many starts race
and whenever the power goes. Refuses a place that holds somebody else's directory of that name, and takes the next one.
"""

import atexit
import errno
import os
import py_compile
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

TROUBLE = (OSError, EOFError, BadZipFile, zlib.error, py_compile.PyCompileError)  # a full disk, a damaged file
STALE = 3600  # seconds after which a directory in the making was left by a start that was killed


def unpack(pyz: str, places: list[str], name: str, suffix: str, is_ours: Callable[[str], bool]) -> str:
    """The directory of the libraries, made in the first of the places that allows it. Raises one of TROUBLE."""
    for place in map(Path, places):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(place)
            _make(pyz, place / name, suffix)
        except OSError:
            continue  # not writable, full, or a name that is taken
        if is_ours(str(place / name)):
            return str(place / name)
    return _for_this_run(pyz, suffix)


def _for_this_run(pyz: str, suffix: str) -> str:
    directory = tempfile.mkdtemp(prefix="ops-updater-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    _fill(pyz, Path(directory), Path(directory), suffix)
    return directory


def _make(pyz: str, final: Path, suffix: str) -> None:
    if os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, "somebody else's", str(final))
    fresh = Path(tempfile.mkdtemp(prefix=f"{final.name}.new-", dir=final.parent))
    try:
        _fill(pyz, fresh, final, suffix)
        for path in (*_below(fresh), fresh):
            _sync(path)
        fresh.rename(final)
        _sync(final.parent)
    except OSError as e:
        if e.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else another start was faster
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fill(pyz: str, fresh: Path, final: Path, suffix: str) -> None:
    with ZipFile(pyz) as archive:
        for member in archive.namelist():
            for prefix in ("pure/", f"native/{suffix}/"):
                if member.startswith(prefix):
                    _write(fresh / member.removeprefix(prefix), archive.read(member))
    for source in list(_below(fresh)):
        if source.suffix == ".py":
            shown = str(final / source.relative_to(fresh))
            py_compile.compile(
                str(source), dfile=shown, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data)


def _below(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_dir():
            yield from _below(path)
        yield path


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sweep(place: Path) -> None:
    for left in place.glob(".lib-*.new-*"):
        if left.lstat().st_mtime < time.time() - STALE:
            shutil.rmtree(left, ignore_errors=True)
