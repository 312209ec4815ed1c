"""Errors, named by what to do about them. Each error of a library is turned into one of these where it is raised.

The text of an error is one sentence for people. `exit_code` is the exit code of a command that fails with it.
"""

from typing import NamedTuple

from updater.wire.text import file_name


class MetaError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class TryLater(MetaError):
    """A database, a port or another service is not available now; the same may work later."""


class Unknown(MetaError):
    """The database did not say whether it wrote: check before you do it again."""


class TooMany(TryLater):
    """A limit on a number or a rate is exceeded."""


class Misconfigured(MetaError):
    """A person must change an option, a file or the environment."""

    exit_code = 2


def missing_extra(error: ImportError, extra: str) -> Misconfigured:
    """Return the error for a missing library that belongs to an extra of setup.cfg."""
    return Misconfigured(f"the Python package {error.name} is not installed: run ./control install {extra}")


class Unauthorised(MetaError):
    """The token in a request is unknown, is revoked, has expired, or belongs to another principal."""


class NotThere(MetaError):
    """The thing that was named does not exist."""


class Problem(NamedTuple):
    """One thing that is wrong in a file."""

    path: str  # like `agents[0].cmd`; "": the file itself
    line: int  # from 1; 0: unknown
    text: str


class RecordsError(Misconfigured):
    """A file is invalid; `problems` has everything that is wrong in it."""

    def __init__(self, file: str, problems: list[Problem]):
        super().__init__(file, problems)
        self.file = file
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(shown(self.file, problem) for problem in self.problems)


def shown(file: str, problem: Problem) -> str:
    """Return `FILE:LINE: PATH: text`, without the parts that are blank."""
    place = f"{file_name(file)}:{problem.line}" if problem.line else file_name(file)
    return ": ".join(part for part in (place, problem.path, problem.text) if part)


class EditRefused(Misconfigured):
    """An edit is invalid, and nothing was changed; `problems` has everything that is wrong."""

    def __init__(self, problems: list[Problem]):
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(shown("", problem) for problem in self.problems)


class Banned(EditRefused):
    """An edit orders a version that is banned; it is possible again when the ban is lifted."""

    exit_code = 1


class Unconfirmed(MetaError):
    """An edit removes so much that a person must confirm it.

    removals: what it removes, in words; remedy: how to confirm it.
    """

    exit_code = 2

    def __init__(self, removals: list[str], remedy: str):
        super().__init__(removals, remedy)
        self.removals = removals
        self.remedy = remedy

    def __str__(self) -> str:
        looks = "(a truncated file, or one of another fleet, looks like this)"
        return f"{'; '.join(self.removals)} {looks}; if you want that: {self.remedy}"


class Conflict(MetaError):
    """The records were changed since they were read: read them again, and repeat the edit."""

    def __init__(self, name: str, expected: int, actual: int, lines: list[str]):
        super().__init__(name, expected, actual, lines)
        self.name = name  # of the agent; "": all records
        self.expected = expected  # the revision that the edit is based on; 0: it must not exist
        self.actual = actual  # its revision now; 0: it does not exist
        self.lines = lines  # what was changed since

    def __str__(self) -> str:
        name = self.name or "the records"
        if not self.expected:
            return f"{name} exists already, since revision {self.actual}; read it, and edit that"
        now = f"now at revision {self.actual}" if self.actual else "now deleted"
        return f"{name} changed since revision {self.expected}, {now}; read it again, and repeat your edit"
