"""What a host remembers of a tarball whose content it has refused, so that it is not fetched to be refused again. Pure."""

import msgspec

from updater.parts import Expected
from updater.tarstream import Limits
from updater.wire import VERSION, Desired


class Unfit(msgspec.Struct, frozen=True):
    """One refused content. digest: `KIND:HEX`; reason: the words of the refusal; terms: by what it was judged, since another
    updater or other limits may find it well; attempt: of the order that it was fetched for."""

    version: str
    digest: str
    reason: str
    terms: str
    attempt: int = 0

    def holds_for(self, order: Desired) -> bool:
        """Whether the order is still for this version, and for no new attempt at it."""
        return order.version == self.version and order.attempt <= self.attempt

    def is_of(self, expected: Expected, terms: str) -> bool:
        """Whether what is wanted now is this content, to be judged in the same way."""
        return (self.digest, self.terms) == (named(expected), terms)


def named(expected: Expected) -> str:
    """A digest with its kind."""
    return f"{expected.kind}:{expected.digest}"


def terms_of(limits: Limits) -> str:
    """By what this updater judges a content."""
    return f"{VERSION} {limits}"
