"""What of a host's news fits into one report, as the wire takes it. Pure.

Promises that no report is too large for meta, whatever scripts say and however many agents there are: one that meta refuses
whole would leave the host without orders. What does not fit is cut, left out and said, or goes with the next report.
"""

from collections.abc import Container, Sequence

import msgspec
from msgspec.structs import replace

from updater.wire.heartbeat import Outcome, RealAgent
from updater.wire.limits import MAX_AGENTS, MAX_BODY

CUT = 24  # characters that are left of a status where they are too long together
_HEAD = 4096  # bytes of all that is neither agent nor outcome


def agents_that_fit(agents: Sequence[RealAgent], ordered: Container[str]) -> list[RealAgent]:
    """As many as meta accepts, those first that it has orders for; ordered: their names."""
    kept = list(agents)
    if len(kept) > MAX_AGENTS:
        ours = sorted(range(len(kept)), key=lambda place: kept[place].name not in ordered)[:MAX_AGENTS]
        kept = [kept[place] for place in sorted(ours)]
    if sum(map(_size, kept)) > MAX_BODY // 2:
        kept = [replace(agent, status=agent.status[:CUT], held=_cut(agent.held)) for agent in kept]
    return kept


def outcomes_that_fit(
    outcomes: Sequence[tuple[str, Outcome]], agents: Sequence[RealAgent]
) -> list[tuple[str, Outcome]]:
    """As many as meta accepts in one report with these agents; the others go with the next report."""
    fitting, room = [], MAX_BODY - _HEAD - sum(map(_size, agents))
    for name, outcome in outcomes[:MAX_AGENTS]:
        room -= _size(outcome)
        if room < 0:
            break
        fitting.append((name, outcome))
    return fitting


def _size(one: RealAgent | Outcome) -> int:
    return len(msgspec.json.encode(one)) + 1


def _cut(text: str | msgspec.UnsetType) -> str | msgspec.UnsetType:
    return text[:CUT] if isinstance(text, str) else text
