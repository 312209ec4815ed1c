"""Finds the files that an interpreter process runs: its script, or the classpath of a java.

Only the argument that the interpreter takes its program from counts. A program on the command line (`-c`, `-e`, `-m`) has no
script. Arguments after a program or a script are data.
"""

import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from updater import places

_MANY_IN_ONE = ("busybox", "toybox")  # programs that behave as the name by which they are called


class _Manner(NamedTuple):
    """How an interpreter parses its options: letters of short options, and the names of long ones."""

    stops: str = ""  # no script follows
    takes: str = ""  # the value is the rest of the word or, if that is empty, the next word
    takes_next: str = ""  # the value is always the next word
    eats: str = ""  # the value is the rest of the word only
    file: str = ""  # the value is the script
    long_stops: tuple[str, ...] = ()
    long_takes: tuple[str, ...] = ()
    long_file: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # subcommands that may precede the script
    only_by_option: bool = False  # a word that is not an option is the text of a program
    is_shell: bool = False  # options may also begin with `+`, and a lone `-` ends them


# All options of node itself that take the next word as their value; options of V8 do not.
_OF_NODE = """
allow-fs-read allow-fs-write build-snapshot-config conditions cpu-prof-dir cpu-prof-interval cpu-prof-name debug-port
diagnostic-dir disable-proto disable-warning dns-result-order env-file env-file-if-exists experimental-config-file
experimental-default-type experimental-loader experimental-policy experimental-sea-config heap-prof-dir
heap-prof-interval heap-prof-name heapsnapshot-near-heap-limit heapsnapshot-signal icu-data-dir import input-type
inspect-port inspect-publish-uid loader localstorage-file max-http-header-size
network-family-autoselection-attempt-timeout openssl-config policy-integrity redirect-warnings report-dir
report-directory report-filename report-signal require secure-heap secure-heap-min security-revert snapshot-blob
test-concurrency test-coverage-exclude test-coverage-include test-global-setup test-isolation test-name-pattern
test-reporter test-reporter-destination test-shard test-skip-pattern test-timeout title tls-cipher-list tls-keylog
trace-event-categories trace-event-file-pattern trace-require-module unhandled-rejections use-largepages v8-pool-size
watch-kill-signal watch-path
"""

_MANNERS = {
    r"(?:r?ba|da|a|r?k|mk|lk|ok|pdk|r?z|ya|po)?sh": _Manner(
        "cs", takes_next="oO", long_takes=("--rcfile", "--init-file"), is_shell=True
    ),
    r"t?csh": _Manner("cs"),
    r"fish": _Manner(
        "c",
        "CdDfop",
        long_stops=("--command",),
        long_takes=("--init-command", "--debug", "--debug-output", "--features", "--profile", "--profile-startup"),
    ),
    r"(?:python|pypy)": _Manner("cm", "WXQ", long_takes=("--check-hash-based-pycs",)),
    r"perl": _Manner("eE", "I", eats="MmiFCDdVx"),
    r"j?ruby(?:-mri)?": _Manner(
        "e",
        "rICEX",
        eats="KTWxiF",
        long_takes=(
            "--disable",
            "--enable",
            "--encoding",
            "--external-encoding",
            "--internal-encoding",
            "--backtrace-limit",
        ),
    ),
    r"php(?:-cgi|-cli)?": _Manner(
        "rRBES",
        "cdzgt",
        file="fF",
        long_stops=("--run", "--server", "--process-code", "--process-begin", "--process-end"),
        long_takes=("--php-ini", "--define", "--zend-extension", "--docroot"),
        long_file=("--file", "--process-file"),
    ),
    r"lua(?:jit)?": _Manner("e", "l"),
    r"tclsh": _Manner(long_takes=("-encoding",)),
    r"mono(?:-sgen)?": _Manner(long_takes=("--config",)),
    r"guile": _Manner("c", "leLxC", file="s"),
    r"node|nodejs": _Manner(
        "ep",
        "rC",
        long_stops=("--eval", "--print", "--test", "--run"),
        long_takes=tuple(f"--{name}" for name in _OF_NODE.split()),
    ),
    r"dotnet": _Manner(
        long_takes=(
            "--depsfile",
            "--runtimeconfig",
            "--fx-version",
            "--additionalprobingpath",
            "--roll-forward",
            "--additional-deps",
        ),
        commands=("exec",),
    ),
    r"deno": _Manner(
        takes="cL",
        long_takes=("--config", "--import-map", "--cert", "--location", "--seed", "--log-level", "--lock", "--preload"),
        commands=("run",),
    ),
    r"bun": _Manner(
        "ep",
        "rcdl",
        long_stops=("--eval", "--print"),
        long_takes=(
            "--preload",
            "--require",
            "--import",
            "--config",
            "--cwd",
            "--env-file",
            "--define",
            "--loader",
            "--port",
        ),
        commands=("run",),
    ),
    r"[gmn]?awk|original-awk": _Manner(
        "e",
        "vFilW",
        eats="dDopL",
        file="fE",
        long_stops=("--source",),
        long_takes=("--assign", "--field-separator", "--include", "--load"),
        long_file=("--file", "--exec"),
        only_by_option=True,
    ),
    r"expect": _Manner("c", "D", file="fb"),
    r"Rscript": _Manner("e"),
    r"R": _Manner("e", "dg", file="f", long_file=("--file",), only_by_option=True),
}
# python3.13t, python3.11-dbg, perl5.36-x86_64-linux-gnu, bash-5.2, zsh-static: but no node-exporter.
_FLAVOUR = r"(?:-?\d[\w.+\-]*|-static|-dbg|-c)?"
_BY_NAME = [(re.compile(f"(?:{name}){_FLAVOUR}"), manner) for name, manner in _MANNERS.items()]
_CLASSPATHS = ("-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path")
_OF_JAVA = (
    "--add-exports",
    "--add-modules",
    "--add-opens",
    "--add-reads",
    "--describe-module",
    "--enable-native-access",
    "--limit-modules",
    "--patch-module",
    "--source",
    "-d",
)  # each takes the next word, where it has no `=`


