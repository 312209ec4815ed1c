"""`updater install`: creates a host's root from an unpacked package: configuration, first version, launcher, systemd unit.

A second run changes nothing, and each file appears complete or not at all. Decisions of people and of meta are kept: cfg.json
is never overwritten, and an installed updater keeps its version. All problems that a person has to solve are found before
anything is written.
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
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 (a hardened unit cannot see these)
PACKAGE = {"cfg.example.json": 0o644, "control": 0o755, "updater.pyz": 0o755}  # files of a package and their modes
INTERVAL = 300  # seconds between heartbeats, in a new cfg.json


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of an installation."""

    package: Path  # an unpacked package
    root: Path  # as the running host will see it
    server: str = ""  # meta's address; may be "" if there is a cfg.json
    user: str = "root"
    destdir: Path = Path("/")  # stands for / while the files are written
    hardened: bool = False  # install the systemd drop-in that restricts all agents

    def real(self, path: Path) -> Path:
        """The path below `destdir` at which a path of the host is written."""
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
    """The result of an installation."""

    wrote: list[Path] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # `PATH: why it was not changed`

    def lines(self) -> list[str]:
        """The result as lines of text for people."""
        told = [f"wrote {path}" for path in self.wrote] + [f"kept {what}" for what in self.kept]
        return told if self.wrote else [*told, "nothing to change"]


def install(wish: Wish) -> Done:
    """Install the package. Raises Misconfigured, TryLater."""
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
    """Exec systemctl to start the unit now and at every boot. Raises Misconfigured."""
    try:
        os.execvp("systemctl", ["systemctl", "enable", "--now", UNIT])  # noqa: S606 (no shell is what we want)
    except OSError as e:
        raise Misconfigured(
            f"cannot run systemctl: {e.strerror}; start {OWN_NAME} as this host starts its services"
        ) from e


def _check(wish: Wish) -> tuple[int, int]:
    """Check everything before the first write; returns (uid, gid) of the user. Raises Misconfigured."""
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
    """Copy the package as the agent's first version, unless it has one; later versions are decided by meta."""
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
    """The version in `.version`, "" unless its install is complete."""
    with contextlib.suppress(ValueError):
        version = (durable_files.read_small(agent.version_file, 1024) or b"").decode("ascii").strip()
        install = agent.install(version)
        if not version_problem(version) and all(places.is_file(install / name) for name in PACKAGE):
            return version
    return ""


def _same(package: Path, install: Path) -> bool:
    return all((package / name).read_bytes() == (install / name).read_bytes() for name in PACKAGE)


def _copy(package: Path, agent: AgentDir, done: Done) -> None:
    """Make an install as `executor` does: in a staging directory, marked, then renamed."""
    install, staging = agent.install(__version__), agent.staging(__version__)
    if package == install:  # a person unpacked it at its final place
        _write(install / MARKER, _marker(), 0o644, done)
        return
    durable_files.remove_tree(staging)
    durable_files.make_directory(staging)
    for name, mode in PACKAGE.items():
        durable_files.write_atomic(staging / name, (package / name).read_bytes(), mode)
    durable_files.write_atomic(staging / MARKER, _marker())
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
        done.kept.append(f"{wish.drop_in}: is there already; remove it if it is not wanted")


def _write(path: Path, data: bytes, mode: int, done: Done) -> None:
    with contextlib.suppress(ValueError):
        if durable_files.read_small(path, len(data)) == data and path.stat().st_mode & 0o777 == mode:
            done.kept.append(f"{path}: is there already")
            return
    durable_files.write_atomic(path, data, mode)
    done.wrote.append(path)


def _give(layout: Layout, uid: int, gid: int) -> None:
    """Make the user the owner of the root and of the updater's own files in it, but not of other agents."""
    try:
        os.chown(layout.root, uid, gid)
        for top in (layout.agent(OWN_NAME).path, layout.own):
            for directory, _, names in os.walk(top):
                for name in (".", *names):
                    os.chown(Path(directory, name), uid, gid, follow_symlinks=False)
    except OSError as e:
        raise durable_files.trouble(f"cannot give {layout.root} to the user", e) from e
