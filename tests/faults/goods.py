"""The agents of the fault suite: small tarballs with all that a tarball may hold, and what they must be on the disk.

The control script keeps to built-ins of the shell where it can, so that thousands of cycles are affordable. Its daemon is a
`sleep` with a number of seconds that nothing else uses.
"""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

DAEMON = ["sleep", "7919"]

CONTROL = f"""#!/bin/sh
# version @
cd "${{0%/*}}" || exit 1
echo "$1" >>../.calls
state=
{{ read -r pid <pid && read -r _ _ state _ <"/proc/$pid/stat"; }} 2>/dev/null
case $state in [RSDTtIWKP]) up=1 ;; *) up= ;; esac
case $1 in
start) [ "$up" ] || {{ {" ".join(DAEMON)} >/dev/null 2>&1 & echo $! >pid; }} ;;
stop)
    [ "$up" ] || exit 0
    kill "$pid"
    while read -r _ _ state _ <"/proc/$pid/stat" && [ "$state" != Z ]; do :; done 2>/dev/null
    ;;
status)
    [ "$up" ] && echo started || echo stoped
    ;;
esac
"""

# A start that floods is ended at once: so the suite need not wait for a time-out each time.
NEVER_STARTS = CONTROL.replace("start) ", "start) head -c 1100000 /dev/zero; sleep 71; exit 1; ")

LINKS = {"latest": "lib/data"}
HARD_LINKS = {"lib/again": "lib/data"}
DIRECTORIES = ("empty",)


def files(version: str, control: str = CONTROL) -> dict[str, tuple[bytes, int]]:
    """The regular files of a version: name -> (content, mode)."""
    return {
        "control": (control.replace("@", version).encode(), 0o755),
        "lib/data": (f"data of {version}\n".encode() * 40, 0o644),
        "agent.conf": (f"version = {version}\n".encode(), 0o644),
    }


def publish(directory: Path, name: str, version: str, control: str = CONTROL) -> None:
    """Write `{name}-{version}.tar.gz` and its `.md5` into a directory that is served."""
    path = directory / f"{name}-{version}.tar.gz"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for member in DIRECTORIES:
            archive.addfile(_member(member, tarfile.DIRTYPE, 0o755))
        for member, (content, mode) in files(version, control).items():
            info = _member(member, tarfile.REGTYPE, mode)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member, target in HARD_LINKS.items():
            archive.addfile(_member(member, tarfile.LNKTYPE, target=target))
        for member, target in LINKS.items():
            archive.addfile(_member(member, tarfile.SYMTYPE, target=target))
    path.write_bytes(gzip.compress(plain.getvalue(), 1, mtime=0))  # the same bytes each time
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.md5").write_text(f"{digest}  {path.name}\n")


def _member(name: str, kind: bytes, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    return info


def lay(install: Path, version: str) -> None:
    """A version as another updater unpacks it, with no marker."""
    for name, (content, mode) in files(version).items():
        path = install / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    for name in DIRECTORIES:
        (install / name).mkdir()
    for name, target in LINKS.items():
        (install / name).symlink_to(target)
    for name, target in HARD_LINKS.items():
        (install / name).hardlink_to(install / target)


def lacks(install: Path, version: str, control: str = CONTROL) -> str:
    """What an install does not have as its tarball had it, or "" when it is complete."""
    for name, (content, mode) in files(version, control).items():
        path = install / name
        if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            return f"{name} is not what the tarball held"
        if stat.S_IMODE(path.stat().st_mode) != mode:
            return f"{name} has mode {path.stat().st_mode:o}"
    for name, target in LINKS.items():
        if not (install / name).is_symlink() or os.readlink(install / name) != target:
            return f"the link {name}"
    for name, target in HARD_LINKS.items():
        if not (install / name).is_file() or (install / name).read_bytes() != (install / target).read_bytes():
            return f"the hard link {name}"
    return next((f"the directory {name}" for name in DIRECTORIES if not (install / name).is_dir()), "")
