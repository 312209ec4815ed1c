"""What `meta serve` shall do, settled from its options, its configuration file, a legacy cfg.json's own settings, and the
defaults, in this order.

The file is YAML or JSON (meta.example.yaml shows all of it); its keys are camelCase like those of cfg.json. Refuses, with
Misconfigured and every line at once, what cannot be meant: unknown keys, a port that is none, a directory that is not there.
A key that has gone away is only warned of.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meta.access.clients import Network, network
from meta.errors import Misconfigured, Problem, RecordsError
from meta.errors import shown as problem_shown
from meta.records.files import located_tree
from meta.records.files.load import Loaded, decode, load
from meta.records.files.problem_reader import Field, Reader, is_blank
from updater.net import addresses
from updater.wire.durations import duration
from updater.wire.text import in_plain_sight, plain, quoted
from updater.wire.urls import shown

DEFAULT_LISTEN = "127.0.0.1:2000"
DEFAULT_DATABASE = "sqlite:///var/meta.db"
DEFAULT_MAX_TARBALL = 4 << 30
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
# What the last release still read, and what takes its place. For one release each is warned of and ignored; then its line here
# goes, and it is an unknown one like any other.
GONE: Mapping[str, str] = {  # by key of the file
    "elves": "`meta elves -c FILE`, a process of its own on the same database, serves elves-agents (docs/elves.md)",
}
GONE_VARIABLES: Mapping[str, str] = {}  # by variable, META_...


class Settings(NamedTuple):
    """records: the file that the records are managed in, or None when they live in the database; host: a name or an address, ""
    for all interfaces; port: 0 for any free one; tarballs: a directory, or None; anonymous_hosts: whether hosts without a token
    are answered, None = those on this machine; times in seconds, 0 = never; max_tarball: bytes of an upload;
    pin_threads: whether heartbeats are answered on one CPU."""

    host: str = "127.0.0.1"
    port: int = 2000
    database: str = DEFAULT_DATABASE
    records: Path | None = None
    tarballs: Path | None = None
    log_level: str = "info"
    log_format: str = "text"
    anonymous_hosts: bool | None = None
    trusted_proxies: tuple[Network, ...] = ()
    new_for: float = 3600
    late_after: float = 900
    lost_after: float = 3600
    retire_after: float = 30 * 86400
    forget_after: float = 90 * 86400
    max_hosts: int = 2_000_000
    max_tarball: int = DEFAULT_MAX_TARBALL
    pin_threads: bool = True
    warnings: tuple[str, ...] = ()  # what to tell the owner of the file, though all is well

    @property
    def url(self) -> str:
        """Where this machine reaches the meta that listens there."""
        return f"http://{addresses.shown(addresses.from_here(self.host), self.port)}"


def settle(options: Mapping[str, Any], legacy: Loaded | None = None) -> Settings:
    """options: by the file's keys in snake_case, those that nobody gave absent or None; legacy: the loaded records file, for
    ops-meta's own settings. Raises Misconfigured."""
    given = {key: value for key, value in options.items() if value is not None}
    own = legacy.settings if legacy else None
    host, port = parse_listen(given.pop("listen", "") or (own.listen if own else "") or DEFAULT_LISTEN)
    tarballs = given.pop("tarballs", None)
    if tarballs is not None and not tarballs.is_dir():
        raise Misconfigured(f"the tarball directory {plain(str(tarballs))} is not there")
    if tarballs is None and own and legacy and own.tarball_dir:
        tarballs = _legacy_tarballs(Path(legacy.file), own.tarball_dir)
    settings = Settings(host=host, port=port, tarballs=tarballs, **given)
    if not settings.late_after <= settings.lost_after:
        raise Misconfigured("lostAfter must not be less than lateAfter")
    return settings


def _legacy_tarballs(records: Path, directory: str) -> Path | None:
    """ops-meta takes it from where it was started; beside its cfg.json is where it usually is."""
    candidates = (records.parent / directory, Path(directory))
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def gathered(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """A service's settings: its file's, over which its options win, and those of its records file. Raises Misconfigured."""
    wanted = read(config) if config else {}
    wanted |= {key: value for key, value in options.items() if value is not None}
    records = wanted.get("records")
    return settle(wanted, load(records) if records else None)


def parse_listen(listen: str) -> tuple[str, int]:
    """As `addresses.parse_listen`. Raises Misconfigured."""
    try:
        return addresses.parse_listen(listen)
    except ValueError as e:
        raise Misconfigured(f"cannot listen: {e}") from e


def read(path: Path, gone: Mapping[str, str] = GONE) -> dict[str, Any]:
    """A configuration file -> the options it gives, for `settle`; `warnings` is one of them where there are any. Paths are from
    the file's directory. Raises Misconfigured."""
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
                reader.warn(field, f"is no setting any more, and ignored: {gone[key]}")
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
        raise ValueError(f"{quoted(shown(text))} has a character that cannot be seen")
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
    "pinThreads": ("pin_threads", _boolean),
}
