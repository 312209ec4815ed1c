"""Checks variables META_... for misspelt names: an error in meta.env, which may contain only assignments, and a warning in the
environment, which may contain variables of other programs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

from meta.errors import Problem
from meta.suggestions import closest
from updater.wire.text import quoted

PREFIX = "META_"
OF_THE_TOKEN = "META_TOKEN"  # noqa: S105 (a variable's name)
_NO_CODE = re.compile(  # for a shell: what a backslash, quotes and a number sign make of the text
    r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?<![^\s;&|()])#[^\n]*""", re.DOTALL | re.ASCII
)
_SET = re.compile(r"(?<![^\s;&|(){}`])([A-Za-z_]\w*)=", re.ASCII)
_SUBSTITUTED = re.compile(r"\$\([^()]*\)|\$\{[^{}]*\}|`[^`]*`")
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VALUE = r"=[^\s;&|<>()]*"
_ASSIGNS = re.compile(
    rf"\s*(?:{_NAME}{_VALUE}(?:\s+{_NAME}{_VALUE})*|export(?:\s+{_NAME}(?:{_VALUE})?)+)?\s*", re.ASCII
)
_APART = re.compile(rf"\s*(?:export\s+)?({_NAME})\s+=", re.ASCII)
_ODD = re.compile(
    r"(?:^|[\s;])([^\s;=]*[^\s!-~][^\s;=]*)", re.ASCII
)  # a word with what is none of ASCII's visible characters
_BREAK = "\0"  # a line end within a quotation, or after a backslash
_MISSPELT = ("META", "EMTA", "MTEA", "MEAT", "MEA", "MET", "MMETA", "MEETA", "METTA", "METAA")


def known(command: click.Command) -> set[str]:
    """The variables of a command and of its subcommands."""
    found = {OF_THE_TOKEN} | {one.envvar for one in command.params if isinstance(one.envvar, str)}
    if isinstance(command, click.Group):
        found = found.union(*map(known, command.commands.values()))
    return found


def problems(text: str, names: Iterable[str]) -> list[Problem]:
    """The problems in a meta.env, which a shell reads: unknown and misspelt variables, and lines that set no variable."""
    names = sorted(names)
    found, number = [], 1
    for kept in _NO_CODE.sub(_blank, text).split("\n"):
        line = kept.replace(_BREAK, "")
        wrong = [(match, _unknown(match[1], names)) for match in _SET.finditer(line)]
        wrong = [(match, text) for match, text in wrong if text]
        found += [Problem(match[1], number + _breaks(kept, match.start()), text) for match, text in wrong]
        if not wrong and (text := _no_assignment(line)):
            found.append(Problem("", number, text))
        number += 1 + kept.count(_BREAK)
    return found


def _unknown(variable: str, names: Sequence[str]) -> str:
    """What is wrong with the name of a variable, or ""."""
    if variable in names:
        return ""
    if variable.startswith(PREFIX):
        close = _nearest(variable, names)
        return (
            f"unknown variable; did you mean {close}?" if close else f"unknown variable; known are {', '.join(names)}"
        )
    close = _with_prefix(variable, names)
    return f"does not begin with {PREFIX}, as all variables of meta do; did you mean {close}?" if close else ""


def _no_assignment(line: str) -> str:
    """Why a line, whose quotations are removed, does more than set variables, or ""."""
    line = _SUBSTITUTED.sub("q", line)
    if all(_ASSIGNS.fullmatch(part) for part in line.split(";")):
        return ""
    if odd := _ODD.search(line):
        return f"sets no variable: {quoted(odd[1])} is no name"
    text = "sets no variable: write NAME=value, without blanks around the =; put a value with blanks in quotes"
    return (
        f"a shell would run {apart[1]} as a command: remove the blank before its ="
        if (apart := _APART.match(line))
        else text
    )


def _blank(match: re.Match[str]) -> str:
    """The replacement of a comment or quotation: a placeholder, so that it stays part of its word, and its line ends."""
    breaks = _BREAK * match[0].count("\n")
    return breaks if match[0][0] == "#" or match[0] == "\\\n" else f"q{breaks}q"


def _breaks(kept: str, at: int) -> int:
    """How many _BREAKs come before the character at position `at`, which is counted without them."""
    passed = 0
    for position, character in enumerate(kept):
        if character == _BREAK:
            passed += 1
        elif position - passed == at:
            break
    return passed


def gone_away(environment: Iterable[str], gone: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that was a setting in the previous release. gone: as in meta.settings."""
    for variable in sorted(gone.keys() & environment):
        yield f"the variable {variable} is no longer a setting and is ignored: {gone[variable]}"


def near_misses(environment: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable that is probably a misspelt META_..."""
    names = sorted(names)
    for variable in sorted(environment):
        if variable in names:
            continue
        if close := (_nearest if variable.startswith(PREFIX) else _with_prefix)(variable, names):
            yield f"the variable {variable} is unknown; did you mean {close}?"


def keys_of_the_file(environment: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """A sentence for each variable that is spelt as a key of the configuration file, by variable."""
    spelt = {PREFIX + re.sub("([A-Z])", r"_\1", key).upper(): key for key in keys}
    text = "the variable {} is unknown: write {} into the --config file"
    return {variable: text.format(variable, spelt[variable]) for variable in sorted(spelt.keys() & environment)}


def others(environment: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each META_... that is neither known nor nearly so: a service would run without what it is to say."""
    names = sorted(names)
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and not _nearest(variable, names):
            yield f"the variable {variable} is unknown"


def _nearest(variable: str, names: Iterable[str]) -> str:
    """The nearest known variable, compared without the prefix; "" if none is near."""
    close = closest(variable.removeprefix(PREFIX), (name.removeprefix(PREFIX) for name in names))
    return PREFIX + close if close else ""


def _with_prefix(variable: str, names: Iterable[str]) -> str:
    """The known variable that differs only by a misspelt prefix, such as swapped letters or a missing underscore; or ""."""
    text = variable.upper()
    for name in names:
        end = name.removeprefix(PREFIX)
        if text.endswith(end) and text.removesuffix(end).strip("_") in _MISSPELT:
            return name
    return ""
