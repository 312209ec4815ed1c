"""Finds the known name that is most similar to an unknown one, to suggest it. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_NAMED = 3  # hosts that a sentence names
_NEIGHBOURS = 100  # names before and after it in order that are compared


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar to this one; "" if none is."""
    return next(iter(get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean falcon-agent?`, or "" if no known name is similar."""
    close = closest(name, known)
    return f"; did you mean {close}?" if close else ""


def no_such_hosts(names: Sequence[str], ordered: Sequence[str]) -> str:
    """Return a sentence about hosts that never reported. names: at least one; ordered: those that have reported, sorted."""
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    host, has = ("host", "has") if len(names) == 1 else ("hosts", "have")
    return f"no {host} {shown} {has} reported{did_you_mean(names[0], _neighbours(names[0], ordered))}"


def _neighbours(name: str, ordered: Sequence[str]) -> Sequence[str]:
    """Return the names near this one in a sorted list, so that `closest` is fast for a million names."""
    at = bisect_left(ordered, name)
    return ordered[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]
