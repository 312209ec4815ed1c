"""The paths of an updater's root. Pure: nothing here touches the disk.

- root/<agent>/.version: the current version, one line (the Go updater's file)
- root/<agent>/<version>/: an install; complete if it holds `.installed` or `.version` names it
- root/<agent>/.<version>.new/: an install that is being unpacked
- root/environment: variables for all agents, read by the systemd unit
- root/.updater/: the updater's own files:
  - lock: held by the updater that works on this root
  - state: the daemon's readiness (updater.service.readiness)
  - alive: written after the first good heartbeat of a process, for the guard of a handover
  - reply.json: meta's last reply
  - source: how recent that reply is for the running daemon (updater.host.last_reply)
  - reachable: whether meta can wake the running daemon, in words (updater.meta_client.parking)
  - agents/<agent>.json: memories
  - downloads/<agent>/*.part: downloads
  - output/<agent>.log: the output of the last `./control start`
  - held/<agent>, rollback/<agent>, retry/<agent>: operator requests
  - credentials: the token that meta gave to this host
  - enrolment: the secret of an enrolment that meta has not answered yet

No file name joins an agent's name and a version: `web`, `agent-1.0` and `web-agent`, `1.0` would give the same name.
"""

from dataclasses import dataclass
from pathlib import Path

MARKER = ".installed"
OWN_NAME = "ops-updater"  # the agent's name of the updater itself


@dataclass(frozen=True, slots=True)
class AgentDir:
    """The directory of one agent."""

    path: Path

    @property
    def version_file(self) -> Path:
        return self.path / ".version"

    def install(self, version: str) -> Path:
        return self.path / version

    def staging(self, version: str) -> Path:
        return self.path / f".{version}.new"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below an updater's root."""

    root: Path

    def agent(self, name: str) -> AgentDir:
        return AgentDir(self.root / name)

    @property
    def own(self) -> Path:
        return self.root / ".updater"

    @property
    def lock(self) -> Path:
        return self.own / "lock"

    @property
    def state(self) -> Path:
        return self.own / "state"

    @property
    def kept_directories(self) -> tuple[Path, ...]:
        """The directories with files that must survive a crash: the root, and some of the updater's own."""
        return (self.root, self.own, self.memories, self.own / "held", self.own / "rollback", self.own / "retry")

    @property
    def memories(self) -> Path:
        return self.own / "agents"

    def held(self, name: str) -> Path:
        return self.own / "held" / name

    def rollback_request(self, name: str) -> Path:
        return self.own / "rollback" / name

    def retry_request(self, name: str) -> Path:
        return self.own / "retry" / name

    @property
    def alive(self) -> Path:
        return self.own / "alive"

    @property
    def credentials(self) -> Path:
        return self.own / "credentials"

    @property
    def enrolment(self) -> Path:
        return self.own / "enrolment"

    @property
    def last_reply(self) -> Path:
        return self.own / "reply.json"

    @property
    def source(self) -> Path:
        return self.own / "source"

    @property
    def reachable(self) -> Path:
        return self.own / "reachable"

    @property
    def downloads(self) -> Path:
        return self.own / "downloads"

    def downloads_of(self, name: str) -> Path:
        """The directory of one agent's downloads: each agent has its own, since two tarballs may have the same name."""
        return self.downloads / name

    def download(self, name: str, file_name: str) -> Path:
        return self.downloads_of(name) / f"{file_name}.part"

    @property
    def outputs(self) -> Path:
        return self.own / "output"

    def output(self, name: str) -> Path:
        return self.outputs / f"{name}.log"


def root_of(install: Path) -> Path:
    """The updater's root above the directory of an install."""
    return install.parent.parent
