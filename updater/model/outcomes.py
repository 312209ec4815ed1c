"""What is remembered of an agent's outcomes. Pure; a part of `memory.Memory`."""

from typing import Self

import msgspec
from msgspec.structs import replace

from updater.model.recognised import Processes
from updater.wire.heartbeat import DONE, Desired, Outcome

_KEPT = 8  # unreported outcomes of one agent; older ones are dropped


class Outcomes(Processes, frozen=True, kw_only=True):
    """The outcomes of an agent's changes, besides the processes of its versions."""

    outcomes: tuple[Outcome, ...] = ()  # not yet received by meta
    last: Outcome | None = None  # the last outcome, reported or not
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

    def reported(self, outcomes: tuple[Outcome, ...]) -> Self:
        """The memory after meta has received these outcomes."""
        return replace(self, outcomes=tuple(o for o in self.outcomes if o not in outcomes))
