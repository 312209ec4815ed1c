"""Describes why bytes or values could not be decoded into one of our types.

The texts of msgspec change with its releases, so this is the only module that reads them, and they are never shown. Every
error gets a path and a text; an error text that is not known here gets a less precise one.
"""

import ast
import re
from typing import Final

import msgspec

from updater.wire.text import counted, encoding_problem, odd_characters, one_line, plain, quoted

TOO_DEEP: Final = "is nested too deep"
_BLANKS: Final = " \t\r\n"  # JSON's white space
_AT, _OF_A_KEY = " - at `", "key` in `"
_KINDS = {
    "object": "an object", "array": "a list", "str": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "null": "null", "bytes": "bytes",
}  # fmt: skip
_UNITS = {"str": ("character",), "bytes": ("byte",)}  # of a length; others have entries
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def problem(error: Exception, data: bytes = b"") -> tuple[str, str]:
    """A msgspec.DecodeError, UnicodeError or RecursionError -> (path, text).

    An example is ("http.listen", "must be text, not a whole number"). The path is "" for the whole document, and includes a
    missing or unknown key. data: the bytes that were decoded.
    """
    if isinstance(error, RecursionError):
        return "", TOO_DEEP
    if not isinstance(error, msgspec.ValidationError):
        return "", _no_json(error, data)
    whole = str(error)
    text, _, where = whole.rpartition(_AT) if _AT in whole else (whole, "", "")
    is_key = where.startswith(_OF_A_KEY)
    path = where.removesuffix("`").removeprefix(_OF_A_KEY).removeprefix("$").removeprefix(".")
    if named := re.fullmatch(r"Object (contains unknown|missing required) field `(.+)`", text, re.DOTALL):
        its_path = f"{path}.{plain(named[2][:100])}".lstrip(".")
        return its_path, "unknown key" if named[1] == "contains unknown" else "is missing"
    return path, f"a key {_told(text)}" if is_key else _told(text)


def in_words(error: Exception, data: bytes = b"") -> str:
    """The same on one line: `http.listen: must be text, not a whole number`."""
    return ": ".join(part for part in problem(error, data) if part)


def _no_json(error: Exception, data: bytes) -> str:
    if isinstance(error, UnicodeError):
        return encoding_problem(data) or "is not UTF-8"
    at = re.search(r"\(byte (\d+)\)", str(error))
    if "truncated" in str(error):
        return "is not JSON: it ends too early"
    if not at:
        return "is not JSON"
    there = odd_characters(data[int(at[1]) :].decode(errors="replace")[:1].strip(_BLANKS))
    return f"is not JSON at byte {at[1]}" + (f": there is {there}" if there else "")


def _told(text: str) -> str:
    if found := re.fullmatch(r"Expected `([^`]+)`(?:, got `([^`]+)`)?", text):
        return f"must be {_kinds(found[1])}" + (f", not {_kinds(found[2])}" if found[2] else "")
    if found := re.fullmatch(r"Expected `\w+` ([<>]=?) (\S+)", text):
        return f"must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"
    if found := re.fullmatch(r"Expected `(\w+)` of length ([<>]=?) (\d+)", text):
        return f"must have {_BOUNDS[found[2]]} {counted(int(found[3]), *_UNITS.get(found[1], ('entry', 'entries')))}"
    if found := re.fullmatch(r"Expected `\w+` matching regex (.+)", text, re.DOTALL):
        return f"is not of the form {one_line(_as_written(found[1]), 200)}"
    if found := re.fullmatch(r"Invalid (?:enum )?value (.+)", text, re.DOTALL):
        return f"{quoted(_as_written(found[1]))} is none of its values"
    return "is too large" if "out of range" in text else "is not what it must be"


def _as_written(told: str) -> str:
    """A value that the library shows as a Python literal."""
    try:
        return str(ast.literal_eval(told))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return told.strip("'")


def _kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, "something else") for name in names.split(" | "))
