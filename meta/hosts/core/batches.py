"""Many things, some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many at once; the last may be fewer."""
    left = iter(things)
    while some := list(islice(left, size)):
        yield some
