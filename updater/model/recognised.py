"""What is remembered of the processes of a version's last start: a value, part of `memory.Memory`."""

import msgspec
from msgspec.structs import replace


class Recognised(msgspec.Struct, frozen=True):
    """The processes of a version's last start, as the kernel knew them at the last look.

    boot: of what the host runs in (processes.boot_here), outside of which they mean nothing; session, token: of the start, as
    in surroundings.Mark; processes: identities; placed: whether one that had lived for a while showed that the version stays
    where it is installed: its program lay there, its pid file named it, or it led a session there; ports: on which they
    listened; since: clock ticks of that boot just before the start; pid_files: those of the install, relative to it, that have
    named one of them.
    """

    version: str
    boot: str = ""
    session: int = 0
    token: str = ""
    processes: frozenset[str] = frozenset()
    placed: bool = False
    ports: frozenset[int] = frozenset()
    since: int = 0
    pid_files: frozenset[str] = frozenset()

    def beginning(self, boot: str, token: str, since: int) -> "Recognised":
        """The same just before another start of the version. Of another boot, no process means anything."""
        here = self if self.boot == boot else Recognised(self.version, placed=self.placed, pid_files=self.pid_files)
        return replace(here, boot=boot, session=0, token=token, since=since)
