"""Which files a process runs that is an interpreter: its script, or the classpath of a java.

Promises: only what stands where the interpreter takes its program from. A program on the command line (`-c`, `-e`, `-m`) has no
script, and what follows it is data, as every word after a script is.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from updater import places

_MANY_IN_ONE = ("busybox", "toybox")  # programs that are what they are called as


class _Manner(NamedTuple):
    """How an interpreter reads its options. stops: those after which no script comes; takes: those that take the next word, or
    the rest of theirs; eats: those that take the rest of theirs alone; file: those whose value is the script; commands: words
    before it; only_by_option: a word that is no option is the program's text."""

    stops: str = ""
    takes: str = ""
    eats: str = ""
    file: str = ""
    long_stops: tuple[str, ...] = ()
    long_takes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    only_by_option: bool = False


_MANNERS = {
    r"(?:a|ba|da|k|mk|lk|z|c|tc|fi)?sh": _Manner("cs", "oO", long_takes=("--rcfile", "--init-file")),
    r"(?:python|pypy)[\d.]*": _Manner("cm", "WX", long_takes=("--check-hash-based-pycs",)),
    r"perl[\d.]*": _Manner("eE", "I", "MmiFCDdVx"),
    r"j?ruby[\d.]*": _Manner("e", "rICE", "KTWxiF"),
    r"php[\d.\-]*": _Manner("rRBES", "cdzgt", file="fF"),
    r"lua(?:jit)?[\d.\-]*": _Manner("e", "l"),
    r"tclsh[\d.]*|mono": _Manner(),
    r"guile[\d.\-]*": _Manner("c", "leLx", file="s"),
    r"node|nodejs": _Manner(
        "ep",
        "rC",
        long_stops=("--eval", "--print", "--test"),
        long_takes=("--require", "--import", "--loader", "--experimental-loader", "--conditions"),
    ),
    r"dotnet": _Manner(
        long_takes=("--depsfile", "--runtimeconfig", "--fx-version", "--additionalprobingpath"), commands=("exec",)
    ),
    r"deno|bun": _Manner(commands=("run",)),
    r"[gmn]?awk": _Manner("e", "vFil", file="fE", long_stops=("--source",), only_by_option=True),
    r"expect": _Manner("c", "d", file="f"),
    r"Rscript": _Manner("e"),
}
_BY_NAME = [(re.compile(name), manner) for name, manner in _MANNERS.items()]
_CLASSPATHS = ("-cp", "-classpath", "--class-path", "-p", "--module-path")


def run_by(program: str, arguments: Sequence[str]) -> list[str]:
    """What an interpreter runs, in the words of its command line: paths, [] where there are none. program: the path of its own,
    "" where that cannot be read; arguments: with its name first."""
    name, words = os.path.basename(program), list(arguments[1:])  # noqa: PTH119 (no file of ours)
    if arguments and (not name or name in _MANY_IN_ONE):
        name = os.path.basename(arguments[0]).lstrip("-")  # noqa: PTH119
    if name in _MANY_IN_ONE and words:
        name = words.pop(0)
    if name == "java":
        return _of_java(words)
    return next((_script(manner, words) for pattern, manner in _BY_NAME if pattern.fullmatch(name)), [])


def is_interpreter(name: str) -> bool:
    """Whether a program of this name runs others' scripts."""
    return name == "java" or any(pattern.fullmatch(name) for pattern, _ in _BY_NAME)


def is_any_below(install: Path, working: str, words: Iterable[str]) -> bool:
    """Whether one of these paths leads to what is below the install. working: where they are relative to."""
    for word in words:
        path = Path(working, word)
        if places.exists(path):
            real = path.resolve() if places.is_directory(path) else path.parent.resolve() / path.name
            if install.resolve() in (real, *real.parents):
                return True
    return False


def _script(manner: _Manner, words: list[str]) -> list[str]:
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "-":
            return []
        if word == "--":
            break
        read = _long_option if word.startswith("--") else _letters
        if (found := read(manner, word, words)) is not None:
            return found
    if words and words[0] in manner.commands:
        words = words[1:]
    return [] if manner.only_by_option else words[:1]


def _long_option(manner: _Manner, word: str, words: list[str]) -> list[str] | None:
    """The script that it names, [] where there is none, None where one may come; takes its value from `words`."""
    option, equals, _ = word.partition("=")
    if option in manner.long_takes and not equals:
        del words[:1]
    return [] if option in manner.long_stops else None


def _letters(manner: _Manner, word: str, words: list[str]) -> list[str] | None:
    """The same for a word of short options."""
    for place, letter in enumerate(word[1:], 2):
        value = word[place:]
        if letter in manner.stops:
            return []
        if letter in manner.file:
            return [value] if value else words[:1]
        if letter in manner.takes and not value:
            del words[:1]
        if letter in manner.takes + manner.eats:
            break
    return None


def _of_java(words: list[str]) -> list[str]:
    """Its jar, the entries of its classpath, or a source file."""
    found: list[str] = []
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if word == "-jar":
            return words[:1]
        if option in _CLASSPATHS:
            found += (value if equals else "".join(words[:1])).split(":")
            del words[: not equals]
        elif word in ("-m", "--module"):
            break
        elif not word.startswith(("-", "@")):
            found.append(word)
            break
    return [one.removesuffix("*") for one in found if one.removesuffix("*")]
