"""Limits of the wire: how many agents, how large a body, how long a name. Pure.

Updater and meta share these numbers, so that neither sends what the other refuses. TABLE lists them for the documents.
"""

from typing import NamedTuple

MAX_BODY = 1 << 20  # bytes of a report or a reply
ROOM = 256  # bytes of a reply that meta leaves free, for additions to a rendered reply
MAX_AGENTS = 1000  # of one host
MAX_MIRRORS = 16  # of one agent
MAX_ATTEMPT = 1 << 53  # the largest integer that every JSON parser reads exactly
MAX_URL = 4096  # characters of a base; servers take request lines of 8 KiB, which also hold the file's name
MAX_LABELS = 64  # of one host
MAX_NAME = 64  # characters of an agent's name or a version
MAX_HOSTNAME = 253  # characters
MAX_REASON = 1000  # characters of an outcome's reason on its host and in a report
MAX_STATUS = 300  # characters that meta keeps of each sentence from a host: a status, a reason, why an agent is held
MAX_EVIDENCE = 2000  # characters of a control script's output in an outcome

NAME_FORM = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}"
VERSION_FORM = rf"[A-Za-z0-9][A-Za-z0-9._+~=-]{{0,{MAX_NAME - 1}}}"
TARBALL_FORM = rf"{NAME_FORM}-{VERSION_FORM}\.tar\.gz"
HOSTNAME_FORM = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_HOSTNAME - 1}}}"
LABEL_FORM = r"[A-Za-z0-9._-]{1,63}"  # its key, and its value
MD5_FORM = r"[0-9a-fA-F]{32}"
SHA256_FORM = r"[0-9a-fA-F]{64}"
URL_NAME_FORM = r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"  # as DNS takes it


class Limit(NamedTuple):
    """One row of TABLE."""

    what: str
    most: str  # in words, with its unit


TABLE = (
    Limit("an agent's name, a version", f"{MAX_NAME} characters"),
    Limit("a host's name", f"{MAX_HOSTNAME} characters"),
    Limit("`tarball`, each mirror, `md5` as a URL", f"{MAX_URL:,} characters, each part of its host 63"),
    Limit("mirrors of an agent", f"{MAX_MIRRORS}"),
    Limit("`md5`, `sha256`", "exactly 32 and 64 hex digits"),
    Limit("`attempt`", f"{MAX_ATTEMPT:,}"),
    Limit("key and value of a label", "63 characters each"),
    Limit("labels of a host", f"{MAX_LABELS}"),
    Limit(
        "a status, a reason, why an agent is held",
        f"{MAX_STATUS} characters are kept; up to {MAX_REASON:,} of a reason are sent",
    ),
    Limit("what a control script printed, in an outcome", f"{MAX_EVIDENCE:,} characters"),
    Limit("agents of a host", f"{MAX_AGENTS:,}"),
    Limit("a report, a reply", f"{MAX_BODY:,} bytes"),
)


def agents_problem(count: int) -> str:
    """Why `count` agents are too many for one host, or ""."""
    if count <= MAX_AGENTS:
        return ""
    return f"{count:,} agents are {count - MAX_AGENTS:,} more than the {MAX_AGENTS:,} that a host takes"


def reply_problem(size: int) -> str:
    """Why a reply of `size` bytes is too large, or ""."""
    most = MAX_BODY - ROOM
    if size <= most:
        return ""
    return f"a reply of {size:,} bytes is {size - most:,} larger than the {most:,} that a host takes"
