"""`./control demo`: the whole job on this machine, with real processes on free ports, told step by step.

Every line that is printed was seen to be true at meta or on a host; what does not come true in time ends it with exit code 1.
"""

import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from lab import agents
from lab.fleet import Host, Late, Meta, until
from lab.story import Story

T = TypeVar("T")
AGENT = "load-agent"
HOSTS = ("web-01", "web-02", "db-01")
SETTINGS = {"interval": 1, "watch": 3, "timeouts": {"start": 2, "stop": 5}}


class Interrupted(Exception):
    """A person, or who started us, wants it to end."""


class Interrupts:
    """INT and TERM are noted, and end the story where it waits or goes on: never between the start of a process and the note
    that there is one. What comes while everything is being stopped changes nothing."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number

    def check(self) -> None:
        """Raises Interrupted after a signal."""
        if self.number:
            raise Interrupted

    def until(self, what: str, probe: Callable[..., T], *arguments: object, within: float = 20) -> T:
        """As lab.fleet.until, which raises Late."""

        def watched() -> T:
            self.check()
            return probe(*arguments)

        return until(what, watched, within=within)


@dataclass
class Fleet:
    """What the demo drives. directory: for its own files; edited: when the last change was begun, in Unix seconds."""

    meta: Meta
    directory: Path
    hosts: list[Host]
    story: Story
    interrupts: Interrupts
    edited: float = 0.0

    def publish(self, version: str, program: str = agents.PROGRAM) -> None:
        """Pack a version, and publish it as a release engineer does."""
        made = agents.publish(self.directory, AGENT, version, agents.files(version, program))
        self._meta("publish", str(made.path))

    def set(self, *arguments: str) -> None:
        """Change the record as a release engineer does."""
        self.edited = (
            time.time()
        )  # before, not after: on a busy machine hosts have changed before the command has ended
        self._meta("set", AGENT, *arguments, "--yes")

    def unset(self, *arguments: str) -> None:
        """Take fields of the record away, or an override."""
        self._meta("unset", AGENT, *arguments, "--yes")

    def ban(self, version: str, why: str) -> None:
        """Take the record back to before this version, and ban it."""
        self._meta("ban", AGENT, version, "--why", why, "--yes")
        self._meta("rollback", "--agent", AGENT, "--why", why, "--yes")

    def see_history(self) -> None:
        """Show what was changed, by whom and why."""
        for line in self._meta("history", AGENT).splitlines():
            self.story.say(line)

    def _meta(self, *command: str) -> str:
        self.interrupts.check()
        self.story.say(f"$ meta {shlex.join(command)}")
        return self.meta.run(*command).stdout

    def see(self, version: str, hosts: list[Host]) -> None:
        """Wait until meta has it from each of these hosts that the version runs there, and show it."""
        rows = []
        for host in hosts:
            self.interrupts.until(f"{host.name} runs {version}", self._runs, host, version)
            up = self.interrupts.until(f"{AGENT} notes that it is up", self._came_up, host, version)
            when = ("already before", "-") if up < self.edited else (f"{up - self.edited:.2f} s", self._down(host))
            rows.append((host.name, version, "started", *when))
        self.story.table(("host", "version", "status", "after the edit", "agent down for"), rows)

    def see_good(self) -> None:
        """Wait until the desired version has come through its watch everywhere, as a script would."""
        *_, last = self._meta("status", AGENT, "--watch", "--within", "60s").splitlines()
        self.story.say(last)

    def see_rollback(self, bad: str, back: str) -> None:
        """Wait until each host has tried the bad version, gone back, and said so to meta."""
        rows, evidence = [], ""
        for host in self.hosts:
            outcome = self.interrupts.until(f"{host.name} rolls {bad} back", self._rolled_back, host, bad)
            self.interrupts.until(f"{host.name} runs {back} again", self._runs, host, back)
            up = self.interrupts.until(f"{AGENT} notes that it is back", self._came_up, host, back, self.edited)
            rows.append(
                (
                    host.name,
                    f"{bad} -> {back}",
                    "started",
                    f"{up - self.edited:.2f} s",
                    str(outcome["reason"]),
                )
            )
            evidence = str(outcome["evidence"])
        self.story.table(("host", "rolled back", "status", "back after", "why"), rows)
        self.story.say(f"what the agent last said: {evidence}")

    def _runs(self, host: Host, version: str) -> bool:
        seen = self.meta.status(AGENT).get(host.name) or {}
        return (seen.get("version"), seen.get("status")) == (version, "started")

    def _rolled_back(self, host: Host, version: str) -> dict[str, object]:
        outcome = (self.meta.status(AGENT).get(host.name) or {}).get("outcome") or {}
        return outcome if (outcome.get("to"), outcome.get("result")) == (version, "rolled back") else {}

    def _came_up(self, host: Host, version: str, since: float = 0.0) -> float:
        noted = reversed(agents.events(host.root / AGENT))
        return next((at for event, v, at in noted if (event, v) == ("up", version) and at > since), 0.0)

    def _down(self, host: Host) -> str:
        """How long the agent was down in its last change, by its own notes."""
        events = agents.events(host.root / AGENT)
        if len(events) < 2 or events[-2][0] != "down":
            return "-"
        return f"{events[-1][2] - events[-2][2]:.2f} s"


def play(story: Story, directory: Path, stack: ExitStack, interrupts: Interrupts) -> None:
    """The story itself. Raises Late when something does not come true, and Interrupted."""
    meta = stack.enter_context(Meta(directory / "meta"))
    story.step("Start meta and three updaters, each with a root of its own")
    meta.start(wait=interrupts.until)
    hosts = [stack.enter_context(Host(directory / name, meta.address, **SETTINGS)) for name in HOSTS]
    for host in hosts:
        interrupts.check()
        host.start()
    story.say(f"meta on {meta.address}; updaters {', '.join(HOSTS)}")

    fleet = Fleet(meta, directory, hosts, story, interrupts)
    story.step(f"First install: publish {AGENT} 1.0.0, and desire it everywhere")
    fleet.publish("1.0.0")
    fleet.set("version=1.0.0", f"tarball={meta.url}/tarball")
    fleet.see("1.0.0", hosts)

    story.step("Upgrade one host: an override gives db-01 the version 1.0.1")
    fleet.publish("1.0.1")
    fleet.set("version=1.0.1", "--for", "hosts:db-01", "--why", "try it on one host")
    fleet.see("1.0.1", hosts[2:])
    if any(host.current(AGENT) != "1.0.0" for host in hosts[:2]):
        raise Late("the other hosts should have kept 1.0.0")
    story.say("web-01 and web-02 keep 1.0.0")

    story.step("Upgrade all: the record itself says 1.0.1, and the override goes")
    fleet.set("version=1.0.1")
    fleet.unset("--for", "hosts:db-01")
    fleet.see("1.0.1", hosts)

    story.step(
        "Wait until it has come through its watch on all hosts: from then on it is what a failed version goes back to"
    )
    fleet.see_good()

    story.step("Publish a 1.0.2 that dies at its start, and desire it everywhere")
    fleet.publish("1.0.2", agents.BROKEN_PROGRAM)
    fleet.set("version=1.0.2")
    fleet.see_rollback("1.0.2", "1.0.1")

    story.step("Ban it, so that no host is told to run it again, and go back to what was desired before")
    fleet.ban("1.0.2", "dies at its start")
    fleet.see_history()


def main() -> int:
    """Returns the exit code: 0 when everything was seen to be true, 1 when not, 128 + the signal's number when interrupted."""
    story, interrupts = Story(), Interrupts()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ops-updater-demo-") as directory:
        try:
            with ExitStack() as stack:
                play(story, Path(directory), stack, interrupts)
        except (Late, Interrupted) as e:
            if interrupts.number:  # Ctrl-C ends the command of the moment too, which is late then
                story.say("interrupted; everything that was started is stopped")
                return 128 + interrupts.number
            story.fail(str(e), sorted(Path(directory).glob("*/*.log")))
            return 1
    story.done(f"All of it was seen to be true, in {time.monotonic() - began:.1f} s; nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
