"""The name that this host reports under: cfg.json's as it is, else the machine's own where that can be believed.

A machine whose network is not up yet, or whose DHCP server lost its lease, calls itself `localhost` or by another's name for a
while; by such a name meta would give it another host's orders, or those of no host at all. So a derived name that is none is
never used, and a new one only after an hour of one boot, in which the last orders count as if meta did not answer: a machine
without its network has no right time either, so no clock that may be set counts it. And hashes of the ids
that the machine and its boot have, by which meta can tell two machines of one name: the ids themselves are secrets
(machine-id(5)).
"""

import hashlib
import hmac
import re
import socket
from functools import lru_cache
from pathlib import Path

from updater.cached_reads import Kept
from updater.errors import Misconfigured, TryLater
from updater.host.context import Host
from updater.wire.names import hostname_problem
from updater.wire.text import one_line

PATIENCE = 3600.0  # seconds for which a host whose derived name has changed keeps its last orders
_NONE = ("localhost", "localhost4", "localhost6", "(none)", "")  # with or without a domain
_ID = re.compile(r"[0-9a-f]{32}")
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


class NameInDoubt(TryLater):
    """This machine has another name than it had: its last orders stay in force for a time, and meta is not asked."""


def reported(host: Host) -> str:
    """The name for a report that is sent now. Raises Misconfigured for a derived one that is none, NameInDoubt for another."""
    if host.config.hostname:
        return host.config.hostname
    derived = socket.gethostname()
    if problem := derived_problem(derived):
        raise Misconfigured(problem)
    last = host.orders.last
    if (left := PATIENCE - last.seconds_of_name(derived, host.uptime())) > 0:
        raise NameInDoubt(
            f"this machine calls itself {derived} now, and was {last.hostname} at its last heartbeat: its last orders are kept "
            f"for another {left / 60:.0f} min, then it reports as {derived}; at once with hostname in cfg.json"
        )
    return derived


def trouble(host: Host) -> str:
    """Why this host sends no report now because of its name, or ""."""
    try:
        reported(host)
    except (Misconfigured, NameInDoubt) as e:
        return str(e)
    return ""


def note(host: Host) -> None:
    """Remember since when this machine has had its name, if that is another than meta knows. Raises TryLater."""
    if not host.config.hostname and not derived_problem(derived := socket.gethostname()):
        host.orders.note_name(derived, host.uptime())


def derived_problem(derived: str) -> str:
    """Why this name of a machine is not to be used, or ""."""
    if derived.lower().partition(".")[0] in _NONE or hostname_problem(derived):
        return f'this machine calls itself "{one_line(derived, 80)}", which names no host: set hostname in cfg.json'
    return ""


def machine() -> str:
    """A hash of the machine-id, 16 hex digits; "" when there is none yet."""
    return next((found for file in _MACHINE_IDS if (found := _hash_in(file))), "")


@lru_cache(maxsize=16)
def hashed(kind: str, text: str) -> str:
    """An id as it may leave the machine, "" for none. kind: what it is of, so that two kinds of one id look different."""
    compact = text.strip().lower().replace("-", "")
    if not _ID.fullmatch(compact):
        return ""  # `uninitialized` in an image that has never booted
    return hmac.new(f"ops-updater {kind}".encode(), compact.encode(), hashlib.sha256).hexdigest()[:16]


def _hash(file: Path) -> str:
    """Of the id that it holds."""
    try:
        with file.open(encoding="ascii", errors="replace") as opened:
            text = opened.read(64)
    except OSError:
        return ""
    return hashed("machine", text)


_hash_in = Kept(_hash)
