"""Stands between a program and the `os` module: every call of this process that changes files below one directory is met
first by an observer, which may do it, refuse it, or end the process.

Promises to see what goes through `os` and `open`, whoever calls (pathlib, shutil and tempfile call through both). What it
cannot see is a change made by C code of an extension or by a child process; `faults.seen` proves that there is none.
It replaces functions of the standard library, so it belongs into a process of its own.
"""

import builtins
import contextlib
import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# The functions by the place of what they change. Where two names mean the same, calls are counted under the second.
_BY_PATH = ("mkdir", "rmdir", "unlink", "chmod", "truncate", "utime", "chown", "lchown", "mknod", "mkfifo", "setxattr")
_BY_FD = ("fsync", "fdatasync", "fchmod", "fchown", "ftruncate", "posix_fallocate")
_WRITES = ("write", "pwrite", "writev", "pwritev", "sendfile")  # to the descriptor that comes first
_TO_SECOND = ("rename", "link", "symlink")
_SAME = {"remove": "unlink", "replace": "rename"}
_READS = ("listdir", "scandir")
NAMES = (*_BY_PATH, *_BY_FD, *_WRITES, *_TO_SECOND, *_SAME, *_READS, "open", "copy_file_range")

real = {name: getattr(os, name) for name in NAMES}
_OURS = (threading.main_thread().name, "turn", "install")  # threads that do one thing after the other, with one agent


@dataclass(frozen=True, slots=True)
class Call:
    """One call. path: below the root, or absolute for the null device; nth: which call of this op on this path, from 1.

    source: of a rename or link, as `path`, or a symlink's target; data, offset: of a write (of an open: the flags);
    number: the mode of a chmod, mkdir or open, the size of a truncate; new: an open makes the file; mine: made by the main
    thread or in an agent's turn or installation, for which that waits.
    """

    op: str
    path: str
    nth: int
    source: str = ""
    data: bytes = b""
    offset: int = -1
    number: int = 0
    new: bool = False
    mine: bool = True

    @property
    def key(self) -> str:
        """Names this call among all of a scenario, the same in each run whatever the order of threads."""
        return f"{self.op}:{self.path}:{self.nth}"

    @property
    def reads(self) -> bool:
        return self.op in ("read", *_READS)


Observer = Callable[
    [Call, Callable[..., Any]], Any
]  # gets the call and the function that does it (a write: with other data)


class Shim:
    """Use `Shim(root, observer).on()` as a context manager, or call `put` where the process ends anyway."""

    def __init__(self, root: str, observer: Observer) -> None:
        self._root = os.path.realpath(root)
        self._observer = observer
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        before = builtins.open
        self.put()
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)
            builtins.open = io.open = before

    def put(self) -> None:
        """Replace the functions, for as long as the process lives."""
        for name in (*_BY_PATH, *_BY_FD, *_SAME):
            setattr(os, name, self._wrapped(name, lambda args, kwargs: (args[0], kwargs.get("dir_fd"))))
        for name in _WRITES:
            setattr(os, name, self._wrapped(name, lambda args, kwargs: (args[0], None)))
        for name in (*_TO_SECOND, "replace"):
            setattr(os, name, self._wrapped(name, _second))
        os.copy_file_range = self._wrapped("copy_file_range", lambda args, kwargs: (args[1], None))
        os.open = self._wrapped("open", lambda args, kwargs: (args[0], kwargs.get("dir_fd")))
        for name in _READS:
            setattr(os, name, self._wrapped(name, lambda args, kwargs: (args[0] if args else ".", None)))
        builtins.open = io.open = _opening(builtins.open, self._inside)  # type: ignore[assignment]

    def _wrapped(self, name: str, place: Callable[[Any, Any], tuple[Any, int | None]]) -> Callable[..., Any]:
        do = real[name]

        def met(*args: Any, **kwargs: Any) -> Any:
            path = self._inside(*place(args, kwargs))
            op = _kind(name, args)
            if path is None or (op == "read" and path.startswith("/")):
                return do(*args, **kwargs)
            call = self._call(op, path, args, kwargs)
            if op != "write":
                return self._observer(call, lambda: do(*args, **kwargs))
            return self._observer(call, lambda data=args[1]: do(args[0], data, *args[2:], **kwargs))

        return met

    def _call(self, op: str, path: str, args: Any, kwargs: Any) -> Call:
        with self._lock:
            self._counts[op, path] += 1
            nth = self._counts[op, path]
        more: dict[str, Any] = {"mine": threading.current_thread().name.startswith(_OURS)}
        if op in ("rename", "link"):
            more["source"] = self._inside(args[0], kwargs.get("src_dir_fd")) or os.fspath(args[0])
        elif op == "symlink":
            more["source"] = os.fspath(args[0])
        elif op == "write":
            more["data"] = bytes(args[1])
            more["offset"] = args[2] if len(args) > 2 else os.lseek(args[0], 0, os.SEEK_CUR)
        elif op == "open":
            more["number"] = args[2] if len(args) > 2 else kwargs.get("mode", 0o777)
            more["offset"] = args[1]
            more["new"] = not os.path.lexists(os.path.join(self._root, path))
        elif op in ("mkdir", "chmod", "truncate"):
            more["number"] = args[1] if len(args) > 1 else kwargs.get("mode", 0o777)
        return Call(op, path, nth, **more)

    def _inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path below the root ("." for the root), the null device, or None."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(path))
        path = os.path.abspath(os.fsdecode(path))
        if path == self._root or path.startswith(f"{self._root}/"):
            return os.path.relpath(path, self._root)
        return path if path == os.devnull else None


def _second(args: Any, kwargs: Any) -> tuple[Any, int | None]:
    return args[1], kwargs.get("dst_dir_fd", kwargs.get("dir_fd"))


def _kind(name: str, args: Any) -> str:
    if name == "open":
        return "open" if args[1] & WRITING else "read"
    if name in ("pwrite", "write"):
        return "write"
    if name in ("fchmod", "ftruncate", "fdatasync"):
        return {"fchmod": "chmod", "ftruncate": "truncate", "fdatasync": "fsync"}[name]
    return _SAME.get(name, name)


class _Raw(io.FileIO):
    """A file whose writes go through `os`, where they are seen."""

    def write(self, data: Any, /) -> int:
        return os.write(self.fileno(), data)

    def truncate(self, size: int | None = None, /) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size


def _opening(usual: Callable[..., Any], inside: Callable[[Any], str | None]) -> Callable[..., Any]:
    """An `open` that opens and writes through `os`; for files elsewhere it is the usual one."""

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if inside(file) is None:
            return usual(file, mode, buffering, encoding, errors, newline, closefd, opener)
        opener = None if isinstance(file, int) else opener or (lambda path, flags: os.open(path, flags, 0o666))
        if not set(mode) & set("wax+"):
            return usual(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    return opened
