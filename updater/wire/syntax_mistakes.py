"""Describes syntax errors in JSON and YAML: where they are, and the probable mistake. Pure.

The texts are our own, since those of a parser change with its release. The position is the parser's, moved to a place that
does not depend on the parser.
"""

import re

from updater.wire.text import SHOWN, odd_characters, quoted

_BEFORE = 50  # characters that are shown before the place
_BREAKS = "\n\r\x85\u2028\u2029"
_WORD = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')
_HIDDEN_BLANK = re.compile(r"(?:^[ ]*|(?<=[-:,\[{])[ ]*)([^\s!-~]|[^\S \t\n\r])", re.MULTILINE)
_TEXT = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')


def place(text: str, at: int) -> tuple[int, int]:
    """(line, column), from 1, of the position `at`; the end of the text belongs to the last line that is not blank."""
    start = _start(text, at := _clamped(text, at))
    return len(re.findall(r"\r\n|[\n\r\x85\u2028\u2029]", text[:start])) + 1, at - start + 1


def in_words(text: str, at: int, hint: str) -> str:
    """`at column 12 (hint): "the line", from "there" on`: long lines are cut, and leading blanks are left out."""
    start = _start(text, at := _clamped(text, at))
    line = re.split(f"[{_BREAKS}]", text[start : at + SHOWN], maxsplit=1)[0]
    shown = line[max(0, at - start - _BEFORE) :].lstrip(" ")[:SHOWN].rstrip(" ")
    rest = line[at - start :][: SHOWN - _BEFORE].rstrip(" ")
    where = f", from {quoted(rest)} on" if rest else ", at its end"
    return f"at column {at - start + 1}{f' ({hint})' if hint else ''}: {quoted(shown)}{where if rest != shown else ''}"


def _clamped(text: str, at: int) -> int:
    return min(at, len(text.rstrip())) if not text[at:].strip() else at


def _start(text: str, at: int) -> int:
    return max(text.rfind(end, 0, at) for end in _BREAKS) + 1


def in_json(text: str, at: int) -> tuple[int, str]:
    """(position of the mistake, what it may be, or "" if unknown). at: the position at which a parser stopped."""
    before = text[:at].rstrip()
    if text[at : at + 1] in ("}", "]") and before.endswith(","):
        at = len(before) - 1
        before = before[:-1].rstrip()
    here, opened = text[at : at + 1], _opened(text[:at])
    if here == "," and before[-1:] not in tuple(":,{[") and text[at + 1 :].lstrip()[:1] in ("}", "]"):
        return at, "a comma, and nothing behind it"
    if not text[at:].strip():
        return at, f"the {text[opened[-1]]} of line {place(text, opened[-1])[0]} is not closed" if opened else ""
    return at, _json_hint(text, at, here, before, opened)


def _json_hint(text: str, at: int, here: str, before: str, opened: list[int]) -> str:
    if here == '"' and not _TEXT.match(text, at):
        return "a quote that is not closed on its line"
    if here < " ":
        return "a quote that is not closed on its line, or a character that must be escaped"
    if here == "'":
        return "quotes are double in JSON"
    if here == "\\":
        return "JSON knows no such escape; a backslash itself is written \\\\"
    if here == "#" or text.startswith(("//", "/*"), at):
        return "JSON has no comments"
    if here in "}]" and (not opened or text[opened[-1]] + here not in ("{}", "[]")):
        return "nothing is open that it could close"
    if not opened and before:
        return "there is more behind the end"
    if before.endswith(":") and here in ",}]":
        return "a value is missing before it"
    is_apart = text[len(before) : at] or before[-1:] in ('"', "}", "]")
    if opened and is_apart and before[-1:] not in tuple(":,{[") and here in '"{[-0123456789':
        return "a comma or a colon is missing before it"
    return "text needs double quotes" if here.isalpha() else ""


def _opened(text: str) -> list[int]:
    """The positions of the brackets that are still open at the end."""
    opened: list[int] = []
    for found in _WORD.finditer(text):
        if found[0] in "{[":
            opened.append(found.start())
        elif found[0] in "}]" and opened:
            opened.pop()
    return opened


def hidden_blank(text: str, at: int) -> int | None:
    """The position of a character that looks like a blank of YAML and is none, in the line of `at` or the last one before it;
    None if there is none. A parser only stumbles over what follows."""
    start = _start(text, at := _clamped(text, at))
    above = text[:start].rstrip()
    begin = _start(text, len(above)) if above else 0
    end = re.compile(f"[{_BREAKS}]|$").search(text, at)
    found = _HIDDEN_BLANK.search(text, begin, end.start() if end else len(text))
    return found.start(1) if found and not found[1][0].isprintable() else None


def in_yaml(text: str, at: int, since: int | None, opened: int | None) -> str:
    """What the mistake may be, or "" if unknown. at: the position at which a parser stopped.

    since: where the construct that cannot be parsed begins; opened: the position of an open bracket.
    """
    at = _clamped(text, at)
    here, start = text[at : at + 1], _start(text, at)
    if at == hidden_blank(text, at):
        return f"{odd_characters(here)} is no blank of YAML"
    indent = re.match(r"[ \t]*", text[start:])
    begun = text[since : since + 1] if since is not None else ""
    if here == "\t" or "\t" in (indent[0] if indent else ""):
        return "a tab, where only blanks may stand"
    if begun in ('"', "'") and since is not None:
        if text[at - 1 : at] == "\\":
            return "no such escape in double quotes; a backslash itself is written \\\\, or in single quotes"
        return f"the {begun} of line {place(text, since)[0]} is not closed"
    if here in tuple("@`%") or begun in tuple("*&!%"):
        return f"what begins with {here if here in tuple('@`%') else begun} must be in quotes"
    if opened is not None:
        return f"the {text[opened]} of line {place(text, opened)[0]} is not closed, or a comma is missing"
    if here in tuple("]}"):
        return "nothing is open that it could close"
    return _yaml_hint(text, at, start)


def _yaml_hint(text: str, at: int, start: int) -> str:
    before = text[start:at]
    if re.search(r"['\"]\s*$", before):
        return "text goes on behind a closing quote"
    if before.strip() and text.startswith("- ", at):
        return "the entries of a list begin on lines of their own"
    if text[at : at + 1] == ":" and re.search(r":\s", before):
        return "a second `: ` in one line; a value that holds one must be in quotes"
    above = text[:start].rstrip()
    if text[at : at + 1] == ":" and above and not re.search(r":(\s|$)", above[_start(above, len(above)) :]):
        return f"line {place(above, len(above))[0]} has no `: `"
    if text[at : at + 1] == ":" or not before.strip(" -"):
        return "its indentation does not fit the lines above it"
    return ""


def in_json_file(data: bytes) -> str:
    """`3: is not JSON at column 5 ...`, to follow a file name and a colon; "" if Python's parser finds no error."""
    import json

    text = data.decode("utf-8", "replace")
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        at, hint = in_json(text, e.pos)
        return f"{place(text, at)[0]}: is not JSON {in_words(text, at, hint)}"
    except (RecursionError, ValueError):
        pass
    return ""
