"""Puts together updater.pyz: our code, the libraries for every Python that is served, and the bootstrap that picks.

Promises the same bytes for the same inputs: names sorted, one time for all, nothing of this machine. Inside:
  __main__.py first_start.py    the bootstrap
  pure/                         what every Python loads: `updater` and the pure libraries
  native/<suffix>/              what one Python loads besides: extension modules, named by its suffix for them
  templates/                    what `updater install` writes
  licences/                     the terms and the metadata of the libraries
"""

import hashlib
import io
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ship import wheels

HERE = Path(__file__).parent
SHEBANG = b"#!/usr/bin/env python3\n"
_OF_NO_USE = (".pyi", "/py.typed")  # at run time
_TERMS = ("METADATA", "LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")


def build(source: Path, found: Sequence[Path], epoch: int) -> bytes:
    """The file's content: the checkout's `updater` and the wheels, all dated `epoch` (Unix seconds)."""
    members = dict(_own(source)) | _libraries(found)
    content = hashlib.sha256()
    for name, data in sorted(members.items()):
        content.update(f"{name}\0{len(data)}\0".encode() + data)
    members["__main__.py"] = _bootstrap(content.hexdigest()[:16])
    return SHEBANG + zipped(members, epoch)


def zipped(members: Mapping[str, bytes], epoch: int) -> bytes:
    """A zip that is the same whenever and wherever it is made by the same zlib."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(members.items()):
            info = zipfile.ZipInfo(name, date_time=_dos_time(epoch))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return file.getvalue()


def _own(source: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((source / "updater").rglob("*.py")):
        yield f"pure/{path.relative_to(source)}", path.read_bytes()
    yield "first_start.py", (HERE / "bootstrap/first_start.py").read_bytes()
    for path in (HERE / "templates").iterdir():
        yield f"templates/{path.name}", path.read_bytes()


def _libraries(found: Sequence[Path]) -> dict[str, bytes]:
    """The members of all wheels: what is the same for all targets goes to pure/, the rest to each target's own."""
    members: dict[str, bytes] = {}
    native: dict[str, dict[str, bytes]] = defaultdict(dict)  # path -> suffix -> data
    for wheel in found:
        for path, data in _unzipped(wheel):
            if ".dist-info/" in path:
                if path.rpartition("/")[2].startswith(_TERMS):
                    members[f"licences/{path}"] = data
            elif wheels.is_pure(wheel):
                members[f"pure/{path}"] = data
            else:
                native[path][_target(wheel).suffix] = data
    for path, by_suffix in native.items():
        if len(by_suffix) == len(wheels.TARGETS) and len(set(by_suffix.values())) == 1:
            members[f"pure/{path}"] = next(iter(by_suffix.values()))
        else:
            members |= {f"native/{suffix}/{path}": data for suffix, data in by_suffix.items()}
    return members


def _unzipped(wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        for path in archive.namelist():
            if ".dist-info/" in path or not path.endswith(("/", *_OF_NO_USE)):
                yield path, archive.read(path)


def _target(wheel: Path) -> wheels.Target:
    for target in wheels.TARGETS:
        if target.takes(wheel):
            return target
    raise wheels.WheelsError(f"{wheel.name} is pinned, but for none of the Pythons that are served")


def _bootstrap(content: str) -> bytes:
    served = f"CPython {', '.join(wheels.MINORS)} on {' and '.join(wheels.MACHINES)} Linux with glibc"
    text = (HERE / "bootstrap/main.py").read_text(encoding="utf-8")
    suffixes = " ".join(target.suffix for target in wheels.TARGETS)
    for key, value in {"@CONTENT@": content, "@SUFFIXES@": suffixes, "@SERVED@": served}.items():
        text = text.replace(key, value)
    return text.encode()


def _dos_time(epoch: int) -> tuple[int, int, int, int, int, int]:
    year, month, day, hour, minute, second, *_ = time.gmtime(max(epoch, 315532800))  # a zip's time begins with 1980
    return year, month, day, hour, minute, second
