"""Determines the name that this host reports under: that of cfg.json, else the machine's own name if it is plausible.

Before its network is up, or after its DHCP lease was lost, a machine may be called `localhost` or have another host's name.
Under such a name meta would answer with the orders of another host, or with none. Therefore an invalid machine name is never
used, and a new one only after PATIENCE seconds within one boot. Until then the last orders count as if meta did not answer. The
time is measured since the boot, since a machine without its network may have a wrong clock.

This module also hashes the ids of the machine and of its boot, by which meta distinguishes two machines of one name. The ids
themselves are secrets (machine-id(5)).
"""

import hashlib
import hmac
import re
import socket
from functools import lru_cache
from pathlib import Path

from updater.cached_reads import CachedReads
from updater.errors import Misconfigured, TryLater
from updater.host.context import Host
from updater.wire.names import hostname_problem, is_any_machine_s
from updater.wire.text import one_line

PATIENCE = 3600.0  # seconds for which a host keeps its last orders after its machine's name has changed
_ID = re.compile(r"[0-9a-f]{32}")
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


class NameInDoubt(TryLater):
    """This machine's name has changed: its last orders stay in force for PATIENCE seconds, and meta is not asked."""


def reported(host: Host) -> str:
    """The name for the next report. Raises Misconfigured if the machine's name is invalid, NameInDoubt if it has changed."""
    if host.config.hostname:
        return host.config.hostname
    derived = socket.gethostname()
    if problem := derived_problem(derived):
        raise Misconfigured(problem)
    last = host.orders.last
    if (left := PATIENCE - last.seconds_of_name(derived, host.uptime())) > 0:
        raise NameInDoubt(
            f"this machine calls itself {derived} now, and was {last.hostname} at its last heartbeat: its last orders are kept "
            f"for another {left / 60:.0f} min, then it reports as {derived}; set hostname in cfg.json to report at once"
        )
    return derived


def trouble(host: Host) -> str:
    """Why this host's name keeps it from sending reports now, or ""."""
    try:
        reported(host)
    except (Misconfigured, NameInDoubt) as e:
        return str(e)
    return ""


def note(host: Host) -> None:
    """Store since when this machine has had its name, if it differs from the one that meta knows. Raises TryLater."""
    if not host.config.hostname and not derived_problem(derived := socket.gethostname()):
        host.orders.note_name(derived, host.uptime())


def derived_problem(derived: str) -> str:
    """Why this machine name must not be used, or ""."""
    if is_any_machine_s(derived) or hostname_problem(derived):
        return f'this machine calls itself "{one_line(derived, 80)}", which names no host: set hostname in cfg.json'
    return ""


def machine() -> str:
    """A hash of the machine id, 16 hex digits; "" if there is none yet."""
    return next((found for file in _MACHINE_IDS if (found := _hash_in(file))), "")


@lru_cache(maxsize=16)
def hashed(kind: str, text: str) -> str:
    """The hash of an id, 16 hex digits; "" if it is not an id. kind: hashed with it, so that kinds cannot be compared."""
    compact = text.strip().lower().replace("-", "")
    if not _ID.fullmatch(compact):
        return ""  # `uninitialized` in an image that has never booted
    return hmac.new(f"ops-updater {kind}".encode(), compact.encode(), hashlib.sha256).hexdigest()[:16]


def _hash(file: Path) -> str:
    """The hash of the machine id in a file, or ""."""
    try:
        with file.open(encoding="ascii", errors="replace") as opened:
            text = opened.read(64)
    except OSError:
        return ""
    return hashed("machine", text)


_hash_in = CachedReads(_hash)
