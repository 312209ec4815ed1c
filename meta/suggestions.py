"""The nearest of the names that are known, for what was probably meant. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_NAMED = 3  # hosts in a sentence
_NEIGHBOURS = 100  # names on either side that are compared, of a million


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; "" when none is."""
    return next(iter(get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean falcon-agent?`, or "" when no known name is like this one."""
    close = closest(name, known)
    return f"; did you mean {close}?" if close else ""


def no_such_hosts(names: Sequence[str], ordered: Sequence[str]) -> str:
    """What is said of hosts that never reported. names: at least one; ordered: those that have, sorted."""
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    host, has = ("host", "has") if len(names) == 1 else ("hosts", "have")
    return f"no {host} {shown} {has} reported{did_you_mean(names[0], _neighbours(names[0], ordered))}"


def _neighbours(name: str, ordered: Sequence[str]) -> Sequence[str]:
    """The names next to this one in a sorted list: enough for `closest`, however long the list is."""
    at = bisect_left(ordered, name)
    return ordered[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]
