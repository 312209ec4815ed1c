"""Checks whether the kernel can run a program, and says why not: the kernel itself only says "No such file".

Some scripts work for their author and on no host: a shell runs a file without `#!` by a rule of its own, and Windows editors
hide carriage returns. This module only reads, and at most the first _HEAD bytes of a program.
"""

import os
import re
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

from updater import places
from updater.wire.text import quoted

_HEAD = 4096  # bytes that are read
_LINE = 256  # bytes of the first line that the kernel reads (linux/binfmts.h, BINPRM_BUF_SIZE)
_ELF = b"\x7fELF"
_PT_INTERP = 3
_NAME_END = re.compile(rb"[ \t\0]")
_BLANKS_OF_ENV = re.compile(r"[ \t\n\v\f\r]+")  # where its -S splits
_SPLIT = re.compile(r"-v*S|--split-string=")
# What this module does not interpret: quoting and variables in env's -S, and a PATH of its own.
_UNSUPPORTED = re.compile(r"""["'\\$#]|(?:^|\s)PATH=""")
# The options of env(1) that do not change where it looks for a program; u and C take an argument.
_OPTION = re.compile(
    r"-v*(?:(?P<short>[uC])(?P<joined>.*))?|--(?P<long>unset|chdir)(?:=(?P<value>.*))?|--debug|--"
    r"|--(?:block|default|ignore)-signal(?:=.*)?|--list-signal-handling"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")


def problem(program: Path, path: str, as_if: Path | None = None) -> str:
    """Why this program cannot be run on this host, or "".

    path: the PATH that it will have; as_if: where its directory will be moved to, None if it stays.
    """
    return form_problem(program) or missing(program, path, as_if)


def form_problem(program: Path) -> str:
    """Why this program cannot be run on any host, or "". A file that cannot be read now counts as good; its start will tell."""
    head = _head(program)
    if head is None or head.startswith(_ELF):
        return ""
    if not head:
        return "it is empty"
    if head.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "it begins with a byte order mark: save it as UTF-8 without one"
    if not head.startswith(b"#!"):
        hint = ", nor does `# !`" if re.match(rb"#[ \t]*!?[ \t]*/", head) else ""
        return f"it is neither a program (ELF) nor does it begin with `#!`{hint}: only a shell would run it"
    if b"\r" in head[:_LINE].partition(b"\n")[0]:
        return (
            "its first line ends in CR LF, as editors of Windows write it: the kernel takes the CR for part of a name"
        )
    read = interpreter(head)
    if not read.name:
        return "its first line names no interpreter after `#!`"
    if read.is_cut:
        return f"its first line is longer than the {_LINE} bytes that the kernel reads"
    sought = next((name for name in (read.name, read.sought()) if _is_hidden(name)), "")
    return f"its first line names {quoted(sought)}: no program is called that" if sought else ""


def missing(program: Path, path: str, as_if: Path | None = None) -> str:
    """Why the interpreter of a well-formed program cannot be used on this host, or "". path, as_if: see `problem`."""
    head = _head(program)
    if head is None:
        return ""
    if head.startswith(_ELF):
        loader = _loader(head)
        return _interpreter_problem(loader, program.parent, as_if) if loader else ""
    read = interpreter(head)
    found = _interpreter_problem(read.name, program.parent, as_if)
    return found or _env_problem(read, path, program.parent, as_if)


class Interpreter(NamedTuple):
    """What the kernel reads of a first line; blanks are only the space and the tab."""

    name: str  # a path, "" for none
    argument: str  # everything after it, "" for none
    is_cut: bool  # the name is longer than what the kernel reads

    def words_of_env(self) -> list[str] | None:
        """The arguments of env; None if it is not env, or if they are not interpreted here."""
        if Path(self.name).name != "env":
            return None
        split = _SPLIT.match(self.argument)
        if not split:
            return [self.argument] if self.argument else []
        if _UNSUPPORTED.search(self.argument, split.end()):
            return None
        return [word for word in _BLANKS_OF_ENV.split(self.argument[split.end() :]) if word]

    def sought(self) -> str:
        """The program that env looks for; "" if it is not env, or if that is unknown."""
        return _program_of(self.words_of_env() or [])[0]


def interpreter(head: bytes) -> Interpreter:
    """The interpreter in a script's first line, as the kernel reads it (fs/binfmt_script.c). head: begins with `#!`."""
    line, end, _ = head[:_LINE].partition(b"\n")
    if not end or b"\0" in line:  # it looks for the end up to a NUL; then it leaves out the last byte
        line, end = head[: _LINE - 1], b""
    text = line[2:].lstrip(b" \t")
    if end or len(head) >= _LINE:  # else zeros follow
        text = text.rstrip(b" \t")
    name = _NAME_END.split(text, maxsplit=1)[0]
    argument = text[len(name) :].lstrip(b" \t").partition(b"\0")[0]
    is_cut = not end and len(head) >= _LINE and not _NAME_END.search(head[2:_LINE].lstrip(b" \t"))
    return Interpreter(os.fsdecode(name), os.fsdecode(argument), is_cut)


def _is_hidden(name: str) -> bool:
    """Whether the text has an invisible character. Bytes that are not UTF-8 do not count."""
    return any(not c.isprintable() and not "\udc80" <= c <= "\udcff" for c in name)


def _interpreter_problem(interpreter: str, directory: Path, as_if: Path | None) -> str:
    file = Path(interpreter)
    if as_if and file.is_relative_to(as_if):
        file = directory / file.relative_to(as_if)
    file = directory / file  # a relative one is looked for where the program is run
    if places.is_missing(file):
        return f"its interpreter {interpreter} is not on this machine"
    if not places.exists(file):  # the disk does not answer now; the start will show
        return ""
    if places.is_directory(file) or not os.access(file, os.X_OK):
        return f"its interpreter {interpreter} is not an executable file"
    return ""


def _env_problem(read: Interpreter, path: str, directory: Path, as_if: Path | None) -> str:
    """The same for the program that `env` looks for. The kernel passes everything after `env` as one argument."""
    words = read.words_of_env()
    program, is_moved = _program_of(words or [])
    if not program or (is_moved and "/" in program and not program.startswith("/")):
        return ""

    def lacks(name: str) -> str:
        if "/" in name:
            return _interpreter_problem(name, directory, as_if)
        return "" if shutil.which(name, path=path) else f"its interpreter {name} is not on the PATH of this machine"

    found = lacks(program)
    if found and " " in program and not lacks(program.split()[0]):
        return f"env looks for a program called `{program}`, blanks included: write `env -S {program}`"
    return found


def _program_of(words: list[str]) -> tuple[str, bool]:
    """(the program that env runs with these arguments, "" if unknown; whether env changes the directory first)."""
    is_moved, rest = False, list(words)
    while rest:
        word = rest.pop(0)
        if _ASSIGNMENT.fullmatch(word):
            continue
        if not word.startswith("-"):
            return word, is_moved
        option = _OPTION.fullmatch(word)
        if not option:  # it clears the environment and thus PATH, or belongs to another implementation of env
            return "", is_moved
        takes, given = (option["short"] or option["long"] or "")[:1], option["value"] or option["joined"]
        name = given or (rest.pop(0) if takes and rest else "")
        if takes == "u" and name == "PATH":
            return "", is_moved
        is_moved = is_moved or takes in ("C", "c")
    return "", is_moved


def needs_its_place(program: Path, install: Path) -> bool:
    """Whether this script's interpreter is a relative path, or lies in `install`, its future directory."""
    head = _head(program) or b""
    read = interpreter(head) if head.startswith(b"#!") else Interpreter("", "", False)
    words = [word for word in (read.name, *_BLANKS_OF_ENV.split(read.argument)) if "/" in word]
    return any(not word.startswith("/") or Path(word).is_relative_to(install) for word in words)


def _head(program: Path) -> bytes | None:
    """The first bytes, b"" if there is no such file, None if it cannot be read now."""
    try:
        with program.open("rb") as file:
            return file.read(_HEAD)
    except FileNotFoundError:
        return b""
    except OSError:
        return None


def _loader(head: bytes) -> str:
    """The dynamic loader that an ELF program names (elf(5), PT_INTERP), "" if it names none."""
    wide, order = head[4:5] == b"\x02", "<" if head[5:6] == b"\x01" else ">"
    try:
        table = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for at in range(table, table + size * min(count, 64), size or 1):
            kind = struct.unpack_from(f"{order}I", head, at)[0]
            where, length = struct.unpack_from(
                f"{order}Q16xQ" if wide else f"{order}I8xI", head, at + (8 if wide else 4)
            )
            if kind == _PT_INTERP:
                return head[where : where + length].rstrip(b"\0").decode("utf-8", "replace")
    except struct.error:
        pass
    return ""
