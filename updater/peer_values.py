"""Numbers, waits and URLs as peers write them in headers: each becomes a value, or an error in words.

Pure. Python's own readers are no good for these: `int` takes digits of other scripts and balks at 5,000 of them, `isdigit`
is true of a superscript, `urlsplit` raises a bare ValueError, and a date may overflow.
"""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit

from updater.errors import Refused, TryLater
from updater.wire import one_line

LONGEST_WAIT = 86400.0  # seconds

_NUMBER = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
_LONGEST_DATE = 64  # characters
_LONGEST_URL = 8192  # characters, after quoting


def content_length(text: str) -> int | None:
    """Bytes that a Content-Length announces, None for a blank one; the same number given twice is that number (RFC 9110,
    8.6). Raises TryLater for everything else."""
    if not text:
        return None
    numbers = {one.strip() for one in text.split(",")}
    if len(numbers) > 1 or not _NUMBER.fullmatch(number := numbers.pop()):
        raise TryLater(f"its Content-Length is not a number of bytes: {_quoted(text)}")
    return int(number)


def range_start(text: str) -> int:
    """The first byte of a Content-Range. Raises TryLater."""
    found = _RANGE.fullmatch(text)
    if not found:
        raise TryLater(f"its Content-Range is not a range of bytes: {_quoted(text)}")
    return int(found[1])


def wait(text: str, now: datetime) -> float:
    """The seconds that a Retry-After asks for, at most a day; 0 for one that cannot be understood, since it is only advice."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text[:_LONGEST_DATE])
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError, IndexError):  # all of which that parser was seen to raise
        return 0.0


def redirect_target(url: str, location: str) -> str:
    """Where a Location leads from `url`: an http or https URL with a host, without a fragment. Raises Refused."""
    said = f"it redirects to {_quoted(location)}"
    quoted = quote(location.strip().encode("latin-1", "replace"), safe="!#$%&'()*+,/:;=?@[]~")
    try:
        alone = urlsplit(quoted)
        target = urljoin(url, quoted).partition("#")[0]
        parts = urlsplit(target)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if (alone.scheme or quoted.startswith("//")) and not alone.netloc:
            usable = False  # urljoin takes `http://` for the URL that it came from
    except ValueError as e:
        raise Refused(f"{said}, which is no URL") from e
    if not usable or not quoted or len(target) > _LONGEST_URL:
        raise Refused(f"{said}, which is no http or https URL")
    if url.startswith("https:") and not target.startswith("https:"):
        raise Refused(f"{said}, from https to http")
    return target


def _quoted(text: str) -> str:
    return f'"{one_line(text, 80)}"'
