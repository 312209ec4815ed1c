"""A fingerprint of the decisions about an agent's versions: it stays the same until they are edited.

`meta status --watch` uses it to distinguish a version that was withdrawn from one whose hosts are gone or retired. Pure.
"""

import hashlib

import msgspec

from meta.records.model import RecordSet
from meta.records.selectors import selector_fields


def version_fingerprint(records: RecordSet, agent: str) -> str:
    """The fingerprint of an agent, 16 hex digits; "" if it has no record.

    It covers the versions and commands of the record and its overrides, the bans, and the labels that overrides select by.
    """
    record = records.record(agent)
    if record is None:
        return ""
    overrides = [one for one in record.overrides if one.release is not None or one.cmd is not None]
    told = [(selector_fields(one.selector), one.release and one.release.version, one.cmd) for one in overrides]
    bans = sorted(ban.version for ban in records.bans if ban.agent == agent)
    found = hashlib.sha256(msgspec.json.encode([record.release.version, record.cmd, told, bans]))
    keys = {key for one in overrides for key in one.selector.label_keys}
    for host in sorted(records.labels) if keys else ():
        labels = records.labels[host]
        if chosen := sorted((key, labels[key]) for key in keys if key in labels):
            found.update(msgspec.json.encode([host, chosen]))
    return found.hexdigest()[:16]
