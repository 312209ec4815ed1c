"""Determines the hosts of `meta label`: named, read from stdin, or selected among those that have reported."""

import re
import sys
from collections.abc import Sequence

from meta.api.schemas.types import Hosts as HostPage
from meta.cli.arguments import selector_of
from meta.cli.client import Client
from meta.errors import Misconfigured, NotThere
from meta.records.files.load import decode
from updater.wire.names import hostname_problem
from updater.wire.text import plain

MOST = 10_000  # hosts that meta labels in one edit
STDIN = "-"


def named(words: Sequence[str]) -> list[str]:
    """The host names in `words`; `-` stands for names on stdin, separated by line ends and blanks. Raises Misconfigured."""
    found: list[str] = []
    for word in words:
        found += _on_stdin() if word == STDIN else [word]
    if problem := next(filter(None, map(hostname_problem, found)), ""):
        raise Misconfigured(problem)
    if not found:
        raise Misconfigured("stdin has no hostnames")
    return _not_too_many(list(dict.fromkeys(found)))


def _on_stdin() -> list[str]:
    """Not split at what only looks like a blank, which would make several names of one."""
    return [word for word in re.split(r"[ \t\r\n\v\f]+", decode(sys.stdin.buffer.read(), "stdin")) if word]


def chosen(client: Client, name: str, where: str) -> list[str]:
    """The hosts that have reported and match both conditions; "" for no condition. Raises NotThere if there are none.

    name: a glob; where: a selector as for --for.
    """
    selector = selector_of(where) if where else None
    query = (selector.query() if selector else {}) | ({"name": name} if name else {})
    found: list[str] = []
    meant = ""
    for page in client.pages("/hosts", HostPage, 0, **query):
        found += [one.name for one in page.items if selector is None or selector.matches(one.name, one.labels)]
        _not_too_many(found)
        meant = page.hint.rpartition("; ")[2]
    if not found:
        shown = " and ".join(filter(None, (name and f"--name {plain(name)}", where and f"--where {plain(where)}")))
        raise NotThere(f"no host that has reported matches {shown}{f'; {meant}' if meant else ''}")
    return found


def _not_too_many(hosts: list[str]) -> list[str]:
    if len(hosts) > MOST:
        raise Misconfigured(f"these are more than {MOST:,} hosts, the limit of one edit: choose fewer at a time")
    return hosts
