"""What `meta serve` shall do, settled from its options, a legacy cfg.json's own settings, and the defaults, in this order.

Refuses with Misconfigured what cannot be meant: a port that is none, a tarball directory that is not there.
"""

import re
from pathlib import Path
from typing import NamedTuple

from meta.errors import Misconfigured
from meta.load import Loaded

DEFAULT_LISTEN = "127.0.0.1:2000"
DEFAULT_DATABASE = "sqlite:///var/meta.db"
_LISTEN = re.compile(r"(?P<host>\[[^\[\]\s]+\]|[^\[\]\s:]*):(?P<port>[0-9]{1,5})")


class Settings(NamedTuple):
    """host: a name or an address, "" for all interfaces; port: 0 for any free one; tarballs: a directory, or None."""

    records: Path
    host: str
    port: int
    database: str
    tarballs: Path | None
    log_level: str


def settle(
    loaded: Loaded, listen: str | None, database: str | None, tarballs: Path | None, log_level: str = "info"
) -> Settings:
    """Options that were not given are None. Raises Misconfigured."""
    legacy = loaded.settings
    records = Path(loaded.file)
    host, port = parse_listen(listen or (legacy.listen if legacy else "") or DEFAULT_LISTEN)
    if tarballs is not None and not tarballs.is_dir():
        raise Misconfigured(f"the tarball directory {tarballs} is not there")
    if tarballs is None and legacy and legacy.tarball_dir:
        tarballs = _legacy_tarballs(records, legacy.tarball_dir)
    return Settings(records, host, port, database or DEFAULT_DATABASE, tarballs, log_level)


def _legacy_tarballs(records: Path, directory: str) -> Path | None:
    """ops-meta takes it from where it was started; beside its cfg.json is where it usually is."""
    candidates = (records.parent / directory, Path(directory))
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def parse_listen(listen: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT`, or `:PORT` for all interfaces. Raises Misconfigured."""
    match = _LISTEN.fullmatch(listen)
    if not match or int(match["port"]) > 65535:
        raise Misconfigured(f'cannot listen on "{listen}": it must be HOST:PORT, or :PORT for all interfaces')
    return match["host"].strip("[]"), int(match["port"])
