"""Limits of the wire and of the API: how many agents, how large a body, how long a name or a path. Pure.

Updater and meta share these numbers, so that neither sends what the other refuses. TABLE lists them for the documents, and
OF_META those of what only meta is sent. A test looks for fields and numbers that are in neither.
"""

from typing import NamedTuple

from updater.wire.text import quoted

MAX_BODY = 1 << 20  # bytes of a report or a reply
ROOM = 256  # bytes of a reply that meta leaves free, for additions to a rendered reply
MAX_AGENTS = 1000  # of one host
MAX_MIRRORS = 16  # of one agent
MAX_ATTEMPT = 1 << 53  # the largest integer that every JSON parser reads exactly
MAX_NOTIFY = 86400  # seconds of one `GET /notify`
MAX_URL = 4096  # characters of a base; servers take request lines of 8 KiB, which also hold the file's name
MAX_URL_PART = 63  # characters of a part of its host's name, by DNS
MAX_LABELS = 64  # of one host
MAX_LABEL = 63  # characters of its key, and of its value
MAX_NAME = 64  # characters of an agent's name or a version
MAX_HOSTNAME = 253  # characters, also of a pattern of such names
MAX_USER = 32  # characters of a runUser, as useradd takes
MAX_PATH = 255  # characters of a workDir
MAX_FINGERPRINT = 64  # hex digits
MAX_REASON = 1000  # characters of an outcome's reason on its host and in a report
MAX_STATUS = 300  # characters that meta keeps of each sentence from a host: a status, a reason, why an agent is held
MAX_EVIDENCE = 2000  # characters of a control script's output in an outcome

# What only meta is sent:
MAX_WHY = 500  # characters
MAX_TOKEN_NAME = 64  # characters
MAX_TOKEN = 500  # characters; those that meta makes have 48
MAX_AUTHORIZATION = 512  # characters of the header
MAX_SECRET = 128  # characters that a host chose for its enrolment
MAX_LISTED = 10_000  # hosts or files of one request
MAX_QUERIED = 8192  # characters of a selector or of host names in a query
MAX_HOSTS_PAGE, MAX_REVISIONS_PAGE = 1000, 500
MAX_NUMBER = MAX_ATTEMPT - 1  # of a revision
MAX_TIME = 10**11  # Unix seconds, or seconds
MAX_SPAN = 10**10  # seconds
MAX_USES = 10**9  # of an enrolment token
MAX_KEPT = 10**6  # tarballs of an agent

NAME_FORM = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}"
VERSION_FORM = rf"[A-Za-z0-9][A-Za-z0-9._+~=-]{{0,{MAX_NAME - 1}}}"
TARBALL_FORM = rf"{NAME_FORM}-{VERSION_FORM}\.tar\.gz"
HOSTNAME_FORM = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_HOSTNAME - 1}}}"
LABEL_FORM = rf"[A-Za-z0-9._-]{{1,{MAX_LABEL}}}"  # its key, and its value
MD5_FORM = r"[0-9a-fA-F]{32}"
SHA256_FORM = r"[0-9a-fA-F]{64}"
FINGERPRINT_FORM = rf"[0-9a-f]{{16,{MAX_FINGERPRINT}}}"
USER_FORM = rf"[A-Za-z_][A-Za-z0-9._-]{{0,{MAX_USER - 1}}}"  # safe for a shell and for sudo
SECRET_FORM = rf"[A-Za-z0-9_-]{{32,{MAX_SECRET}}}"
TOKEN_NAME_FORM = rf"[A-Za-z0-9][A-Za-z0-9@._ -]{{0,{MAX_TOKEN_NAME - 1}}}"
_URL_PART = rf"[A-Za-z0-9_-]{{1,{MAX_URL_PART}}}"
URL_NAME_FORM = rf"(?:{_URL_PART}\.)*{_URL_PART}\.?"  # as DNS takes it


class Limit(NamedTuple):
    """One row of TABLE or OF_META."""

    what: str
    most: str  # in words, with its unit
    number: int
    fields: tuple[str, ...] = ()  # the keys that it is for, in reports, records, queries and other bodies


