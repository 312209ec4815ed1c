"""A Java properties file -> its keys and values, read as java.util.Properties does.

Promises the same logical lines, separators (`=`, `:` or a blank) and escapes. UTF-8 is taken where the bytes are UTF-8, else
ISO-8859-1, which is Java's own. Refuses a broken \\u escape, naming its line. Pure.
"""

import re
from collections.abc import Iterator

from updater.wire.text import utf16_problem

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_KEY = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


class BadProperties(ValueError):
    """The file is no properties file; the text names the line."""


def parse(data: bytes) -> dict[str, str]:
    """The bytes of a properties file -> its entries, of a key that is there twice the last. Raises BadProperties."""
    if problem := utf16_problem(data):
        raise BadProperties(problem)
    entries = {}
    for line, text in _logical_lines(_decoded(data)):
        match = _KEY.match(text)
        key, rest = (match[1], text[match.end() :]) if match else (text, "")
        entries[_unescaped(key, line)] = _unescaped(rest, line)
    return entries


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("iso-8859-1")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, text) of each line that says something, its continuations joined."""
    begun, joined = 0, ""
    for number, natural in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = natural.lstrip(_BLANKS)
        if not begun and (not line or line[0] in "#!"):
            continue
        begun = begun or number
        if _continues(line):
            joined += line[:-1]
            continue
        yield begun, joined + line
        begun, joined = 0, ""
    if begun:
        yield begun, joined


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _unescaped(text: str, line: int) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] == "u":
            raise BadProperties(f"line {line}: \\u must be followed by four hex digits")
        return _ESCAPES.get(match[2], match[2])

    return _ESCAPE.sub(one, text)
