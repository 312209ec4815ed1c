"""What a directory holds, as a value that can be compared."""

import hashlib
import os
import stat
from pathlib import Path

from helpers.good_archives import Tree


def listing(top: Path) -> Tree:
    """All below `top` as `ls -F` would write it: see good_archives. Fails on anything that an unpacked tree cannot hold."""
    tree: Tree = {}
    for path in [top, *top.rglob("*")]:
        name, info = str(path.relative_to(top)), path.lstat()
        assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid()), f"{name} is not ours"
        if stat.S_ISLNK(info.st_mode):
            tree[name + "@"] = os.readlink(path)
        elif stat.S_ISDIR(info.st_mode):
            assert stat.S_IMODE(info.st_mode) == 0o755, f"directory {name} has mode {info.st_mode:o}"
            tree[name + "/"] = None
        else:
            assert info.st_mode in (stat.S_IFREG | 0o644, stat.S_IFREG | 0o755), f"{name} has mode {info.st_mode:o}"
            tree[name + "*" * bool(info.st_mode & 0o111)] = path.read_bytes()
    del tree["./"]
    return tree


def snapshot(top: Path, without: Path) -> dict[str, tuple[object, ...]]:
    """Name, mode, owner, times and content of all below `top`, except of what is in `without`, whose parent is changed by
    its mere coming and going."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [top, *top.rglob("*")]:
        if path == without or without in path.parents:
            continue
        info = path.lstat()
        content: object = None
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        times = () if path == without.parent else (info.st_mtime_ns, info.st_ctime_ns, info.st_nlink)
        seen[str(path.relative_to(top))] = (info.st_mode, info.st_uid, info.st_gid, *times, content)
    return seen
