"""The digest of one file in a digest file, as md5sum, BSD's md5, openssl and editors of any system write it. Pure."""

import codecs
import re

from updater.errors import Refused
from updater.wire import one_line

_FORMS = (
    re.compile(r"\\?(?P<digest>[0-9a-f]{32})(?:[ \t]+[ *]?(?P<name>.*))?", re.IGNORECASE),  # md5sum, md5 -r
    re.compile(
        r"\\?(?:md5)?[ \t]*(?:\((?P<name>.*)\))?[ \t]*[=:][ \t]*(?P<digest>[0-9a-f]{32})", re.IGNORECASE
    ),  # md5, openssl
)
_NAMELESS = ("", "-", "stdin")  # of a file that came through a pipe
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def digest_in(data: bytes, file_name: str, source: str) -> str:
    """The md5 of `file_name`, in lower-case hex: of the line that names it, with whatever path, or of a lone line without a
    name. source: where the data is from, in words. Raises Refused."""
    text = data.decode(next((codec for mark, codec in _BOMS if data.startswith(mark)), "utf-8"), "replace")
    lines = [found for line in text.splitlines() if (found := _read(line.strip()))]
    for digest, name in lines:
        if name == file_name or (name in _NAMELESS and len(lines) == 1):
            return digest
    raise Refused(f'{source} has no md5 of {file_name} in it (it says "{one_line(text, 80)}")')


def _read(line: str) -> tuple[str, str] | None:
    """(digest, name without its path) of a line, None when it is of no such form."""
    for form in _FORMS:
        if found := form.fullmatch(line):
            return found["digest"].lower(), re.split(r"[/\\]", found["name"] or "")[-1].strip()
    return None
