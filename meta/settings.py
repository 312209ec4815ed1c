"""The settings of `meta serve`: from its options, its configuration file, ops-meta's cfg.json, and the defaults, in this order.

The configuration file is YAML or JSON, with keys in camelCase; meta.example.yaml shows all of them. Invalid values raise
Misconfigured, with all lines at once: unknown keys, bad ports, missing directories. A removed key is only warned of.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meta.access.clients import Network, network
from meta.choices import FORMATS, LEVELS
from meta.errors import Misconfigured, Problem, RecordsError
from meta.errors import shown as problem_shown
from meta.records.files import located_tree
from meta.records.files.load import Loaded, decode, load
from meta.records.files.problem_reader import Field, Reader, is_blank
from updater.net import addresses
from updater.wire.durations import duration
from updater.wire.limits import MAX_NOTIFY
from updater.wire.text import in_plain_sight, plain, quoted
from updater.wire.urls import shown

DEFAULT_LISTEN = "127.0.0.1:2000"
DEFAULT_DATABASE = "sqlite:///var/meta.db"
DEFAULT_MAX_TARBALL = 4 << 30
# Settings that the previous release still had, and what replaces them. For one release each is ignored with a warning. Then
# its line here is deleted, and it is refused as any unknown key.
GONE: Mapping[str, str] = {  # by key of the file
    "pinThreads": "one thread answers all heartbeats now, on an event loop, and none needs to be pinned",
    "elves": "`meta elves -c FILE`, a process of its own on the same database, serves elves-agents (docs/elves.md)",
}
GONE_VARIABLES: Mapping[str, str] = {}  # by environment variable, META_...


class Settings(NamedTuple):
    """The settings of one meta. Times are in seconds."""

    host: str = "127.0.0.1"  # a name or an address to listen on; "": all interfaces
    port: int = 2000  # 0: any free one
    database: str = DEFAULT_DATABASE
    records: Path | None = None  # the file that manages the records; None: they are edited in the database
    tarballs: Path | None = None  # the directory of tarballs; None: meta serves none
    log_level: str = "info"
    log_format: str = "text"
    anonymous_hosts: bool | None = None  # whether hosts need no token; None: only those on this machine
    trusted_proxies: tuple[Network, ...] = ()
    new_for: float = 3600  # since the first report
    late_after: float = 900  # without a report
    lost_after: float = 3600  # without a report
    retire_after: float = 30 * 86400  # without a report; 0: never
    forget_after: float = 90 * 86400  # since it was retired; 0: never
    max_hosts: int = 2_000_000
    max_tarball: int = DEFAULT_MAX_TARBALL  # bytes of an upload
    max_connections: int = 10_000  # at once
    max_connections_of_one: int = 4_000  # of one address, or of one /64 of IPv6
    download_rate: int = 0  # bytes per second of all downloads; 0: no limit
    notify_wait: int = 270  # seconds that a host may be parked; 0: none is
    wake_rate: int = 4000  # heartbeats per second that wakes may cause
    max_parked: int = 50_000  # hosts at once
    warnings: tuple[str, ...] = ()  # for the owner of the file; meta starts all the same

    @property
    def url(self) -> str:
        """The URL by which this machine reaches the meta that listens there."""
        return f"http://{addresses.shown(addresses.from_here(self.host), self.port)}"


def settle(options: Mapping[str, Any], legacy: Loaded | None = None) -> Settings:
    """Return the settings from these options and the defaults. Raises Misconfigured.

    options: by the file's keys in snake_case; options that were not given are absent or None. legacy: the loaded records file,
    which has settings of its own if it is ops-meta's.
    """
    given = {key: value for key, value in options.items() if value is not None}
    own = legacy.settings if legacy else None
    host, port = parse_listen(given.pop("listen", "") or (own.listen if own else "") or DEFAULT_LISTEN)
    tarballs = given.pop("tarballs", None)
    if tarballs is not None and not tarballs.is_dir():
        raise Misconfigured(f"the tarball directory {plain(str(tarballs))} does not exist")
    if tarballs is None and own and legacy and own.tarball_dir:
        tarballs = _legacy_tarballs(Path(legacy.file), own.tarball_dir)
    settings = Settings(host=host, port=port, tarballs=tarballs, **given)
    if not settings.late_after <= settings.lost_after:
        raise Misconfigured("lostAfter must not be less than lateAfter")
    return settings


def _legacy_tarballs(records: Path, directory: str) -> Path | None:
    """Return ops-meta's tarball directory: relative to its cfg.json, or else to the current directory, as ops-meta does."""
    candidates = (records.parent / directory, Path(directory))
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def gathered(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Return a service's settings: options win over the configuration file, and that over the records file.

    Raises Misconfigured.
    """
    wanted = read(config) if config else {}
    wanted |= {key: value for key, value in options.items() if value is not None}
    records = wanted.get("records")
    return settle(wanted, load(records) if records else None)


def parse_listen(listen: str) -> tuple[str, int]:
    """Parse an address to listen on, as `addresses.parse_listen` does. Raises Misconfigured."""
    try:
        return addresses.parse_listen(listen)
    except ValueError as e:
        raise Misconfigured(f"cannot listen: {e}") from e


def read(path: Path, gone: Mapping[str, str] = GONE) -> dict[str, Any]:
    """Read a configuration file. Returns its options, as `settle` takes them, and `warnings` if there are any.

    Paths are relative to the file's directory. gone: removed keys, and what replaces them. Raises Misconfigured.
    """
    try:
        root = located_tree.from_yaml(decode(path.read_bytes(), str(path)))
    except located_tree.NodeError as e:
        raise RecordsError(str(path), [Problem("", e.line, str(e))]) from e
    except OSError as e:
        raise Misconfigured(
            f"the configuration {plain(str(path))} cannot be read: {getattr(e, 'strerror', None) or e}"
        ) from e
    reader = Reader()
    options: dict[str, Any] = {}
    if root is not None and not is_blank(root):
        for key, field in reader.fields(Field(root, "", root.line), {**KEYS, **gone}).items():
            if key in gone:
                reader.warn(field, f"is no longer a setting and is ignored: {gone[key]}")
                continue
            if is_blank(field.node):
                continue
            name, parse = KEYS[key]
            try:
                options[name] = parse(field, reader)
            except ValueError as e:
                reader.problem(field, str(e))
    if reader.problems:
        raise RecordsError(str(path), reader.problems)
    if reader.warnings:
        options["warnings"] = tuple(problem_shown(str(path), one) for one in reader.warnings)
    return {key: path.parent / value if isinstance(value, Path) else value for key, value in options.items()}


def _text(field: Field, reader: Reader) -> str | None:
    text = reader.text(field)
    if text and not in_plain_sight(text):
        raise ValueError(f"{quoted(shown(text))} has an invisible character; remove it")
    return text


def _path(field: Field, reader: Reader) -> Path:
    return Path(_text(field, reader) or "")


def _chosen(*allowed: str) -> Callable[[Field, Reader], str]:
    def parse(field: Field, reader: Reader) -> str:
        text = reader.text(field) or ""
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}{_not(text)}")
        return text

    return parse


def _boolean(field: Field, reader: Reader) -> bool:
    return _chosen("true", "false")(field, reader) == "true"


def _count(field: Field, reader: Reader) -> int:
    text = reader.text(field) or ""
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ValueError(f"must be a whole number{_not(text)}")
    return int(text)


def _rate(field: Field, reader: Reader) -> int:
    found = _count(field, reader)
    if not found:
        raise ValueError("must be at least 1")
    return found


def _wait(field: Field, reader: Reader) -> int:
    found = _seconds(field, reader)
    if found > MAX_NOTIFY:
        raise ValueError(f"must be from 1 to {MAX_NOTIFY:,} seconds, or 0 for no parked hosts")
    return int(found)


def _seconds(field: Field, reader: Reader) -> float:
    text = reader.text(field) or ""
    found = duration(text, bare=True)
    if found is None:
        raise ValueError(f"must be seconds, or a number with s, m, h, d or w: 15m{_not(text)}")
    return found


def _not(text: str) -> str:
    return f", not {quoted(text)}" if text else ""


def _networks(field: Field, reader: Reader) -> tuple[Network, ...]:
    return tuple(network(text) for item in reader.items(field) if (text := reader.text(item)))


KEYS: dict[str, tuple[str, Callable[[Field, Reader], Any]]] = {
    "listen": ("listen", _text),
    "database": ("database", _text),
    "records": ("records", _path),
    "tarballs": ("tarballs", _path),
    "logLevel": ("log_level", _chosen(*LEVELS)),
    "logFormat": ("log_format", _chosen(*FORMATS)),
    "anonymousHosts": ("anonymous_hosts", _boolean),
    "trustedProxies": ("trusted_proxies", _networks),
    "newFor": ("new_for", _seconds),
    "lateAfter": ("late_after", _seconds),
    "lostAfter": ("lost_after", _seconds),
    "retireAfter": ("retire_after", _seconds),
    "forgetAfter": ("forget_after", _seconds),
    "maxHosts": ("max_hosts", _count),
    "maxTarball": ("max_tarball", _count),
    "maxConnections": ("max_connections", _count),
    "maxConnectionsOfOne": ("max_connections_of_one", _count),
    "downloadRate": ("download_rate", _count),
    "notifyWait": ("notify_wait", _wait),
    "wakeRate": ("wake_rate", _rate),
    "maxParked": ("max_parked", _count),
}
