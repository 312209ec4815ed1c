"""A model of a file system that loses what was not fsynced.

What a program did is a list of operations on inodes: names set in directories, data, sizes and modes. An operation is durable
once a later fsync of its file, or of the directories whose names it changed, has returned; of the others a power cut keeps
any subset. A rename is kept or lost as a whole; a file's data may be kept in part, or its size without its data. Nothing is
taken for durable that POSIX does not promise: not the name of a fsynced file, not the order of two operations.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.shim import Call

Tree = dict[str, tuple[str, int, bytes]]  # path -> kind (`file`, `directory`, `link`), mode, content or target
NAMES, DATA, SIZE, MODE, SYNC = "names", "data", "size", "mode", "sync"
ROOT = 0


@dataclass(frozen=True, slots=True)
class Op:
    """nodes: the inodes whose fsync makes it durable (or, of a SYNC, the one that is synced); value: by its kind."""

    kind: str
    nodes: tuple[int, ...]
    value: Any
    key: str


@dataclass(slots=True)
class Node:
    """An inode with its content as it was before the first operation on it."""

    kind: str
    mode: int
    data: bytes = b""
    names: dict[str, int] = field(default_factory=dict)
    appends: bool = False


class Disk:
    """Turns calls into operations, and a choice of operations into the tree that a reader finds after the power cut."""

    def __init__(self, tree: Tree, umask: int = 0o022) -> None:
        self.nodes: list[Node] = [Node("directory", 0o755)]
        self.ops: list[Op] = []
        self._umask = umask
        self._now: dict[str, int] = {".": ROOT}  # path -> inode, as the running program sees it
        for path, (kind, mode, content) in sorted(tree.items()):
            self._now[path] = self._new(kind, mode, content)
            self.nodes[self._now[_parent(path)]].names[_name(path)] = self._now[path]
        self._sizes = {number: len(node.data) for number, node in enumerate(self.nodes)}

    def add(self, call: Call) -> None:
        """Take a call in, which went well."""
        do = getattr(self, f"_{call.op}", None)
        if do and not call.path.startswith("/"):
            do(call)

    def tree(self, kept: list[Op]) -> Tree:
        """What is on the disk when these operations were done, and no others."""
        names = {number: dict(node.names) for number, node in enumerate(self.nodes)}
        data = {number: node.data for number, node in enumerate(self.nodes)}
        modes = {number: node.mode for number, node in enumerate(self.nodes)}
        for op in kept:
            if op.kind == NAMES:
                for directory, name, number in op.value:
                    names[directory].pop(name, None)
                    if number is not None:
                        names[directory][name] = number
            elif op.kind == DATA:
                offset, content = op.value
                old = data[op.nodes[0]].ljust(offset, b"\0")
                data[op.nodes[0]] = old[:offset] + content + old[offset + len(content) :]
            elif op.kind == SIZE:
                data[op.nodes[0]] = data[op.nodes[0]][: op.value].ljust(op.value, b"\0")
            elif op.kind == MODE:
                modes[op.nodes[0]] = op.value
        found: Tree = {}
        self._walk(ROOT, "", names, data, modes, found)
        return found

    def _walk(self, directory: int, above: str, names: Any, data: Any, modes: Any, found: Tree) -> None:
        for name, number in names[directory].items():
            path = f"{above}{name}"
            found[path] = (self.nodes[number].kind, modes[number], data[number])
            if self.nodes[number].kind == "directory":
                self._walk(number, f"{path}/", names, data, modes, found)

    def _new(self, kind: str, mode: int, content: bytes = b"") -> int:
        self.nodes.append(Node(kind, mode, content))
        return len(self.nodes) - 1

    def _set(self, call: Call, *changes: tuple[str, int | None]) -> None:
        triples = tuple((self._now[_parent(path)], _name(path), number) for path, number in changes)
        self.ops.append(Op(NAMES, tuple({directory for directory, _, _ in triples}), triples, call.key))

    def _make(self, call: Call, kind: str, mode: int, content: bytes = b"") -> None:
        number = self._new(kind, mode, content)
        self._sizes[number] = 0
        self._now[call.path] = number
        self._set(call, (call.path, number))

    def _mkdir(self, call: Call) -> None:
        self._make(call, "directory", call.number & ~self._umask)

    def _open(self, call: Call) -> None:
        if call.new:
            self._make(call, "file", call.number & ~self._umask)
        elif call.offset & os.O_TRUNC:
            self._truncate(call)
        self.nodes[self._now[call.path]].appends = bool(call.offset & os.O_APPEND)

    def _symlink(self, call: Call) -> None:
        self._make(call, "link", 0o777, call.source.encode())

    def _link(self, call: Call) -> None:
        self._now[call.path] = self._now[call.source]
        self._set(call, (call.path, self._now[call.path]))

    def _unlink(self, call: Call) -> None:
        del self._now[call.path]
        self._set(call, (call.path, None))

    _rmdir = _unlink

    def _rename(self, call: Call) -> None:
        number = self._now[call.source]
        self._set(call, (call.source, None), (call.path, number))
        moved = {p: n for p, n in self._now.items() if p == call.source or p.startswith(f"{call.source}/")}
        for path, inode in moved.items():
            del self._now[path]
            self._now[call.path + path[len(call.source) :]] = inode

    def _write(self, call: Call) -> None:
        number = self._now.get(call.path)
        if number is None:  # of a file that is unlinked already
            return
        offset = self._sizes[number] if self.nodes[number].appends else call.offset
        self._sizes[number] = max(self._sizes[number], offset + len(call.data))
        self.ops.append(Op(DATA, (number,), (offset, call.data), call.key))

    def _truncate(self, call: Call) -> None:
        number = self._now[call.path]
        size = call.number if call.op == "truncate" else 0
        self._sizes[number] = size
        self.ops.append(Op(SIZE, (number,), size, call.key))

    def _chmod(self, call: Call) -> None:
        number = self._now[call.path]
        self.ops.append(Op(MODE, (number,), call.number, call.key))

    def _fsync(self, call: Call) -> None:
        if call.path in self._now:
            self.ops.append(Op(SYNC, (self._now[call.path],), None, call.key))


def durable_from(ops: list[Op]) -> list[int]:
    """For each operation the number of operations after which it cannot be lost any more; more than all when it can."""
    never = len(ops) + 1
    synced: dict[int, int] = {}
    result = [0] * len(ops)
    for position in range(len(ops) - 1, -1, -1):
        op = ops[position]
        if op.kind == SYNC:
            synced[op.nodes[0]] = position + 1
        else:
            result[position] = max(synced.get(node, never) for node in op.nodes)
    return result


def read(root: Path) -> Tree:
    """The tree below a real directory."""
    found: Tree = {}
    for path in root.rglob("*"):
        info, name = path.lstat(), str(path.relative_to(root))
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", mode, os.readlink(path).encode())
        elif stat.S_ISDIR(info.st_mode):
            found[name] = ("directory", mode, b"")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def write(tree: Tree, root: Path) -> None:
    """Make a tree real, in a directory that is not there yet."""
    root.mkdir()
    for name, (kind, _, content) in sorted(tree.items()):
        path = root / name
        if kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(content.decode())
        else:
            path.write_bytes(content)
    for name, (kind, mode, _) in tree.items():
        if kind != "link":
            (root / name).chmod(mode)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _name(path: str) -> str:
    return path.rpartition("/")[2]
