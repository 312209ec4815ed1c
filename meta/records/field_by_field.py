"""Translates overrides that merge the version and each digest by itself into overrides that replace a whole release. Pure.

Overrides of ops-meta's files merge so, and overrides of stored records did before migration 0005 (ADR 19). The translated
record gives each host the same answer. Where hosts of one override inherit different releases, more overrides follow it, for
those of its hosts that earlier ones select too. Some pairs of selectors have no selector for the hosts of both. They are taken
to have none in common, and `is_unsure` says so. Works on records in the form of a records file, and leaves other fields alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from meta.records.model import DIGESTS, OF_A_RELEASE, Release
from meta.records.selectors import NO_HOST, Prefix, Selector, common, selector_fields, selector_of
from updater.wire.names import is_digest


class Whole(NamedTuple):
    """A record whose overrides replace whole releases."""

    fields: Mapping[str, Any]
    origins: Sequence[int]  # for each override the index of the one that it was made from
    named: Sequence[tuple[Selector, str]] = ()  # overrides that now name the version which their hosts inherited
    is_unsure: bool = False  # whether hosts that some overrides have in common may get another answer


class _Layer(NamedTuple):
    """What the hosts of a selector have, unless a later layer selects them too."""

    selector: Selector
    former: Release  # before the override that made this layer
    release: Release


def whole_releases(fields: Mapping[str, Any]) -> Whole:
    """Translate a record. Returns the same fields if no override sets, or could inherit, a digest."""
    overrides = fields.get("overrides", ())
    if not any(map(_has_digest, (fields, *overrides))):
        return Whole(fields, range(len(overrides)))
    release = Release(**_changes(fields))
    layers = [_Layer(Prefix(""), release, release)]
    made: list[dict[str, Any]] = []
    origins: list[int] = []
    named: list[tuple[Selector, str]] = []
    is_unsure = False
    for index, override in enumerate(overrides):
        derived, may_differ = _derived(layers, selector_of(override), _changes(override))
        is_unsure |= may_differ
        if derived and "version" not in override:
            named.append((derived[0].selector, derived[0].release.version))
        found = [one for one in _overrides(override, derived) if len(one) > 1]  # more than the selector
        made += found
        origins += [index] * len(found)
        if derived:
            layers = [one for one in layers if not _contains(derived[0].selector, one.selector)] + derived
    return Whole({**fields, "overrides": made}, origins, named, is_unsure)


def _has_digest(place: Mapping[str, Any]) -> bool:
    changes = _changes(place)
    return any(changes.get(key) for key in DIGESTS) or ("sha256" in changes and "version" not in changes)


def _changes(place: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a release that a record or an override sets. An md5 that is a URL, or blank, says that none is given."""
    changes = {key: place[key] for key in OF_A_RELEASE if key in place}
    return changes | {"md5": changes["md5"] if is_digest(changes["md5"]) else ""} if "md5" in changes else changes


def _derived(layers: Sequence[_Layer], selector: Selector, changes: Mapping[str, str]) -> tuple[list[_Layer], bool]:
    """(the layers that an override with these changes adds, the first for all of its hosts; whether an answer may be lost).
    No layers if it changes no release."""
    found: list[_Layer] = []
    unknown: list[_Layer] = []
    for layer in layers:
        both = common(selector, layer.selector)
        release = replace(layer.release, **changes)
        (unknown if both is None else found).append(_Layer(both or NO_HOST, layer.release, release))
    found = _in_sight([one for one in found if one.selector != NO_HOST])
    if "version" in changes or any(one.former != one.release for one in found):
        return _needed(found), any(one.release != other.release for one in unknown for other in found)
    return [], any(one.former != one.release for one in unknown)


def _in_sight(layers: Sequence[_Layer]) -> list[_Layer]:
    """The layers without those of which later ones select all hosts."""
    kept: list[_Layer] = []
    for layer in reversed(layers):
        if not any(_contains(later.selector, layer.selector) for later in kept):
            kept.append(layer)
    return kept[::-1]


def _needed(layers: Sequence[_Layer]) -> list[_Layer]:
    """The layers without those whose hosts have the same release by earlier ones."""
    kept = list(layers[:1])
    for layer in layers[1:]:
        around = max(index for index, one in enumerate(kept) if _contains(one.selector, layer.selector))
        if any(one.release != layer.release for one in kept[around:]):
            kept.append(layer)
    return kept


def _contains(outer: Selector, inner: Selector) -> bool:
    return common(inner, outer) == inner


def _overrides(override: Mapping[str, Any], derived: Sequence[_Layer]) -> Iterator[dict[str, Any]]:
    """The override with the whole release of the first layer, and one for each further layer."""
    others = {key: value for key, value in override.items() if key not in OF_A_RELEASE}
    if "md5" in override and not is_digest(override["md5"]):
        others["md5"] = override["md5"]
    yield others | (derived[0].release.fields() if derived else {})
    for layer in derived[1:]:
        yield selector_fields(layer.selector) | layer.release.fields()
