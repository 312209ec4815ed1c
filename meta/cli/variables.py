"""The variables META_... that are known: one that is misspelt is refused in meta.env, and warned of in the environment, where
others may have put what is not for us. Pure."""

import re
from collections.abc import Iterable, Iterator

import click

from meta.errors import Problem
from meta.hints import closest

PREFIX = "META_"
OF_THE_TOKEN = "META_TOKEN"  # noqa: S105 (a variable's name)
_NO_CODE = re.compile(  # for a shell: what a backslash, quotes and a number sign make of the text
    r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?<![^\s;&|()])#[^\n]*""", re.DOTALL
)
_SET = re.compile(r"(?<![^\s;&|(){}`])(META_\w*)=")


def known(command: click.Command) -> set[str]:
    """The variables of a command and of all below it."""
    found = {OF_THE_TOKEN} | {one.envvar for one in command.params if isinstance(one.envvar, str)}
    if isinstance(command, click.Group):
        found = found.union(*map(known, command.commands.values()))
    return found


def problems(text: str, names: Iterable[str]) -> list[Problem]:
    """What is wrong in a meta.env, which a shell reads: variables META_... that are not known."""
    names = sorted(names)
    found = []
    for number, line in enumerate(_NO_CODE.sub(_blank, text).split("\n"), 1):
        for variable in _SET.findall(line):
            if variable not in names:
                close = _nearest(variable, names)
                hint = f"did you mean {close}?" if close else f"known are {', '.join(names)}"
                found.append(Problem(variable, number, f"unknown variable; {hint}"))
    return found


def _blank(match: re.Match[str]) -> str:
    """What sets nothing, as many lines of it. A quotation stays a part of its word."""
    lines = "\n" * match[0].count("\n")
    return lines if match[0][0] == "#" or match[0] == "\\\n" else f"q{lines}q"


def near_misses(environment: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """A sentence for each variable META_... that is probably misspelt."""
    names = sorted(names)
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in names and (close := _nearest(variable, names)):
            yield f"the variable {variable} means nothing here; did you mean {close}?"


def _nearest(variable: str, names: Iterable[str]) -> str:
    """By what follows the prefix, which all have in common; "" where none is near."""
    close = closest(variable.removeprefix(PREFIX), (name.removeprefix(PREFIX) for name in names))
    return PREFIX + close if close else ""
