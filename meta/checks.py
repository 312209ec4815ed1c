"""Whether a record's values are safe and can work together. Pure; the texts go to the person who wrote the file."""

from collections.abc import Callable, Sequence

from meta.records import Override, Record, surely_overlap
from updater.wire import (
    base_problem,
    cmd_problem,
    is_digest,
    md5_problem,
    name_problem,
    sha256_problem,
    version_problem,
)

REQUIRED = ("name", "version", "tarball")
_PROBLEMS: dict[str, Callable[[str], str]] = {
    "name": name_problem,
    "version": version_problem,
    "tarball": lambda url: base_problem("tarball", url),
    "md5": md5_problem,
    "cmd": cmd_problem,
    "sha256": sha256_problem,
}


def value_problem(key: str, value: str) -> str:
    """Why a record's field must not have this value, or ""."""
    if not value and key in REQUIRED:
        return f"{key} is blank"
    return _PROBLEMS[key](value)


def stale_digests(record: Record, overrides: Sequence[Override]) -> list[tuple[int, str]]:
    """The overrides (by index) that can never work, and why: their version is certain to inherit another version's digest."""
    found = []
    for index, override in enumerate(overrides):
        for key in ("md5", "sha256"):
            if override.version is None or getattr(override, key) is not None:
                continue
            digest, version = _inherited(key, record, override, overrides[:index])
            if _is_literal(key, digest) and version != override.version:
                text = f'{override.version} would inherit the {key} of {version}; give its own, or {key}: ""'
                found.append((index, text))
    return found


def _inherited(key: str, record: Record, override: Override, before: Sequence[Override]) -> tuple[str, str]:
    """The digest in force for this override's hosts before it, and the version it was written for."""
    for earlier in reversed(before):
        digest = getattr(earlier, key)
        if digest is not None and surely_overlap(earlier.selector, override.selector):
            return digest, earlier.version or record.version
    return getattr(record, key), record.version


def _is_literal(key: str, digest: str) -> bool:
    return is_digest(digest) if key == "md5" else bool(digest)


def repeated(records: Sequence[Record]) -> list[tuple[int, int]]:
    """The records whose name an earlier one has: (index, index of the first)."""
    first: dict[str, int] = {}
    return [(i, first[r.name]) for i, r in enumerate(records) if first.setdefault(r.name, i) != i]
