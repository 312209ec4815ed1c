"""Which selectors have hosts in common. Pure.

Nobody can tell for all pairs, so there are two questions: `surely_overlap` never says yes of two that cannot meet (hosts
are named freely, so that each prefix and label has some), `may_overlap` never says no of two that can. Between the two
nobody knows.
"""

import re

from meta.records import Glob, Hosts, Label, Prefix, Selector

_WILDCARD = re.compile(r"[*?[]")


def surely_overlap(one: Selector, other: Selector) -> bool:
    """Whether some host is certainly selected by both. False may also mean that nobody can tell (two globs, a label)."""
    one, other = _simplest(one), _simplest(other)
    if isinstance(one, Hosts) or isinstance(other, Hosts):
        return _share_a_host(one, other)
    if isinstance(one, Prefix) and isinstance(other, Prefix):
        return one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    if isinstance(one, Label) and isinstance(other, Label):
        return one.label == other.label or other.label in _key_and_all(one) or one.label in _key_and_all(other)
    return one == other or _within(one, other) or _within(other, one)


def may_overlap(one: Selector, other: Selector) -> bool:
    """Whether some host may be selected by both. False: certainly none."""
    one, other = _simplest(one), _simplest(other)
    if isinstance(one, Label) and isinstance(other, Label):
        key, equals, _ = one.label.partition("=")
        other_key, other_equals, _ = other.label.partition("=")
        return one == other or key != other_key or not (equals and other_equals)
    if isinstance(one, Label) or isinstance(other, Label):
        return True
    if isinstance(one, Hosts) or isinstance(other, Hosts):
        return _share_a_host(one, other)
    (head, tail), (other_head, other_tail) = _ends(one), _ends(other)
    heads = head.startswith(other_head) or other_head.startswith(head)
    return heads and (tail.endswith(other_tail) or other_tail.endswith(tail))


def _simplest(selector: Selector) -> Selector:
    """A glob without wildcards names one host, and one with a last `*` alone is a prefix."""
    if not isinstance(selector, Glob):
        return selector
    if not _WILDCARD.search(selector.glob):
        return Hosts(frozenset((selector.glob,)))
    if selector.glob.endswith("*") and not _WILDCARD.search(selector.glob[:-1]):
        return Prefix(selector.glob[:-1])
    return selector


def _share_a_host(one: Selector, other: Selector) -> bool:
    if isinstance(one, Hosts) and isinstance(other, Hosts):
        return not one.hosts.isdisjoint(other.hosts)
    listed, rule = (one, other) if isinstance(one, Hosts) else (other, one)
    return isinstance(listed, Hosts) and any(rule.matches(host, {}) for host in listed.hosts)


def _within(one: Selector, other: Selector) -> bool:
    """Whether other is a prefix that all hosts of one have."""
    return isinstance(other, Prefix) and _ends(one)[0].startswith(other.prefix)


def _key_and_all(label: Label) -> tuple[str, str]:
    return label.label, label.label.partition("=")[0]


def _ends(selector: Selector) -> tuple[str, str]:
    """How each name that a prefix or a glob selects certainly begins and ends."""
    if isinstance(selector, Prefix):
        return selector.prefix, ""
    if not isinstance(selector, Glob):
        return "", ""
    parts = _WILDCARD.split(selector.glob)
    return parts[0], "" if "[" in selector.glob else parts[-1]
