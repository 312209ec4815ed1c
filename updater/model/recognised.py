"""What is remembered of the processes of a version's last start. Pure; a part of `memory.Memory`."""

import msgspec
from msgspec.structs import replace


class Recognised(msgspec.Struct, frozen=True):
    """The processes of a version's last start, as the kernel showed them at the last look."""

    version: str
    boot: str = ""  # the boot of the host or container (processes.boot_here); the other fields are valid only within it
    session: int = 0  # the session that the start ran in, see agent_environment.Mark
    token: str = ""  # the token in the environment of the start, see agent_environment.Mark
    processes: frozenset[str] = frozenset()  # identities
    # Whether this version's processes can be recognised by its directory. True once a process that had lived for a while
    # ran a program there, was named by a pid file there, or led a session there.
    placed: bool = False
    ports: frozenset[int] = frozenset()  # on which they listened
    since: int = 0  # when the start began, in clock ticks since the boot
    pid_files: frozenset[str] = frozenset()  # files of the install, by relative path, that have named one of them
    under_way: bool = False  # whether the start was begun and its end was not seen

    def beginning(self, boot: str, token: str, since: int) -> "Recognised":
        """The value just before another start of the version. After another boot, no process of it can be left."""
        here = self if self.boot == boot else Recognised(self.version, placed=self.placed, pid_files=self.pid_files)
        return replace(here, boot=boot, session=0, token=token, since=since, under_way=True)
