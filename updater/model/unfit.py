"""A tarball whose content this host has refused: it is remembered so that it is not downloaded again. Pure."""

import msgspec

from updater.wire.heartbeat import Desired


class Unfit(msgspec.Struct, frozen=True):
    """One refused tarball."""

    version: str
    digest: str  # of the tarball, `KIND:HEX`
    reason: str  # why it was refused
    terms: str  # the updater's version and the limits: with others it may be accepted
    attempt: int = 0  # of the order

    def holds_for(self, order: Desired) -> bool:
        """Whether the refusal is valid for this order: the same version, and no higher attempt."""
        return order.version == self.version and order.attempt <= self.attempt
