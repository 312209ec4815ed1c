"""Rules for the names in an archive, and the set of paths that its members have used so far. No I/O.

No two members have the same path, none lies below a symlink or a file, and every symlink, followed to its end, stays inside
the archive. Names are compared as on Linux: case matters, and a backslash is an ordinary character.
"""

from collections.abc import Sequence

from updater.artifact.tar_reader import DIRECTORY, FILE, HARD_LINK, PROGRAM, SYMLINK, Limits, Member, shown
from updater.errors import Refused

# Names at the archive's root that the updater writes itself: first under a temporary name, then renamed.
_OURS = (".version", ".installed", "..version.new", "..installed.new")
_A_GOOD_TARGET = 'a target must be relative, with every ".." first, and stay inside the archive'


def name_problem(name: str, limits: Limits) -> str:
    """Why a member must not have this relative name (without a trailing slash), or ""."""
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

    Every `..` must come first, where it climbs a real directory, since no member lies below a symlink. After a name it could
    climb out of the target of another symlink: `here -> .`, then `out -> here/..`.
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
    """The paths that exist once the members so far are unpacked."""

    def __init__(self, limits: Limits) -> None:
        self.kinds: dict[str, str] = {}  # kind by path, with the directories that are only implied by a name below them
        self._limits = limits

    def claim(self, member: Member) -> None:
        """Add a member's path; raises Refused with the reason if the member must not be unpacked."""
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
        """Raises Refused unless each of these top-level names is an executable file."""
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
    """The member name that a hard link refers to; `tar c .` writes targets with a leading `./`."""
    return link.target.removeprefix("./")
