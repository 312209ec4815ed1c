"""Checks that a record's values are safe and consistent. Pure; the texts are for the author of the record."""

import re
from collections.abc import Callable, Container, Sequence

from meta.records.model import Ban, Override, Record
from meta.records.selectors import (
    Selector,
    may_overlap,
    surely_overlap,
)
from updater.wire.limits import MAX_ATTEMPT
from updater.wire.names import (
    cmd_problem,
    is_digest,
    leftovers_problem,
    md5_problem,
    name_problem,
    sha256_problem,
    unknown_status_problem,
    version_problem,
)
from updater.wire.text import quoted
from updater.wire.urls import base_problem

MAX_WHY = 500  # characters
DIGESTS = ("md5", "sha256")
REQUIRED = ("name", "version", "tarball")
MAX_PATH = 255  # characters of a workDir
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")  # safe for a shell and for sudo
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
    return f"runUser {quoted(user)} is not 1 to 32 letters, digits, '.', '_' or '-', the first a letter or '_'"


def work_dir_problem(path: str) -> str:
    """Why this is neither blank nor the absolute path of a directory, or ""."""
    if not path or (_PATH.fullmatch(path) and len(path) <= MAX_PATH and not {".", ".."}.intersection(path.split("/"))):
        return ""
    shape = "an absolute path without '.', '..' or a last '/', of letters, digits and any of ._@%+,=:-"
    return f"workDir {quoted(path)} is not {shape}"


def stale_digests(record: Record, overrides: Sequence[Override]) -> list[tuple[int, str]]:
    """(index, why) of overrides that can never work, since their version certainly inherits another version's digest."""
    found = []
    for index, override in enumerate(overrides):
        for key in DIGESTS:
            if override.version is None or getattr(override, key) is not None:
                continue
            digest, version = _inherited(key, record, override, overrides[:index])
            if is_literal(key, digest) and version != override.version:
                text = f'{override.version} would inherit the {key} of {version}; give its own, or {key}: ""'
                found.append((index, text))
    return found


def _inherited(key: str, record: Record, override: Override, before: Sequence[Override]) -> tuple[str, str]:
    """(the digest that this override's hosts inherit, the version that it was written for)."""
    for index, earlier in reversed(list(enumerate(before))):
        digest = getattr(earlier, key)
        if digest is not None and surely_overlap(earlier.selector, override.selector):
            return digest, version_at(record, index)
    return getattr(record, key), record.version


def version_at(record: Record, index: int | None) -> str:
    """The version that the hosts of this override certainly get from it and those before it; None: of the record itself."""
    if index is None:
        return record.version
    here = record.overrides[index]
    for earlier in reversed(record.overrides[: index + 1]):
        if earlier.version is not None and surely_overlap(earlier.selector, here.selector):
            return earlier.version
    return record.version


def unsure_digests(record: Record) -> list[tuple[int, str]]:
    """(index, why) of overrides that could combine one's version with another's digest.

    Only pairs of which it is unknown whether they select a common host; of several earlier overrides the first is named.
    """
    found = []
    for key in DIGESTS:
        literal = [is_literal(key, getattr(override, key) or "") for override in record.overrides]
        for index, later in enumerate(record.overrides if any(literal) else ()):
            pairs = ((record.overrides[i], later) for i in range(index) if literal[i] or literal[index])
            clashes = (_clash(record, *pair, key) for pair in pairs)
            found += [(index, text) for text in filter(None, clashes)][:1]
    return found


def _clash(record: Record, earlier: Override, later: Override, key: str) -> str:
    """What is wrong on a host that both select; "" if nothing, or if it is certain whether they select a common host."""
    if later.version is not None and getattr(later, key) is None:
        version, digest, version_of_digest = later.version, earlier, earlier.version or record.version
    elif later.version is None and earlier.version is not None:
        version, digest, version_of_digest = earlier.version, later, record.version
    else:
        return ""
    if not is_literal(key, getattr(digest, key) or "") or version == version_of_digest:
        return ""
    one, other = earlier.selector, later.selector
    if surely_overlap(one, other) or not may_overlap(one, other):
        return ""
    return (
        f"a host that this and [{earlier.selector.in_words()}] both select gets version {version} with the {key} of "
        f"{version_of_digest}; give both their own {key}"
    )


def kept_digests(
    before: Record, after: Record, given: Container[tuple[Selector | None, str]]
) -> list[tuple[Selector | None, str]]:
    """(place, why) of digests that an edit left unchanged although it changed their version.

    A place is an override's selector, or None for the record. given: the (place, field) pairs that the edit set.
    """
    old, found = _digests(before), []
    for (place, key), (digest, version) in _digests(after).items():
        former = old.get((place, key))
        if former and former[0] == digest and former[1] != version and (place, key) not in given:
            found.append((place, f'{key} is that of version {former[1]}; give that of {version} too, or {key}: ""'))
    return found


def _digests(record: Record) -> dict[tuple[Selector | None, str], tuple[str, str]]:
    """(place, field) -> (literal digest, the version that it is of)."""
    found: dict[tuple[Selector | None, str], tuple[str, str]] = {}
    for key in DIGESTS:
        if is_literal(key, getattr(record, key)):
            found[None, key] = getattr(record, key), record.version
        for index, override in enumerate(record.overrides):
            if is_literal(key, getattr(override, key) or ""):
                found[override.selector, key] = getattr(override, key), version_at(record, index)
    return found


def banned_versions(bans: Sequence[Ban], before: Record | None, after: Record) -> list[tuple[Selector | None, str]]:
    """(place, why) of banned versions that are in `after` at a place where they were not before."""
    banned = {ban.version: ban for ban in bans if ban.agent == after.name}
    old = set(_versions(before)) if before and banned else set()
    new = [(place, version) for place, version in _versions(after) if version in banned] if banned else []
    return [(place, _banned_text(banned[version])) for place, version in new if (place, version) not in old]


def _versions(record: Record) -> list[tuple[Selector | None, str]]:
    of_overrides = [(one.selector, one.version) for one in record.overrides if one.version is not None]
    return [(None, record.version), *of_overrides]


def _banned_text(ban: Ban) -> str:
    by = f" by {ban.who}" if ban.who else ""
    why = f" ({ban.why})" if ban.why else ""
    return f"version {ban.version} is banned{by}{why}; give another one, or first: meta unban {ban.agent} {ban.version}"


def is_literal(key: str, digest: str) -> bool:
    """Whether this is a digest itself, which fits only one version, and not the URL of a digest file."""
    return is_digest(digest) if key == "md5" else bool(digest)


def why_problem(text: str) -> str:
    """Why this text cannot be stored as the reason of an edit, or ""."""
    if len(text) > MAX_WHY:
        return f"why has {len(text)} characters; at most {MAX_WHY} are kept"
    return "" if text.isprintable() else f"why {quoted(text)} must be one line of printable text"


def repeated(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(index, index of the first) of records with the name of an earlier one."""
    first: dict[str, int] = {}
    return [(i, first[r.name]) for i, r in enumerate(records) if first.setdefault(r.name, i) != i]
