"""Errors named by their remedy; every foreign error becomes one of these where it is born.

An error's text is one sentence for the person who reads it; `exit_code` is what the command ends with.
"""

from typing import NamedTuple


class MetaError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class TryLater(MetaError):
    """The database, the port, a peer: it may be well another time."""


class Unknown(MetaError):
    """The database did not say whether it wrote: look, before it is done again."""


class TooMany(TryLater):
    """More than we take of something in this time, or at all."""


class Misconfigured(MetaError):
    """A person must change an option, a file or the environment."""

    exit_code = 2


def missing_extra(error: ImportError, extra: str) -> Misconfigured:
    """What to do about a library that one of setup.cfg's extras brings."""
    return Misconfigured(f"the Python package {error.name} is not installed: run ./control install {extra}")


class NotThere(MetaError):
    """What was named does not exist."""


class Problem(NamedTuple):
    """One thing wrong in a file. path: like `agents[0].cmd`, "" for the file itself; line: from 1, 0 when there is none."""

    path: str
    line: int
    text: str


class RecordsError(Misconfigured):
    """A records file that must not be used, with everything that is wrong in it."""

    def __init__(self, file: str, problems: list[Problem]):
        super().__init__(file, problems)
        self.file = file
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(shown(self.file, problem) for problem in self.problems)


def shown(file: str, problem: Problem) -> str:
    """`FILE:LINE: PATH: text`, without the parts that the problem has not."""
    place = f"{file}:{problem.line}" if problem.line else file
    return ": ".join(part for part in (place, problem.path, problem.text) if part)


class EditRefused(Misconfigured):
    """An edit of the records that must not be made, with everything that is wrong with it; nothing was changed."""

    def __init__(self, problems: list[Problem]):
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(shown("", problem) for problem in self.problems)


class Banned(EditRefused):
    """An edit that brings in a version that is banned: it is well written, and may be made once the ban is gone."""

    exit_code = 1


class Unconfirmed(MetaError):
    """It takes away so much that a person must confirm it. removals: what, in words; remedy: how it is confirmed."""

    exit_code = 2

    def __init__(self, removals: list[str], remedy: str):
        super().__init__(removals, remedy)
        self.removals = removals
        self.remedy = remedy

    def __str__(self) -> str:
        looks = "(a file that was cut short, or another fleet's, looks like this)"
        return f"{'; '.join(self.removals)} {looks}; if that is meant: {self.remedy}"


class Conflict(MetaError):
    """Somebody else changed it since it was read: read it again, and edit that.

    name: the agent's, "" for all records; expected, actual: revisions, 0 for "not there"; lines: what was changed since.
    """

    def __init__(self, name: str, expected: int, actual: int, lines: list[str]):
        super().__init__(name, expected, actual, lines)
        self.name = name
        self.expected = expected
        self.actual = actual
        self.lines = lines

    def __str__(self) -> str:
        name = self.name or "the records"
        if not self.expected:
            return f"{name} is already there, since revision {self.actual}; read it, and edit that"
        now = f"now at revision {self.actual}" if self.actual else "now deleted"
        return f"{name} changed since revision {self.expected}, {now}; read what is there now, and make your edit again"
