"""Where the cases of one worker process happen: a site, a configuration, and a host's root that is laid out anew for each.

around/             is watched: nothing in it may change but the root
around/root/        the host
templates/NAME/     the root as a scenario begins, and as it ends when nothing goes wrong
"""

import contextlib
import gc
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import goods, reaper, warm
from faults.scenarios import Scenario
from faults.shim import Observer, Shim
from helpers.site import Site
from helpers.trees import snapshot

LIMIT = 30  # seconds that one cycle may take, faults included


@dataclass(frozen=True, slots=True)
class Done:
    """How an updater ended. signal: 0 when it ended by itself, with `code`; output: its stdout and stderr."""

    signal: int
    code: int
    output: str


class _QuietSite(Site):
    """Its clients are killed at any moment, and it has no complaint about that. gate: its replies wait for it."""

    def __init__(self, directory: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(directory)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]

    def reply(self) -> bytes:
        self.gate.wait(LIMIT)
        return super().reply()


class World:
    """Use `World.made()`."""

    def __init__(self, directory: Path, site: _QuietSite, shared: Path | None = None) -> None:
        self.site = site
        self._shared = shared
        self.directory = directory
        self.around = directory / "around"
        self.root = self.around / "root"
        self.log = directory / "calls"
        self.config = directory / "cfg.json"
        self._scenario = ""
        self._templates: dict[str, Path] = {}
        self._endings: dict[str, dict[str, Any]] = {}
        self._known: dict[str, Any] = {}
        self._lay_around()
        self.surroundings = self.look_around()
        self.config.write_text(json.dumps(_settings(site.address)))

    @classmethod
    @contextlib.contextmanager
    def made(cls, shared: Path | None = None) -> Iterator["World"]:
        """shared: a directory of all worlds of a run, for what is costly to find out; see `known`."""
        reaper.adopt_orphans()
        warm.forget_environment()
        directory = Path(tempfile.mkdtemp(prefix="faults-", dir=quick_directory()))
        try:
            with _QuietSite(directory / "site") as site:
                warm.load_all(directory / "warm", site, _settings(site.address))
                yield cls(directory, site, shared)
        finally:
            reaper.end_all()
            shutil.rmtree(directory, ignore_errors=True)

    def abandon(self) -> None:
        """End this process at once, wherever it is, and leave neither an agent nor a file."""
        reaper.end_all()
        shutil.rmtree(self.directory, ignore_errors=True)
        os._exit(1)

    def once(self, observer: Callable[[], Observer] | None = None, command: str = "once") -> Done:
        """Run one command of the updater on the root in a child of its own, met by the observer that is made there."""
        output = self.directory / "output"
        return self.ended(self.launch(output, observer, command), output)

    def launch(self, output: Path, observer: Callable[[], Observer] | None = None, command: str = "once") -> int:
        """Begin what `once` does; returns the child's pid."""
        output.write_bytes(b"")
        gc.freeze()  # or the child's collector would touch, and so copy, all that this process has
        pid = os.fork()
        if pid == 0:
            self._be_the_updater(output, observer, command)
        gc.unfreeze()
        return pid

    def ended(self, pid: int, output: Path) -> Done:
        """Wait for such a child."""
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Done(max(0, -status), max(0, status), output.read_text(errors="replace"))

    def begin(self, scenario: Scenario) -> None:
        """Lay the root out as the scenario begins, its agents running, and make the site order what it orders."""
        template = self.template(scenario)
        self.clear()
        shutil.copytree(template, self.root, symlinks=True)
        self.start(scenario.runs)
        self.order(scenario)

    def ending(self, scenario: Scenario) -> dict[str, Any]:
        """The host as the scenario leaves it when nothing goes wrong, as a value: see `invariants.state`."""
        from faults import invariants

        if scenario.name not in self._endings:
            self.begin(scenario)
            done = self.once()
            assert (done.signal, done.code) == (0, scenario.exits), done.output
            problems = invariants.at_rest(self, scenario)
            assert not problems, problems
            self._endings[scenario.name] = invariants.state(self.root)
        return self._endings[scenario.name]

    def start(self, installs: tuple[str, ...]) -> None:
        """Start agents by hand: `name/version` of each."""
        for install in installs:
            subprocess.run(["./control", "start"], cwd=self.root / install, check=True)
        for calls in self.root.glob("*/.calls"):
            calls.unlink()

    @contextlib.contextmanager
    def impatient(self, seconds: float = 0.3) -> Iterator[None]:
        """While the block runs, scripts have only so long."""
        usual = self.config.read_text()
        settings = json.loads(usual)
        settings["timeouts"] |= dict.fromkeys(("status", "start", "stop"), seconds)
        self.config.write_text(json.dumps(settings))
        try:
            yield
        finally:
            self.config.write_text(usual)

    def clear(self) -> None:
        """End the agents and remove the root."""
        reaper.end_all()
        shutil.rmtree(self.root, ignore_errors=True)

    def order(self, scenario: Scenario) -> None:
        """Make the site order what the scenario orders, and forget what it was asked before."""
        self._scenario = scenario.name
        self.desire(*scenario.orders)
        self.site.reports.clear()
        self.site.gets.clear()

    def desire(self, *orders: tuple[str, ...]) -> None:
        """Order (name, version) or (name, version, cmd); the tarballs are those of the scenario."""
        base = f"{self.site.url}/{self._scenario}"
        self.site.desire(*(self.site.entry(n, v, cmd="".join(cmd) or "start", tarball=base) for n, v, *cmd in orders))

    def known(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` returned when it was asked for this name first, by whichever world of the run; as if its site were
        ours."""
        if name in self._known:
            return self._known[name]
        file = self._shared / hashlib.sha256(name.encode()).hexdigest() if self._shared else None
        if file and file.exists():
            address, _, pickled = file.read_bytes().partition(b"\n")
            found = pickle.loads(_with_address(pickled, address, self.site.address.encode()))
        else:
            found = find()
            if file:
                mine = file.with_name(f"{file.name}.{os.getpid()}")
                mine.write_bytes(self.site.address.encode() + b"\n" + pickle.dumps(found))
                mine.rename(file)
        self._known[name] = found
        return found

    def look_around(self) -> Any:
        """All that lies around the root, as a value."""
        return snapshot(self.around, self.root)

    def daemons(self) -> list[reaper.Daemon]:
        return reaper.daemons()

    def template(self, scenario: Scenario) -> Path:
        """The root as the scenario begins, its agents stopped."""
        if scenario.name not in self._templates:
            self.clear()
            self.root.mkdir()
            self._scenario = scenario.name
            (self.site.files / scenario.name).mkdir(exist_ok=True)
            for name, version, control in scenario.published:
                goods.publish(self.site.files / scenario.name, name, version, control)
            scenario.prepare(self)
            reaper.end_all()
            for left in (*self.root.glob("*/.calls"), *self.root.glob("*/*/pid")):
                left.unlink()
            self._templates[scenario.name] = self.root.rename(self.directory / f"begins-{scenario.name}")
        return self._templates[scenario.name]

    def _be_the_updater(self, output: Path, observer: Callable[[], Observer] | None, command: str) -> None:
        """In the child: never returns."""
        code = 99
        try:
            signal.alarm(LIMIT)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            fd = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            if observer:
                Shim(str(self.root), observer()).put()
            code = run_updater([command, "-c", str(self.config), "--root", str(self.root)])
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _lay_around(self) -> None:
        beside = self.around / "beside"
        (beside / "private").mkdir(parents=True)
        (beside / "private").chmod(0o700)
        (beside / "file").write_text("not ours")
        (beside / "file").chmod(0o640)
        (beside / "program").write_text("#!/bin/sh\n")
        (beside / "program").chmod(0o755)
        (beside / "link").symlink_to("file")


def run_updater(arguments: list[str]) -> int:
    """The command `updater` in this process; returns its exit code."""
    from updater.cli.main import main

    try:
        main(arguments)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    except BaseException:  # noqa: BLE001 (shown, as the interpreter does)
        sys.excepthook(*sys.exc_info())
        return 98
    return 0


def _with_address(pickled: bytes, theirs: bytes, ours: bytes) -> bytes:
    assert len(theirs) == len(ours), "or the lengths in a pickle would be wrong; ephemeral ports have five digits"
    return pickled.replace(theirs, ours)


def quick_directory() -> str | None:
    """A file system in memory that programs may be run from, where there is one: an fsync costs nothing there."""
    shared = Path("/dev/shm")
    try:
        allows = not os.statvfs(shared).f_flag & os.ST_NOEXEC and os.access(shared, os.W_OK)
    except OSError:
        return None
    return str(shared) if allows else None


def _settings(server: str) -> dict[str, Any]:
    timeouts = {"status": 3, "start": 3, "stop": 3, "heartbeat": 3, "download": 2.5}
    return {"server": server, "interval": 60, "hostname": "h1", "timeouts": timeouts, "watch": 3600, "tools": ["sh"]}
