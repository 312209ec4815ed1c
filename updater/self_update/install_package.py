"""`updater install`: makes a host's root from an unpacked package: configuration, first version, launcher, systemd unit.

Promises that a second run changes nothing, that each file appears whole or not at all, and that what a person or meta has
decided stays: cfg.json is never written over, and an updater that is at another version already is left at it.
Refuses, before anything is written, what a person has to change first.
"""

import contextlib
import os
import pwd
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from updater import __version__, durable_files, places
from updater.errors import Misconfigured
from updater.host import config
from updater.model.layout import MARKER, OWN_NAME, AgentDir, Layout
from updater.model.observed import Marker
from updater.wire.names import version_problem
from updater.wire.urls import base_problem

UNIT = f"{OWN_NAME}.service"
HARDENED = "hardened.conf"
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 (what a hardened unit does not see)
PACKAGE = {"cfg.example.json": 0o644, "control": 0o755, "updater.pyz": 0o755}  # what a package holds
INTERVAL = 300  # seconds, in a new cfg.json


@dataclass(frozen=True, slots=True)
class Wish:
    """What to install where. package: an unpacked one; root: as the running host will see it; server: meta, "" where
    there is a cfg.json; destdir: a directory that stands for / while the files are written; hardened: with the drop-in
    that takes from all agents what most need not."""

    package: Path
    root: Path
    server: str = ""
    user: str = "root"
    destdir: Path = Path("/")
    hardened: bool = False

    def real(self, path: Path) -> Path:
        """Where a path of the host is written."""
        return self.destdir / path.relative_to("/")

    @property
    def layout(self) -> Layout:
        return Layout(self.real(self.root))

    @property
    def unit(self) -> Path:
        return self.real(Path("/etc/systemd/system") / UNIT)

    @property
    def drop_in(self) -> Path:
        return self.unit.with_name(f"{UNIT}.d") / HARDENED


@dataclass(slots=True)
class Done:
    """What was written, and what was left as it is and why."""

    wrote: list[Path] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For the person who runs it."""
        told = [f"wrote {path}" for path in self.wrote] + [f"kept {what}" for what in self.kept]
        return told if self.wrote else [*told, "nothing to change"]


def install(wish: Wish) -> Done:
    """Do it. Raises Misconfigured, TryLater."""
    uid, gid = _check(wish)
    done = Done()
    durable_files.make_directory(wish.layout.root)
    _configuration(wish, done)
    _first_version(wish, done)
    _templates(wish, done)
    if uid:
        _give(wish.layout, uid, gid)
    return done


def enable() -> None:
    """Become the systemctl that makes systemd read the unit, starts it now, and with every boot. Raises Misconfigured."""
    try:
        os.execvp("systemctl", ["systemctl", "enable", "--now", UNIT])  # noqa: S606 (no shell is what we want)
    except OSError as e:
        raise Misconfigured(
            f"cannot run systemctl: {e.strerror}; start {OWN_NAME} as this host starts its services"
        ) from e


def _check(wish: Wish) -> tuple[int, int]:
    """Everything that can be known to be wrong before the first write; returns the user's ids."""
    if not wish.root.is_absolute() or any(not c.isprintable() or c in " \"'\\%$" for c in str(wish.root)):
        raise Misconfigured(f"the root {wish.root} must be an absolute path without blanks, quotes, % or $")
    if wish.hardened and any(wish.root.is_relative_to(hidden) for hidden in _HIDDEN):
        raise Misconfigured(f"--hardened hides {', '.join(_HIDDEN)}: choose another --root than {wish.root}")
    if wish.destdir == Path("/") and os.geteuid() != 0:
        raise Misconfigured("writes below /etc: run it as root, or have a look first with --destdir DIRECTORY")
    if missing := [name for name in PACKAGE if not places.is_file(wish.package / name)]:
        raise Misconfigured(
            f"{wish.package} is no unpacked package, it lacks {', '.join(missing)}: "
            f"unpack {OWN_NAME}-{__version__}.tar.gz and run its ./control install"
        )
    file = wish.layout.root / "cfg.json"
    if places.exists(file):
        config.load(file)
    elif not wish.server:
        raise Misconfigured(f"there is no {file} yet: say where meta is, --server HOST:PORT")
    elif problem := base_problem("--server", config.Config(wish.server, INTERVAL).heartbeat_url):
        raise Misconfigured(problem)
    try:
        entry = pwd.getpwnam(wish.user)
    except KeyError as e:
        raise Misconfigured(f"this host has no user {wish.user}") from e
    return entry.pw_uid, entry.pw_gid


