"""Finds the digest of one file in a digest file, in the forms of md5sum, BSD md5, openssl and PowerShell. Pure."""

import codecs
import re

from updater.errors import Refused
from updater.wire.text import one_line

_FORMS = (
    re.compile(r"\\?(?P<digest>[0-9a-f]{32})(?:[ \t]+[ *]?(?P<name>.*))?", re.IGNORECASE),  # md5sum, md5 -r
    re.compile(
        r"\\?(?:md5|hash)?[ \t]*(?:\((?P<name>.*)\))?[ \t]*[=:][ \t]*(?P<digest>[0-9a-f]{32})", re.IGNORECASE
    ),  # md5, openssl, PowerShell's Format-List
)
_HEX = re.compile(r"[0-9A-Fa-f]+")
_PARTS = re.compile(r"[\s,;\"'*/\\]")  # separators of columns and of paths, and quotes
_ENDS = " \t\"'"
_NAMELESS = ("", "-", "stdin")  # of a file that came through a pipe
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def digest_in(data: bytes, file_name: str, source: str) -> tuple[str, str]:
    """Return (kind, digest of `file_name` in lower-case hex); kind is `md5`, or `sha256` if the file has no md5.

    The digest is taken from the line that names the file, with any path, or from the only line if that has no name.
    PowerShell writes sha256 by default. source: where the data is from, for messages. Raises Refused if there is no digest.
    """
    text = data.decode(_codec(data), "replace")
    lines = [found for line in text.splitlines() if (found := _read(line.strip()))]
    for digest, name in lines:
        if name == file_name or (name in _NAMELESS and len(lines) == 1):
            return "md5", digest
    for kind, size in (("md5", 32), ("sha256", 64)):
        for line in text.splitlines():
            if digest := _of_a_table(line.strip(_ENDS), file_name, size):
                return kind, digest
    raise Refused(f'{source} has no md5 of {file_name} in it (it says "{one_line(text, 80)}")')


def _codec(data: bytes) -> str:
    """The text encoding, by the byte order mark or by NULs at every second byte; UTF-8 otherwise."""
    if marked := next((codec for mark, codec in _BOMS if data.startswith(mark)), ""):
        return marked
    half = len(data) // 2
    if half and data[1::2].count(0) * 2 > half:
        return "utf-16-le"
    return "utf-16-be" if half and data[0::2].count(0) * 2 > half else "utf-8"


def _of_a_table(line: str, file_name: str, size: int) -> str:
    """The digest of `size` digits in any column of a line that ends with the file name; "" if there is none or several."""
    before = line.removesuffix(file_name)
    if before == line or (before and not _PARTS.fullmatch(before[-1])):
        return ""
    digests = [word for word in _PARTS.split(before) if len(word) in (32, 64) and _HEX.fullmatch(word)]
    return digests[0].lower() if len(digests) == 1 and len(digests[0]) == size else ""


def _read(line: str) -> tuple[str, str] | None:
    """(digest, file name without its path) of a line, or None if it has none of the forms above."""
    for form in _FORMS:
        if found := form.fullmatch(line):
            return found["digest"].lower(), re.split(r"[/\\]", found["name"] or "")[-1].strip(_ENDS)
    return None
