"""Errors named by their remedy; every foreign error becomes one of these where it is born.

An error's text is one sentence for the person who reads it; `exit_code` is what the command ends with.
"""

from typing import NamedTuple


class MetaError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class TryLater(MetaError):
    """The database, the port, a peer: it may be well another time."""


class Misconfigured(MetaError):
    """A person must change an option, a file or the environment."""

    exit_code = 2


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