TABLE = (
    Limit("an agent's name, a version", f"{MAX_NAME} characters", MAX_NAME, ("name", "agent", "version")),
    Limit("a host's name", f"{MAX_HOSTNAME} characters", MAX_HOSTNAME, ("hosts", "hostname")),
    Limit("`tarball`, each mirror, `md5` as a URL", f"{MAX_URL:,} characters", MAX_URL, ("tarball", "mirrors", "md5")),
    Limit("the host of such a URL, and each part of it", f"{MAX_HOSTNAME} and {MAX_URL_PART} characters", MAX_HOSTNAME),
    Limit("mirrors of an agent; `tarball` as a list", f"{MAX_MIRRORS}", MAX_MIRRORS, ("mirrors", "tarball")),
    Limit("`md5` as a digest", "exactly 32 hex digits", 32, ("md5",)),
    Limit("`sha256`", "exactly 64 hex digits", 64, ("sha256",)),
    Limit("`attempt`", f"{MAX_ATTEMPT:,}", MAX_ATTEMPT, ("attempt",)),
    Limit("`notify` of a reply, `within` of a wake", f"{MAX_NOTIFY:,} s", MAX_NOTIFY, ("notify", "within")),
    Limit("`runUser`", f"{MAX_USER} characters", MAX_USER, ("runUser",)),
    Limit("`workDir`", f"{MAX_PATH} characters", MAX_PATH, ("workDir",)),
    Limit("key and value of a label", f"{MAX_LABEL} characters each", MAX_LABEL, ("label", "labels", "set", "remove")),
    Limit("labels of a host", f"{MAX_LABELS}", MAX_LABELS, ("labels",)),
    Limit(
        "a status, a reason, why an agent is held",
        f"{MAX_STATUS} characters are kept; up to {MAX_REASON:,} of a reason are sent",
        MAX_STATUS,
        ("status",),
    ),
    Limit("what a control script printed, in an outcome", f"{MAX_EVIDENCE:,} characters", MAX_EVIDENCE),
    Limit("agents of a host", f"{MAX_AGENTS:,}", MAX_AGENTS, ("realAgents", "outcomes")),
    Limit("`machine`, `boot`", f"16 to {MAX_FINGERPRINT} hex digits", MAX_FINGERPRINT, ("machine", "boot")),
    Limit("a report, a reply", f"{MAX_BODY:,} bytes", MAX_BODY),
)

OF_META = (
    Limit(
        "`prefix`, `glob`, the pattern of an enrolment token",
        f"{MAX_HOSTNAME} characters",
        MAX_HOSTNAME,
        ("prefix", "glob", "pattern", "name", "cursor"),
    ),
    Limit("`why`", f"{MAX_WHY} characters", MAX_WHY, ("why",)),
    Limit("a token", f"{MAX_TOKEN} characters", MAX_TOKEN),
    Limit("the header `Authorization`", f"{MAX_AUTHORIZATION} characters", MAX_AUTHORIZATION),
    Limit("`Idempotency-Key` of an enrolment", f"32 to {MAX_SECRET} letters, digits, `_` or `-`", MAX_SECRET),
    Limit("the name of a token", f"{MAX_TOKEN_NAME} characters", MAX_TOKEN_NAME, ("name",)),
    Limit("a label that is searched for", f"{2 * MAX_LABEL + 1} characters", 2 * MAX_LABEL + 1, ("label",)),
    Limit("a selector in a query", f"{MAX_QUERIED:,} characters", MAX_QUERIED, ("selector", "failedBefore")),
    Limit("hosts or files that one request changes", f"{MAX_LISTED:,}", MAX_LISTED, ("hosts", "files")),
    Limit("hosts on a page", f"{MAX_HOSTS_PAGE:,}", MAX_HOSTS_PAGE, ("limit",)),
    Limit("revisions on a page", f"{MAX_REVISIONS_PAGE}", MAX_REVISIONS_PAGE, ("limit",)),
    Limit("the number of a revision", f"{MAX_NUMBER:,}", MAX_NUMBER, ("before", "to")),
    Limit("`expires`, `older`", f"{MAX_TIME:,} s", MAX_TIME, ("expires", "older")),
    Limit("`expiresIn`", f"{MAX_SPAN:,} s", MAX_SPAN, ("expiresIn",)),
    Limit("hosts that a token may enrol", f"{MAX_USES:,}", MAX_USES, ("uses",)),
    Limit("`keep`", f"{MAX_KEPT:,}", MAX_KEPT, ("keep",)),
)


def length_problem(what: str, text: str, most: int) -> str:
    """Why this text is too long, or "". what: the field's name. most: characters. text: as it may be shown."""
    return f"{what} has {len(text):,} characters, of {most:,} at most: {quoted(text)}" if len(text) > most else ""


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