def _configuration(wish: Wish, done: Done) -> None:
    file = wish.layout.root / "cfg.json"
    if places.exists(file):
        done.kept.append(f"{file}: is there already")
        return
    settings = msgspec.json.decode((wish.package / "cfg.example.json").read_bytes())
    settings |= {"server": wish.server, "interval": INTERVAL}
    _write(file, msgspec.json.format(msgspec.json.encode(settings), indent=4) + b"\n", 0o644, done)


def _first_version(wish: Wish, done: Done) -> None:
    """Copy the package as the agent's first version, unless there is one: from then on, meta decides."""
    agent = wish.layout.agent(OWN_NAME)
    if current := _complete_version(agent):
        why = "is there already" if current == __version__ else "is the current version, which is meta's to change"
        if current == __version__ and not _same(wish.package, agent.install(current)):
            raise Misconfigured(
                f"{agent.install(current)} is another {current} than this one: no version has two contents"
            )
        done.kept.append(f"{agent.install(current)}: {why}")
        return
    with durable_files.only_one(wish.layout.lock):
        _copy(wish.package, agent, done)
        _write(agent.version_file, f"{__version__}\n".encode(), 0o644, done)


def _complete_version(agent: AgentDir) -> str:
    """The version in `.version`, "" unless it can run."""
    with contextlib.suppress(ValueError):
        version = (durable_files.read_small(agent.version_file, 1024) or b"").decode("ascii").strip()
        install = agent.install(version)
        if not version_problem(version) and all(places.is_file(install / name) for name in PACKAGE):
            return version
    return ""


def _same(package: Path, install: Path) -> bool:
    return all((package / name).read_bytes() == (install / name).read_bytes() for name in PACKAGE)


def _copy(package: Path, agent: AgentDir, done: Done) -> None:
    """An install as `executor` makes them: beside, marked, then moved to its name."""
    install, staging = agent.install(__version__), agent.staging(__version__)
    if package == install:  # unpacked in its place by hand
        _write(install / MARKER, _marker(), 0o644, done)
        return
    durable_files.remove_tree(staging)
    durable_files.make_directory(staging)
    for name, mode in PACKAGE.items():
        _put(staging / name, (package / name).read_bytes(), mode)
    _put(staging / MARKER, _marker(), 0o644)
    durable_files.move_directory(staging, install, MARKER)
    done.wrote.append(install)


def _marker() -> bytes:
    return msgspec.json.encode(Marker(at=int(time.time())))


def _templates(wish: Wish, done: Done) -> None:
    with zipfile.ZipFile(wish.package / "updater.pyz") as archive:
        launcher = archive.read("templates/run")
        unit = archive.read(f"templates/{UNIT}").decode()
        drop_in = archive.read(f"templates/{HARDENED}").decode()
    unit = unit.replace("@ROOT@", str(wish.root)).replace("@USER@", wish.user)
    unit = unit.replace("@AS_ROOT@", "" if wish.user == "root" else "# ")
    durable_files.make_directory(wish.unit.parent)
    _write(wish.layout.root / "run", launcher, 0o755, done)
    _write(wish.unit, unit.encode(), 0o644, done)
    if wish.hardened:
        durable_files.make_directory(wish.drop_in.parent)
        _write(wish.drop_in, drop_in.replace("@ROOT@", str(wish.root)).encode(), 0o644, done)
    elif places.exists(wish.drop_in):
        done.kept.append(f"{wish.drop_in}: is there already; remove it if it shall not be")


def _write(path: Path, data: bytes, mode: int, done: Done) -> None:
    with contextlib.suppress(ValueError):
        if durable_files.read_small(path, len(data)) == data and path.stat().st_mode & 0o777 == mode:
            done.kept.append(f"{path}: is there already")
            return
    _put(path, data, mode)
    done.wrote.append(path)


def _put(path: Path, data: bytes, mode: int) -> None:
    """files.write_atomic for a file that appears with its mode: a program that cannot be run must never be seen."""
    temporary = path.with_name(f".{path.name}.new")
    durable_files.write_atomic(temporary, data)
    try:
        with temporary.open("rb") as file:
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
        durable_files.sync_directory(path.parent)
    except OSError as e:
        raise durable_files.trouble(f"cannot write {path}", e) from e


def _give(layout: Layout, uid: int, gid: int) -> None:
    """Make the root and what is our own in it the user's, but no other agent."""
    try:
        os.chown(layout.root, uid, gid)
        for top in (layout.agent(OWN_NAME).path, layout.own):
            for directory, _, names in os.walk(top):
                for name in (".", *names):
                    os.chown(Path(directory, name), uid, gid, follow_symlinks=False)
    except OSError as e:
        raise durable_files.trouble(f"cannot give {layout.root} to the user", e) from e
