"""Limits a report to what meta accepts. Pure.

No report is too large for meta, however long statuses are and however many agents there are: meta would refuse the whole
report, and the host would get no orders. Long texts are cut, surplus agents are left out, and surplus outcomes wait for the
next report.
"""

from collections.abc import Container, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from updater.wire.heartbeat import Outcome, RealAgent
from updater.wire.limits import MAX_AGENTS, MAX_BODY

CUT = 24  # characters that remain of each status if all statuses together are too long
T = TypeVar("T")
_HEAD = 4096  # bytes reserved for the rest of the report


def agents_that_fit(agents: Sequence[RealAgent], ordered: Container[str]) -> list[RealAgent]:
    """As many agents as meta accepts. ordered: names of agents that have an order; these are kept first."""
    kept = list(agents)
    if len(kept) > MAX_AGENTS:
        ours = sorted(range(len(kept)), key=lambda place: kept[place].name not in ordered)[:MAX_AGENTS]
        kept = [kept[place] for place in sorted(ours)]
    if sum(map(_size, kept)) > MAX_BODY // 2:
        kept = [replace(agent, status=agent.status[:CUT], held=_cut(agent.held)) for agent in kept]
    return kept


def fewer(outcomes: Sequence[T]) -> list[T]:
    """The first half of these, for a report that was too large for meta or for a proxy before it; none of a single one."""
    return list(outcomes[: len(outcomes) // 2])


def outcomes_that_fit(
    outcomes: Sequence[tuple[str, Outcome]], agents: Sequence[RealAgent]
) -> list[tuple[str, Outcome]]:
    """The first outcomes, as many as meta accepts in one report with these agents; the others wait for the next report."""
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
