"""Where everything lies on a host. Paths only: nothing here touches the disk.

root/<agent>/.version          the current version, one line (the peers' file)
root/<agent>/<version>/        an install; complete when it holds `.installed` or `.version` names it
root/<agent>/.<version>.new/   an install in the making
root/environment               variables for all agents, which the unit reads
root/.updater/                 our own: lock, reply.json (meta's last), agents/*.json (memories), downloads/<agent>/*.part,
                                   output/*.log (what `./control start` printed last), held/*, rollback/* and
                                   retry/* (operator requests), alive, credentials (this host's own token, which meta gave it),
                                   enrolment (a secret of one that is not answered yet),
                                   state (what the daemon says of itself, see readiness)

No name here joins two foreign ones: of `web`, `agent-1.0` and `web-agent`, `1.0` the joined names would be the same.
"""

from dataclasses import dataclass
from pathlib import Path

MARKER = ".installed"
OWN_NAME = "ops-updater"  # of the agent that the updater itself is


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
        """The root, and those of our own that hold what must outlive a crash."""
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
    def downloads(self) -> Path:
        return self.own / "downloads"

    def downloads_of(self, name: str) -> Path:
        """The directory of one agent's downloads. File names alone would not do: two agents may have the same one."""
        return self.downloads / name

    def download(self, name: str, file_name: str) -> Path:
        return self.downloads_of(name) / f"{file_name}.part"

    @property
    def outputs(self) -> Path:
        return self.own / "output"

    def output(self, name: str) -> Path:
        return self.outputs / f"{name}.log"


def root_of(install: Path) -> Path:
    """The updater's root that an install lies in."""
    return install.parent.parent
