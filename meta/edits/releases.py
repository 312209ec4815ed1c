"""What an edit of a version does to its digests: they go with it, or are taken over where they surely fit. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from meta.records.model import DIGESTS, OF_A_RELEASE, Override, Record, RecordSet, Release, from_values
from meta.records.selectors import Selector
from meta.records.validate import digest_doubts
from updater.wire.names import is_digest


def changed(place: Record | Override, there: Release | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a record or an override after these values are set, by key. there: as `release_there` returns it."""
    changed, said = from_values(values), {key: values[key] for key in OF_A_RELEASE if key in values}
    if "md5" in said and is_digest(said["md5"]):
        changed["md5_base"] = None if isinstance(place, Override) else ""
    elif "md5" in said or (place.md5_base is not None if isinstance(place, Override) else place.md5_base):
        said["md5"] = ""  # what it says is where the digest is
    if there is not None and said:
        version = said.get("version", there.version)
        changed["release"] = replace(there if there.version == version else Release(version), **said)
    return changed


def release_there(record: Record, place: Record | Override, values: Mapping[str, Any]) -> Release | None:
    """The release to which the values of one are added: that of the place, or of its new version what the record knows of it.
    None if the place has no release, and no version is set.

    An override of the record's own version has its digests, also with a tarball of its own: so it has if it names no version.
    """
    version = values.get("version")
    if version is None or (place.release and place.release.version == version):
        return place.release
    if record.release.version == version:
        return Release(version) if _is_another_file(values, record.release) else record.release
    is_unsure = any(key in values for key in DIGESTS) or ("tarball" in values and isinstance(place, Override))
    return Release(version) if is_unsure else _of_overrides(record, version)


def _is_another_file(values: Mapping[str, Any], release: Release) -> bool:
    """Whether a digest among the values contradicts the release's; then its other digest does not fit either."""
    md5, sha256 = values.get("md5", ""), values.get("sha256", "")
    pairs = ((md5 if is_digest(md5) else "", release.md5), (sha256, release.sha256))
    return any(given and known and given.lower() != known.lower() for given, known in pairs)


def doubt(records: RecordSet, agent: str, fields: Collection[str], selector: Selector | None) -> str:
    """What looks forgotten about the digests at the place where these fields were set, "" for nothing."""
    record = records.record(agent)
    if record is None or not any(key in fields for key in OF_A_RELEASE):
        return ""
    places = {None: None} | {one.selector: index for index, one in enumerate(record.overrides)}
    return "; ".join(f"version {text}" for index, text in digest_doubts(record) if index == places[selector])


def without_digests(release: Release, keys: Collection[str]) -> Release:
    return replace(release, **{key: "" for key in DIGESTS if key in keys})


def _of_overrides(record: Record, version: str) -> Release:
    """The version with the digests on which all overrides that have some of it agree, such as those of a canary. Without any
    if an override has a tarball of its own, which may be another one of this version."""
    releases = [one.release for one in record.overrides if one.release and one.release.version == version]
    found = {key: {getattr(release, key).lower() for release in releases} - {""} for key in DIGESTS}
    if any(one.tarball is not None for one in record.overrides) or max(map(len, found.values())) > 1:
        return Release(version)
    return Release(version, **{key: digest for key, digests in found.items() for digest in digests})