def run_by(program: str, arguments: Sequence[str]) -> list[str]:
    """The paths that an interpreter runs, as written on its command line; [] if there are none.

    program: the path of the interpreter, "" if it cannot be read; arguments: the command line, its name first.
    """
    name, words = os.path.basename(program), list(arguments[1:])  # noqa: PTH119 (only a name)
    if arguments and (not name or name in _MANY_IN_ONE):
        name = os.path.basename(arguments[0]).lstrip("-")  # noqa: PTH119
    if name in _MANY_IN_ONE and words:
        name = words.pop(0)
    if name == "java":
        return _of_java(words)
    return next((_script(manner, words) for pattern, manner in _BY_NAME if pattern.fullmatch(name)), [])


@lru_cache(1024)
def is_interpreter(name: str) -> bool:
    """Whether a program of this name is an interpreter, or may be one."""
    return name == "java" or name in _MANY_IN_ONE or any(pattern.fullmatch(name) for pattern, _ in _BY_NAME)


def is_any_below(install: Path, working: str, words: Iterable[str]) -> bool:
    """Whether one of these paths leads below the install. working: the directory that they are relative to."""
    for word in words:
        path = Path(working, word)
        if places.exists(path):
            real = path.resolve() if places.is_directory(path) else path.parent.resolve() / path.name
            if install.resolve() in (real, *real.parents):
                return True
    return False


def _script(manner: _Manner, words: list[str]) -> list[str]:
    for _ in range(1 + len(manner.commands)):
        found, is_over = _options(manner, words)
        if found is not None:
            return found
        if is_over or not words or words[0] not in manner.commands:
            break
        del words[0]
    return [] if manner.only_by_option else words[:1]


def _options(manner: _Manner, words: list[str]) -> tuple[list[str] | None, bool]:
    """Remove the options from `words`; return (script, whether a `--` or `-` ended the options).

    The script is a list of one path if an option names it, [] if there is none, None if it may follow.
    """
    while words and words[0].startswith(("-", "+") if manner.is_shell else "-"):
        word = words.pop(0)
        if word == "--" or (word == "-" and manner.is_shell):
            return None, True
        if word == "-":
            return [], True
        is_long = word.startswith("--") or word in manner.long_takes
        if (found := (_long_option if is_long else _letters)(manner, word, words)) is not None:
            return found, False
    return None, False


def _long_option(manner: _Manner, word: str, words: list[str]) -> list[str] | None:
    """The script as in `_options`; an option's value is removed from `words`."""
    option, equals, value = word.partition("=")
    option = option.replace("_", "-")  # as node does
    if option in manner.long_file:
        return [value] if equals else words[:1]
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
        if letter in manner.takes_next or (letter in manner.takes and not value):
            del words[:1]
        if letter in manner.takes + manner.eats:
            break
    return None


def _of_java(words: list[str]) -> list[str]:
    """The jar, the entries of the classpath, or a source file."""
    found: list[str] = []
    is_jar = False
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if word == "-jar":
            is_jar = True
        elif option in _CLASSPATHS:
            found += (value if equals else "".join(words[:1])).split(":")
            del words[: not equals]
        elif option in _OF_JAVA:
            del words[: not equals]
        elif word in ("-m", "--module") or option == "--module":
            break
        elif not word.startswith(("-", "@")):
            found = [word] if is_jar else [*found, word]
            break
    return [one.removesuffix("*") for one in found if one.removesuffix("*")]
