"""Logs what agents wait for: once, not in each cycle, also if an agent's status counts or tells the time."""

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

log = logging.getLogger("updater")

AGAIN = 3600.0  # seconds after which a wait is logged again if only the status in it has changed


class _Logged(NamedTuple):
    kind: str  # the text without the agent's own words
    text: str
    at: float


@dataclass(slots=True)
class WaitsLog:
    """What was logged of each agent last."""

    _last: dict[str, _Logged] = field(default_factory=dict)

    def note(self, name: str, waits: str, now: float, status: str = "") -> None:
        """Log why an agent waits, unless that is known; "" if it does not wait any more.

        now: seconds on any clock; status: the agent's own words, which `waits` may contain.
        """
        if not waits:
            self._last.pop(name, None)
            return
        kind = waits.replace(repr(status), "").replace(status, "") if status else waits
        last = self._last.get(name)
        if last and last.kind == kind and (last.text == waits or 0 <= now - last.at < AGAIN):
            return
        log.warning("%s: %s", name, waits)
        self._last[name] = _Logged(kind, waits, now)
