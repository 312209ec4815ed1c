"""Decodes reports whose added fields have unexpected types: such fields are ignored, so that no heartbeat is lost.

Added fields are those that ops-updater's own reports do not have.
"""

from typing import Any, TypeVar

import msgspec

_OF_REPORTS = ("ip", "updaterVersion", "outcomes", "look", "machine", "boot")
_OF_AGENTS = ("held", "trial", "waits", "rejected", "attempt")
Kind = type[msgspec.Struct]
T = TypeVar("T", bound=msgspec.Struct)


def decode(body: bytes, report: type[T], agent: Kind, outcome: Kind, most: int) -> T:
    """Decode JSON as a `report` with at most `most` outcomes, without added fields of a wrong type.

    Raises msgspec.DecodeError for any other field of a wrong type.
    """
    fields = msgspec.json.decode(body)
    if isinstance(fields, dict):
        if isinstance(agents := fields.get("realAgents"), list):
            fields["realAgents"] = [_fitting(one, agent, _OF_AGENTS) for one in agents]
        if isinstance(told := fields.get("outcomes"), list):
            fields["outcomes"] = [one for one in told[:most] if _fits(one, outcome)]
        fields = _fitting(fields, report, _OF_REPORTS)
    return msgspec.convert(fields, report)


def _fitting(fields: Any, kind: Kind, ours: tuple[str, ...]) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {key: value for key, value in fields.items() if key not in ours or _fits({key: value}, kind)}


def _fits(value: Any, kind: Kind) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
