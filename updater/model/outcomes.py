"""What is remembered of an agent's outcomes. Pure; a part of `memory.Memory`."""

from typing import Self

import msgspec
from msgspec.structs import replace

from updater.model.recognised import Processes
from updater.wire.heartbeat import DONE, FAILED, FORMER, ROLLED_BACK, Desired, Outcome

_KEPT = 8  # unreported outcomes of one agent; older ones are dropped


class Outcomes(Processes, frozen=True, kw_only=True):
    """The outcomes of an agent's changes, besides the processes of its versions."""

    outcomes: tuple[Outcome, ...] = ()  # not yet received by meta
    last: Outcome | None = None  # the last outcome, reported or not
    taking_back: Outcome | None = (
        None  # of a way back that was begun; it is told when `.version` names where that leads
    )
    # The order whose failure `last` is. Its name on the disk is that of earlier versions of the updater.
    failed_order: Desired | None = msgspec.field(default=None, name="told_of")

    def with_outcome(self, outcome: Outcome, order: Desired | None = None) -> Self:
        """The memory with an outcome for the next report. A repeated failure is not added again.

        order: the one that failed; None if none did.
        """
        again = self.last and replace(outcome, at=self.last.at, evidence=self.last.evidence) == self.last
        if again and outcome.result != DONE:
            return self
        kept = (*self.outcomes, outcome)[-_KEPT:]
        failed = None if outcome.result == DONE else order
        return replace(self, outcomes=kept, last=outcome, failed_order=failed)

    def with_way_back(self, outcome: Outcome) -> Self:
        """The memory when a way back begins. outcome: see `taking_back`."""
        return replace(self, taking_back=outcome)

    def switched_to(self, version: str) -> Self:
        """The memory once `.version` names this version: a way back that was begun has come about, or has come to nothing."""
        if self.taking_back is None:
            return self
        begun = self.taking_back
        told = begun if version == begun.from_ else replace(begun, result=begun.result.replace(ROLLED_BACK, FAILED))
        return replace(self, taking_back=None).with_outcome(told)

    def found_at(self, current: str) -> Self:
        """The memory once an agent was observed at this version: its updater may have been killed just after the switch."""
        leads_here = self.taking_back is not None and self.taking_back.from_ == current
        return self.switched_to(current) if leads_here else self

    def superseded(self) -> Self:
        """The memory once another order is in force: what has failed by the former one is told as such."""
        begun = self.taking_back and of_former_order(self.taking_back)
        return replace(self, outcomes=tuple(map(of_former_order, self.outcomes)), taking_back=begun)

    def reported(self, outcomes: tuple[Outcome, ...]) -> Self:
        """The memory after meta has received these outcomes."""
        return replace(self, outcomes=tuple(o for o in self.outcomes if o not in outcomes))


def of_former_order(outcome: Outcome) -> Outcome:
    """The outcome as one of an order that has changed since. Meta does not count it as a failure of the present one."""
    if outcome.result == DONE or outcome.result.endswith(FORMER):
        return outcome
    return replace(outcome, result=outcome.result + FORMER)
