"""Which names an archive may use: pure rules, and a book of what its members have claimed so far.

Promises that no two members mean the same path, that none lies below a symlink or a file, and that every symlink, followed to
its end, stays inside. Names are Linux's: `Makefile` and `makefile` are two, and a backslash is a letter like others.
"""

from collections.abc import Sequence

from updater.artifact.tar_reader import DIRECTORY, FILE, HARD_LINK, PROGRAM, SYMLINK, Limits, Member, shown
from updater.errors import Refused

# At the top these belong to the updater, which writes a file under a name of its own and then renames it.
_OURS = (".version", ".installed", "..version.new", "..installed.new")
_A_GOOD_TARGET = 'a target must be relative, with every ".." first, and stay inside the archive'


def name_problem(name: str, limits: Limits) -> str:
    """Why a member must not have this relative name (no slash at its end), or ""."""
    if problem := _text_problem(name, limits):
        return problem
    parts = name.split("/")
    if len(parts) > limits.depth:
        return f"is more than {limits.depth} directories deep"
    long = len(name.encode()) > limits.part
    for part in parts:
        if part in ("", ".", ".."):
            return f"has a part {shown(part)}"
        if part[-1] == " " or part[0] == " ":
            return "has a part that begins or ends with a blank"
        if long and len(part.encode()) > limits.part:
            return f"has a part of more than {limits.part} bytes"
    return ""


def target_problem(name: str, target: str, limits: Limits) -> str:
    """Why the symlink `name` must not have this target, or "".

    All `..` must come first: there they climb real directories, as no member lies below a symlink. One that comes after a
    name could climb from wherever a symlink of that name leads: `here -> .`, then `out -> here/..`.
    """
    if problem := _text_problem(target, limits):
        return problem
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if climbs > name.count("/"):
        return "leads out of the archive"
    if ".." in parts[climbs:]:
        return 'has a ".." after a name'
    return ""


def _text_problem(text: str, limits: Limits) -> str:
    if not text:
        return "is empty"
    if not text.isprintable():
        return "has characters that cannot be printed"
    if text[0] == "/":
        return "is absolute"
    if len(text.encode()) > limits.path:
        return f"is longer than {limits.path} bytes"
    return ""


class Claims:
    """The paths that exist after the members so far. kinds: of each path; directories are among them
    also when only a name below implied them."""

    def __init__(self, limits: Limits) -> None:
        self.kinds: dict[str, str] = {}
        self._limits = limits

    def claim(self, member: Member) -> None:
        """Enter a member into the book; raises Refused with the reason when it must not be made."""
        name, kind = member.name, member.kind
        if problem := name_problem(name, self._limits):
            raise Refused(f"member {shown(name)} {problem}")
        parent = name.rpartition("/")[0]
        if parent and self.kinds.get(parent) != DIRECTORY:
            self._imply(parent.split("/"), name)
        if kind == SYMLINK and (problem := target_problem(name, member.target, self._limits)):
            raise Refused(f"the target {shown(member.target)} of symlink {shown(name)} {problem}: {_A_GOOD_TARGET}")
        if kind == HARD_LINK:
            kind = self._kind_of_target(member)
        if kind != DIRECTORY or self.kinds.get(name) != DIRECTORY:  # a directory may be listed again
            self._enter(name, kind)

    def check_programs(self, needed: Sequence[str]) -> None:
        """Raises Refused unless each of these top-level names is a file with a run bit."""
        for name in needed:
            kind = self.kinds.get(name)
            if kind is None:
                deeper = next((path for path in self.kinds if path.endswith(f"/{name}")), "")
                raise Refused(f"no {name} at the tarball's root" + (f", but {shown(deeper)}" if deeper else ""))
            if kind == FILE:
                raise Refused(f"{name} has no run bit")
            if kind != PROGRAM:
                raise Refused(f"{name} is a {kind}, not a file")

    def _kind_of_target(self, link: Member) -> str:
        kind = self.kinds.get(linked_name(link))
        if kind in (FILE, PROGRAM):
            return kind
        raise Refused(
            f"hard link {shown(link.name)} leads to {shown(link.target)}, which is no file earlier in the archive"
        )

    def _imply(self, parts: list[str], name: str) -> None:
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            kind = self.kinds.get(directory, DIRECTORY)
            if kind != DIRECTORY:
                raise Refused(f"member {shown(name)} lies below the {kind} {shown(directory)}")
            if directory not in self.kinds:
                self._enter(directory, DIRECTORY)

    def _enter(self, name: str, kind: str) -> None:
        if name in _OURS:
            raise Refused(f"member {shown(name)} has a name that the updater keeps for itself")
        if name in self.kinds:
            raise Refused(f"member {shown(name)} is there twice, as a {self.kinds[name]} and as a {kind}")
        self.kinds[name] = kind
        if len(self.kinds) > self._limits.members:
            raise Refused(
                f"the archive has more than {self._limits.members} members, with the directories that they imply"
            )


def linked_name(link: Member) -> str:
    """The member that a hard link's target means; `tar c .` writes it with `./`."""
    return link.target.removeprefix("./")
