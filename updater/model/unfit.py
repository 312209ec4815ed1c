"""What a host remembers of a tarball whose content it has refused, so that it is not fetched to be refused again. Pure."""

import msgspec

from updater.wire.heartbeat import Desired


class Unfit(msgspec.Struct, frozen=True):
    """One refused content."""

    version: str
    digest: str  # `KIND:HEX`
    reason: str  # the words of the refusal
    terms: str  # by what it was judged: another updater or other limits may accept it
    attempt: int = 0  # of the order that it was fetched for

    def holds_for(self, order: Desired) -> bool:
        """Whether the order is still for this version, and for no new attempt at it."""
        return order.version == self.version and order.attempt <= self.attempt
