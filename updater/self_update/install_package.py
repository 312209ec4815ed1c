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
from updater.kernel import root_lock
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
class InstallOptions:
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
class InstallReport:
    """The result of an installation."""

    wrote: list[Path] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # `PATH: why it was not changed`

    def lines(self) -> list[str]:
        """The result as lines of text for people."""
        told = [f"wrote {path}" for path in self.wrote] + [f"kept {what}" for what in self.kept]
        return told if self.wrote else [*told, "nothing to change"]


def install(options: InstallOptions) -> InstallReport:
    """Install the package. Raises Misconfigured, TryLater."""
    uid, gid = _check(options)
    report = InstallReport()
    durable_files.make_directory(options.layout.root)
    _configuration(options, report)
    _first_version(options, report)
    _templates(options, report)
    if uid:
        _give(options.layout, uid, gid)
    return report


def enable() -> None:
    """Exec systemctl to start the unit now and at every boot. Raises Misconfigured."""
    try:
        os.execvp("systemctl", ["systemctl", "enable", "--now", UNIT])  # noqa: S606 (no shell is what we want)
    except OSError as e:
        raise Misconfigured(
            f"cannot run systemctl: {e.strerror}; start {OWN_NAME} as this host starts its services"
        ) from e


def _check(options: InstallOptions) -> tuple[int, int]:
    """Check everything before the first write; returns (uid, gid) of the user. Raises Misconfigured."""
    if not options.root.is_absolute() or any(not c.isprintable() or c in " \"'\\%$" for c in str(options.root)):
        raise Misconfigured(f"the root {options.root} must be an absolute path without blanks, quotes, % or $")
    if options.hardened and any(options.root.is_relative_to(hidden) for hidden in _HIDDEN):
        raise Misconfigured(f"--hardened hides {', '.join(_HIDDEN)}: choose another --root than {options.root}")
    if options.destdir == Path("/") and os.geteuid() != 0:
        raise Misconfigured("writes below /etc: run it as root, or preview it with --destdir DIRECTORY")
    if missing := [name for name in PACKAGE if not places.is_file(options.package / name)]:
        raise Misconfigured(
            f"{options.package} is not an unpacked package, it lacks {', '.join(missing)}: "
            f"unpack {OWN_NAME}-{__version__}.tar.gz and run its ./control install"
        )
    file = options.layout.root / "cfg.json"
    if places.exists(file):
        config.load(file)
    elif not options.server:
        raise Misconfigured(f"there is no {file} yet: give the address of meta with --server HOST:PORT")
    elif problem := base_problem("--server", config.Config(options.server, INTERVAL).heartbeat_url):
        raise Misconfigured(problem)
    try:
        entry = pwd.getpwnam(options.user)
    except KeyError as e:
        raise Misconfigured(f"this host has no user {options.user}: create it, or use another --user") from e
    return entry.pw_uid, entry.pw_gid


def _configuration(options: InstallOptions, report: InstallReport) -> None:
    file = options.layout.root / "cfg.json"
    if places.exists(file):
        report.kept.append(f"{file}: is there already")
        return
    settings = msgspec.json.decode((options.package / "cfg.example.json").read_bytes())
    settings |= {"server": options.server, "interval": INTERVAL}
    _write(file, msgspec.json.format(msgspec.json.encode(settings), indent=4) + b"\n", 0o644, report)


def _first_version(options: InstallOptions, report: InstallReport) -> None:
    """Copy the package as the agent's first version, unless it has one; later versions are decided by meta."""
    agent = options.layout.agent(OWN_NAME)
    if current := _complete_version(agent):
        why = "is there already" if current == __version__ else "is the current version, and meta decides on another"
        if current == __version__ and not _same(options.package, agent.install(current)):
            raise Misconfigured(
                f"{agent.install(current)} has other content than this package: build the package as a new version"
            )
        report.kept.append(f"{agent.install(current)}: {why}")
        return
    with root_lock.only_one(options.layout.lock):
        _copy(options.package, agent, report)
        _write(agent.version_file, f"{__version__}\n".encode(), 0o644, report)


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


def _copy(package: Path, agent: AgentDir, report: InstallReport) -> None:
    """Make an install as `executor` does: in a staging directory, marked, then renamed."""
    install, staging = agent.install(__version__), agent.staging(__version__)
    if package == install:  # it was unpacked at its final path
        _write(install / MARKER, _marker(), 0o644, report)
        return
    durable_files.remove_tree(staging)
    durable_files.make_directory(staging)
    for name, mode in PACKAGE.items():
        durable_files.write_atomic(staging / name, (package / name).read_bytes(), mode)
    durable_files.write_atomic(staging / MARKER, _marker())
    durable_files.move_directory(staging, install, MARKER)
    report.wrote.append(install)


def _marker() -> bytes:
    return msgspec.json.encode(Marker(at=int(time.time())))


def _templates(options: InstallOptions, report: InstallReport) -> None:
    with zipfile.ZipFile(options.package / "updater.pyz") as archive:
        launcher = archive.read("templates/run")
        unit = archive.read(f"templates/{UNIT}").decode()
        drop_in = archive.read(f"templates/{HARDENED}").decode()
    unit = unit.replace("@ROOT@", str(options.root)).replace("@USER@", options.user)
    unit = unit.replace("@AS_ROOT@", "" if options.user == "root" else "# ")
    durable_files.make_directory(options.unit.parent)
    _write(options.layout.root / "run", launcher, 0o755, report)
    _write(options.unit, unit.encode(), 0o644, report)
    if options.hardened:
        durable_files.make_directory(options.drop_in.parent)
        _write(options.drop_in, drop_in.replace("@ROOT@", str(options.root)).encode(), 0o644, report)
    elif places.exists(options.drop_in):
        report.kept.append(f"{options.drop_in}: is there already; remove it if it is not wanted")


def _write(path: Path, data: bytes, mode: int, report: InstallReport) -> None:
    with contextlib.suppress(ValueError):
        if durable_files.read_small(path, len(data)) == data and path.stat().st_mode & 0o777 == mode:
            report.kept.append(f"{path}: is there already")
            return
    durable_files.write_atomic(path, data, mode)
    report.wrote.append(path)


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
