"""Checks that a record's values are safe and consistent. Pure; the texts are for the author of the record."""

import re
from collections.abc import Callable, Sequence

from meta.records.model import DIGESTS, Ban, Record
from meta.records.selectors import Selector
from updater.wire.limits import MAX_ATTEMPT, MAX_PATH, MAX_USER, MAX_WHY, USER_FORM, length_problem
from updater.wire.names import (
    cmd_problem,
    leftovers_problem,
    md5_problem,
    name_problem,
    sha256_problem,
    unknown_status_problem,
    version_problem,
)
from updater.wire.text import quoted
from updater.wire.urls import base_problem

REQUIRED = ("name", "version", "tarball")
_USER = re.compile(USER_FORM)
_PATH = re.compile(r"(?:/[A-Za-z0-9._@%+,=:-]+)+")
_PROBLEMS: dict[str, Callable[[str], str]] = {
    "name": name_problem,
    "version": version_problem,
    "tarball": lambda url: base_problem("tarball", url),
    "md5": md5_problem,
    "cmd": cmd_problem,
    "sha256": sha256_problem,
    "leftovers": leftovers_problem,
    "unknownStatus": unknown_status_problem,
    "runUser": lambda user: run_user_problem(user),
    "workDir": lambda path: work_dir_problem(path),
}


def value_problem(key: str, value: str) -> str:
    """Why a record's field must not have this value, or ""."""
    if not value and key in REQUIRED:
        return f"{key} is blank"
    return _PROBLEMS[key](value)


def attempt_problem(text: str) -> str:
    """Why this is not a valid attempt, or ""."""
    is_one = text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_ATTEMPT
    return "" if is_one else f"attempt {quoted(text)} is not a whole number from 0 to {MAX_ATTEMPT}"


def run_user_problem(user: str) -> str:
    """Why this is neither blank nor the name of a user, or ""."""
    if not user or _USER.fullmatch(user):
        return ""
    return f"runUser {quoted(user)} is not 1 to {MAX_USER} letters, digits, '.', '_' or '-', the first a letter or '_'"


def work_dir_problem(path: str) -> str:
    """Why this is neither blank nor the absolute path of a directory, or ""."""
    if problem := length_problem("workDir", path, MAX_PATH):
        return problem
    if not path or (_PATH.fullmatch(path) and not {".", ".."}.intersection(path.split("/"))):
        return ""
    shape = "an absolute path without '.', '..' or a last '/', of letters, digits and any of ._@%+,=:-"
    return f"workDir {quoted(path)} is not {shape}"


def banned_versions(bans: Sequence[Ban], before: Record | None, after: Record) -> list[tuple[Selector | None, str]]:
    """(place, why) of banned versions that are in `after` at a place where they were not before."""
    banned = {ban.version: ban for ban in bans if ban.agent == after.name}
    old = set(_versions(before)) if before and banned else set()
    new = [(place, version) for place, version in _versions(after) if version in banned] if banned else []
    return [(place, _banned_text(banned[version])) for place, version in new if (place, version) not in old]


def _versions(record: Record) -> list[tuple[Selector | None, str]]:
    of_overrides = [(one.selector, one.release.version) for one in record.overrides if one.release is not None]
    return [(None, record.release.version), *of_overrides]


def _banned_text(ban: Ban) -> str:
    by = f" by {ban.who}" if ban.who else ""
    why = f" ({ban.why})" if ban.why else ""
    return f"version {ban.version} is banned{by}{why}; give another one, or first: meta unban {ban.agent} {ban.version}"


def digest_doubts(record: Record) -> list[tuple[int | None, str]]:
    """(index of the override, why) of digests that look forgotten.

    Those are digests of another version, and missing ones of a version that has digests at another place. It also finds
    places of a digest file that have no effect, because the version has an md5 itself.
    """
    found: list[tuple[int | None, str]] = []
    version_of: dict[str, str] = {}  # by digest
    overrides = [(index, one.release) for index, one in enumerate(record.overrides) if one.release is not None]
    places = [(None, record.release), *overrides]
    known = {release.version for _, release in places if release.md5 or release.sha256}
    for index, release in places:
        for key in DIGESTS:
            digest = getattr(release, key).lower()
            if digest and (other := version_of.setdefault(digest, release.version)) != release.version:
                found.append((index, f"{release.version} has the {key} of {other}; give its own"))
        if release.version in known and not (release.md5 or release.sha256):
            text = f"{release.version} has digests elsewhere in this record, and none here: repeat them to have them checked"
            found.append((index, text))
    for index, one in enumerate(record.overrides):
        if one.release is None and one.md5_base is not None and record.release.md5:
            text = (
                f"{record.release.version} has an md5, which is checked here too; this counts for versions without one"
            )
            found.append((index, text))
    return found


def why_problem(text: str) -> str:
    """Why this text cannot be stored as the reason of an edit, or ""."""
    if len(text) > MAX_WHY:
        return f"why has {len(text)} characters; at most {MAX_WHY} are kept"
    return "" if text.isprintable() else f"why {quoted(text)} must be one line of printable text"


def repeated(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(index, index of the first) of records with the name of an earlier one."""
    first: dict[str, int] = {}
    return [(i, first[r.name]) for i, r in enumerate(records) if first.setdefault(r.name, i) != i]
