"""The digest of one file in a digest file, as md5sum, BSD's md5, openssl, PowerShell and any editor write it. Pure."""

import codecs
import re

from updater.errors import Refused
from updater.wire.text import one_line

_FORMS = (
    re.compile(r"\\?(?P<digest>[0-9a-f]{32})(?:[ \t]+[ *]?(?P<name>.*))?", re.IGNORECASE),  # md5sum, md5 -r
    re.compile(
        r"\\?(?:md5|hash)?[ \t]*(?:\((?P<name>.*)\))?[ \t]*[=:][ \t]*(?P<digest>[0-9a-f]{32})", re.IGNORECASE
    ),  # md5, openssl, a list of PowerShell's
)
_HEX = re.compile(r"[0-9A-Fa-f]+")
_PARTS = re.compile(r"[\s,;\"'*/\\]")  # columns, quotes, and the ends of directories
_ENDS = " \t\"'"
_NAMELESS = ("", "-", "stdin")  # of a file that came through a pipe
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def digest_in(data: bytes, file_name: str, source: str) -> tuple[str, str]:
    """(`md5`, digest of `file_name` in lower-case hex): of the line that names it, with whatever path, or of a lone line
    without a name. `sha256` where there is no md5 but one of these, as PowerShell writes unasked. source: where the data is
    from, in words. Raises Refused."""
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
    """By its mark, or by a NUL at every second byte."""
    if marked := next((codec for mark, codec in _BOMS if data.startswith(mark)), ""):
        return marked
    half = len(data) // 2
    if half and data[1::2].count(0) * 2 > half:
        return "utf-16-le"
    return "utf-16-be" if half and data[0::2].count(0) * 2 > half else "utf-8"


def _of_a_table(line: str, file_name: str, size: int) -> str:
    """The digest of so many digits in a line that has no other one, in whatever column, and ends with the file's name."""
    before = line.removesuffix(file_name)
    if before == line or (before and not _PARTS.fullmatch(before[-1])):
        return ""
    digests = [word for word in _PARTS.split(before) if len(word) in (32, 64) and _HEX.fullmatch(word)]
    return digests[0].lower() if len(digests) == 1 and len(digests[0]) == size else ""


def _read(line: str) -> tuple[str, str] | None:
    """(digest, name without its path) of a line, None when it is of no such form."""
    for form in _FORMS:
        if found := form.fullmatch(line):
            return found["digest"].lower(), re.split(r"[/\\]", found["name"] or "")[-1].strip(_ENDS)
    return None
