"""What is remembered of the processes of an agent's versions. Pure; a part of `memory.Memory`."""

from collections.abc import Container, Mapping
from enum import Enum
from typing import Self

import msgspec
from msgspec.structs import replace


class Guess(Enum):
    """Whether a version is taken to stay in its install by processes that lived there for long, but may have been helpers."""

    NONE = ""
    STAYS = "stays"  # such processes were seen
    DOUBTED = "doubted"  # they have ended, and its `started` was not believed
    # It was started for that, or in vain, and is believed from now on: what ended may have been a helper.
    SPENT = "spent"


class Recognised(msgspec.Struct, frozen=True):
    """The processes of a version's last start, as the kernel showed them at the last look."""

    version: str
    boot: str = ""  # the boot of the host or container (boots.boot_here); the other fields are valid only within it
    session: int = 0  # the session that the start ran in, see agent_environment.Mark
    token: str = ""  # the token in the environment of the start, see agent_environment.Mark
    processes: frozenset[str] = frozenset()  # identities
    # Whether this version's processes can be recognised by its directory. True once a process that had lived for a while
    # ran a program there, was named by a pid file there, or led a session there.
    placed: bool = False
    guess: Guess = Guess.NONE  # the same with less certainty, if it is not `placed`
    ports: frozenset[int] = frozenset()  # on which those of them listened that are the version itself
    since: int = 0  # when the start began, in clock ticks since the boot
    pid_files: frozenset[str] = frozenset()  # files of the install, by relative path, that have named one of them
    under_way: bool = False  # whether the start was begun and its end was not seen

    def beginning(self, boot: str, token: str, since: int) -> "Recognised":
        """The value just before another start of the version. After another boot, no process of it can be left."""
        guess = Guess.NONE if self.guess is Guess.STAYS else self.guess  # this start is for another reason
        before = replace(self.in_boot(boot), guess=guess)
        return replace(before, session=0, token=token, since=since, under_way=True)

    def in_boot(self, boot: str) -> "Recognised":
        """What of this counts in a boot: after another one, no process of it can be left."""
        if self.boot == boot:
            return self
        return Recognised(self.version, boot, placed=self.placed, guess=self.guess, pid_files=self.pid_files)

    def started_after(self, before: "Recognised | None", stays: bool) -> "Recognised":
        """The value after a start that has succeeded. before: the one before the start; stays: whether it left what stays."""
        if before is None:
            return replace(self, placed=False, guess=Guess.NONE)
        is_spent = not stays if before.placed else before.guess is Guess.DOUBTED
        return replace(self, placed=before.placed and stays, guess=Guess.SPENT if is_spent else Guess.NONE)

    def doubted(self) -> "Recognised | None":
        """The value once none of its processes exists, though its status is `started`; None for the same."""
        return replace(self, guess=Guess.DOUBTED) if self.guess is Guess.STAYS else None

    @property
    def may_be_doubted(self) -> bool:
        """Whether its `started` is not believed while none of its processes exists."""
        return self.placed or self.guess in (Guess.STAYS, Guess.DOUBTED)


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of an agent's versions. Identities are those of `updater.kernel.procfs`."""

    running: Recognised | None = None  # the processes of the current version
    begun: Recognised | None = None  # the processes of a start that has not succeeded yet
    left: Mapping[str, frozenset[str]] = {}  # version -> its processes that were still there some time after its stop
    there: Mapping[str, frozenset[str]] = {}  # version -> other programs' processes that work in its directory
    lingering: frozenset[str] = frozenset()  # those of `left` that are the agent itself, which takes long to end
    lingering_since: int = 0  # when the last of them was stopped, in clock ticks since the boot
    # On which the versions before the current one listened, while that is not proven: a way back needs these ports too.
    ports: frozenset[int] = frozenset()
    remark: str = ""  # which processes the last switch left behind, for the outcome

    def known(self, version: str) -> Recognised | None:
        """What is remembered of a version's processes; None if nothing is."""
        return next((one for one in (self.begun, self.running) if one and one.version == version), None)

    def is_cut_off(self, version: str, boot: str) -> bool:
        """Whether a start of `version` was begun in this boot, and no updater has seen how it ended."""
        begun = self.begun
        return begun is not None and begun.under_way and (begun.version, begun.boot) == (version, boot)

    def ended(self, version: str) -> Self:
        """The memory once it is known how a start of `version` ended."""
        if self.begun is None or self.begun.version != version or not self.begun.under_way:
            return self
        return replace(self, begun=replace(self.begun, under_way=False))

    def beginning(self, version: str, boot: str, token: str, since: int) -> Self:
        """The memory just before a start of `version`.

        Even if the start fails or the updater is killed, its processes are recognised by their mark. boot, token, since: see
        Recognised.
        """
        before = self.known(version) or Recognised(version, boot)
        return replace(self, begun=before.beginning(boot, token, since))

    def recognising(self, found: Recognised | None) -> Self:
        """The memory after the processes of the started version were recognised."""
        if found is None:
            return self
        begun, ports = None if self.known(found.version) is self.begun else self.begun, self.ports_before(found.version)
        return replace(self, running=replace(found, under_way=False), begun=begun, ports=ports)

    def ports_before(self, version: str) -> frozenset[int]:
        """The ports on which the versions before `version` listened, also one that died before it could be stopped."""
        is_other = self.running is not None and self.running.version != version
        return self.ports | (self.running.ports if self.running and is_other else frozenset())

    def giving_up_ports(self, version: str, ports: frozenset[int], is_proven: bool) -> Self:
        """The memory just before a stop of `version`, which listens on these ports. is_proven: whether it is gone back to."""
        running = self.running and (
            replace(self.running, ports=frozenset()) if self.running.version == version else self.running
        )
        return replace(self, running=running, ports=ports if is_proven else self.ports | ports)

    def leaving(
        self,
        version: str,
        left: frozenset[str],
        remark: str | None = None,
        main: frozenset[str] = frozenset(),
        now: int = 0,
    ) -> Self:
        """The memory after a stop of `version` that left these processes.

        remark: the new one; None keeps the old one. It is dropped if no version has left any. main: those that were main
        processes of the version; now: in clock ticks since the boot, if `main` is given.
        """
        others = {one: processes for one, processes in self.left.items() if one != version}
        left_now = others | ({version: left} if left else {})
        lingering = (self.lingering - self.left.get(version, frozenset())) | ((self.lingering | main) & left)
        remark = (self.remark if remark is None else remark) if left_now else ""
        since = now if main & left else self.lingering_since
        return replace(self.ended(version), left=left_now, lingering=lingering, lingering_since=since, remark=remark)

    def finding(self, version: str, there: frozenset[str]) -> Self:
        """The memory after other programs' processes were found in the directory of `version`."""
        others = {one: processes for one, processes in self.there.items() if one != version}
        return replace(self, there=others | ({version: there} if there else {}))

    def occupied(self, versions: Container[str], crowding: Container[str]) -> Self:
        """The memory without processes that have ended, and without the remark once none is left that a stop had left.

        versions: with processes in their directories; crowding: with processes that outlived their stop.
        """
        left = {version: processes for version, processes in self.left.items() if version in crowding}
        there = {version: processes for version, processes in self.there.items() if version in versions}
        if (left, there) == (self.left, self.there):
            return self
        lingering, remark = self.lingering & frozenset().union(*left.values()), self.remark if left else ""
        return replace(self, left=left, there=there, lingering=lingering, remark=remark)
