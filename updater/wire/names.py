"""Checks names, versions, digests and commands of the wire, since they become paths and arguments. Pure.

Each `*_problem` function returns why a value is invalid, or "".
"""

import re

from updater.wire.limits import HOSTNAME_FORM, MAX_HOSTNAME, MD5_FORM, NAME_FORM, SHA256_FORM, VERSION_FORM
from updater.wire.text import quoted
from updater.wire.urls import base_problem, shown

COMMANDS = START, STOP = "start", "stop"
LEFTOVERS = LEAVE, END = "leave", "end"  # what to do with processes that a stopped version leaves
UNKNOWN_STATUS = WAIT, UPGRADE = "wait", "upgrade"  # what to do with an agent whose status is unknown
_NAME, _VERSION, _HOSTNAME = re.compile(NAME_FORM), re.compile(VERSION_FORM), re.compile(HOSTNAME_FORM)
# Names that every machine has for itself, as in the /etc/hosts of Debian and Red Hat:
_ANY_MACHINE = re.compile(r"(localhost[46]?|ip6-(localhost|loopback))(\..*)?", re.IGNORECASE)
_MD5, _SHA256 = re.compile(MD5_FORM), re.compile(SHA256_FORM)


def name_problem(name: str) -> str:
    """Why this agent name is unsafe as a directory, or ""."""
    if _NAME.fullmatch(name):
        return ""
    return f"name {quoted(name)} is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"


def version_problem(version: str) -> str:
    """Why this version is unsafe as a directory, or ""."""
    if _VERSION.fullmatch(version):
        return ""
    shape = "1 to 64 letters, digits, '.', '_', '+', '~', '=' or '-', the first a letter or digit"
    return f"version {quoted(version)} is not {shape}"


def hostname_problem(hostname: str) -> str:
    """Why this is not a valid host name, or ""."""
    if _HOSTNAME.fullmatch(hostname):
        return ""
    form = f"1 to {MAX_HOSTNAME} letters, digits, '.', '_' or '-', the first a letter or digit"
    return f"hostname {quoted(hostname)} is not {form}"


def is_any_machine_s(hostname: str) -> bool:
    """Whether every machine has this name for itself, so that it tells none from another."""
    return _ANY_MACHINE.fullmatch(hostname) is not None


def cmd_problem(cmd: str) -> str:
    """Why this is not a command, or ""."""
    return "" if cmd in COMMANDS else f"cmd {quoted(cmd)} is not start or stop"


def md5_problem(md5: str) -> str:
    """Why this is not a valid md5 (blank, 32 hex digits or the URL of a directory), or ""."""
    if not md5 or _MD5.fullmatch(md5):
        return ""
    if (problem := base_problem("md5", md5)) and md5.lower().startswith(("http://", "https://")):
        return problem
    if problem:
        return f"md5 {quoted(shown(md5))} is neither blank, nor 32 hex digits, nor an http or https URL of a directory"
    return ""


def leftovers_problem(word: str) -> str:
    """Why this is not a valid `leftovers`, or ""."""
    return "" if word in ("", *LEFTOVERS) else f"leftovers {quoted(word)} is not leave or end"


def unknown_status_problem(word: str) -> str:
    """Why this is not a valid `unknownStatus`, or ""."""
    return "" if word in ("", *UNKNOWN_STATUS) else f"unknownStatus {quoted(word)} is not wait or upgrade"


def sha256_problem(sha256: str) -> str:
    """Why this is not a valid sha256 (blank or 64 hex digits), or ""."""
    return "" if not sha256 or _SHA256.fullmatch(sha256) else f"sha256 {quoted(sha256)} is not 64 hex digits"


def is_digest(md5: str) -> bool:
    """Whether a record's md5 is the digest itself, not the URL of a digest file."""
    return _MD5.fullmatch(md5) is not None
