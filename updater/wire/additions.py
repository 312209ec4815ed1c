"""A report in which an addition of ours is of another kind than we know: that one is ignored, for none may cost a heartbeat."""

from typing import Any, TypeVar

import msgspec

_OF_REPORTS = ("ip", "updaterVersion", "outcomes", "look", "machine", "boot")
_OF_AGENTS = ("held", "trial", "waits", "rejected", "attempt")
Kind = type[msgspec.Struct]
T = TypeVar("T", bound=msgspec.Struct)


def decode(body: bytes, report: type[T], agent: Kind, outcome: Kind, most: int) -> T:
    """The JSON as a `report` with at most so many outcomes, without what does not fit. Raises msgspec.DecodeError where that is
    no addition."""
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
