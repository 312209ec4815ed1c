"""Cuts an iterable into lists of a limited length. Pure."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` things; the last one may be shorter."""
    left = iter(things)
    while some := list(islice(left, size)):
        yield some
