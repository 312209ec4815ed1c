"""Reads cfg.json: the keys of the Go updater, and added keys with defaults. Errors name the file and the key's path."""

import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from updater import durable_files, places
from updater.artifact.tar_reader import Limits
from updater.errors import Misconfigured, TryLater
from updater.net import addresses
from updater.wire import decode_problems, syntax_mistakes
from updater.wire.heartbeat import Desired
from updater.wire.names import hostname_problem, name_problem
from updater.wire.text import encoding_problem, plain
from updater.wire.urls import base_problem, shown

LIMIT = 1 << 20  # bytes of a cfg.json

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A JSON object of cfg.json."""


class Http(_Section, frozen=True):
    """The local HTTP interface."""

    enabled: bool = True
    listen: str = "127.0.0.1:2001"  # `host:port`; `:port` means every interface, port 0 any free port


class Timeouts(_Section, frozen=True):
    """Seconds that each operation may take."""

    status: Seconds = 10
    start: Seconds = 60  # with the wait for `./control status` to confirm it
    stop: Seconds = 60  # likewise
    heartbeat: Seconds = 30
    download: Seconds = 1800


class AgentSettings(_Section, frozen=True):
    """Settings of one agent on this host; they count where meta's reply has none (a Go meta never has)."""

    leftovers: Literal["", "leave", "end"] = ""
    unknown_status: Literal["", "wait", "upgrade"] = ""


class Config(_Section, frozen=True):
    """A host's configuration; the keys in cfg.json are the same in camelCase."""

    server: str  # meta's `host:port`, or an http or https URL
    interval: Seconds  # between two heartbeats
    debug: bool = False
    hostname: str = ""  # "" means the machine's own name
    desired_agent: str = ""  # only this agent is changed; "" means every agent
    http: Http = Http()
    timeouts: Timeouts = Timeouts()
    # Seconds for which a started version is on trial and can be rolled back:
    watch: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 60
    probe: Seconds = 2  # between two looks at an agent on trial
    # Old installs of an agent that are kept in addition to the current and the previous one:
    keep_versions: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    # Seconds for which meta's last orders stay in force while it does not answer:
    keep_orders: Annotated[float, msgspec.Meta(ge=0)] = 7 * 86400
    notify: bool = True  # whether the host lets meta wake it between two heartbeats, where meta offers that
    min_speed: Annotated[float, msgspec.Meta(ge=0)] = 1024  # bytes per second of a download
    # Bytes of output of an agent's start; beyond them only the last are kept:
    max_output: Annotated[int, msgspec.Meta(ge=64 << 10)] = 16 << 20
    ca_file: str = ""  # certificate authorities to trust instead of the system's
    credentials: dict[str, str] = {}  # origin (`https://host`) -> file with the credentials for it
    limits: Limits = Limits()  # of a tarball's content
    tools: tuple[str, ...] = ("sh", "tar", "md5sum")  # programs that must be on PATH
    agents: dict[str, AgentSettings] = {}  # by name

    @property
    def base_url(self) -> str:
        return (self.server if "://" in self.server else f"http://{self.server}").rstrip("/")

    @property
    def shown_url(self) -> str:
        """meta's URL for messages, without a password."""
        return shown(self.base_url)

    @property
    def heartbeat_url(self) -> str:
        return f"{self.base_url}/heartbeat"

    @property
    def reported_hostname(self) -> str:
        return self.hostname or socket.gethostname()

    def completed(self, order: Desired) -> Desired:
        """The order, with settings from `agents` where it has none."""
        ours = self.agents.get(order.name)
        if ours is None:
            return order
        return replace(
            order,
            leftovers=order.leftovers or ours.leftovers,
            unknown_status=order.unknown_status or ours.unknown_status,
        )


def load(path: Path) -> Config:
    """Read and check cfg.json. Raises Misconfigured with one sentence that names the file and the key's path."""
    try:
        data = durable_files.read_small(path.resolve(), LIMIT)
    except (ValueError, TryLater, OSError) as e:
        raise Misconfigured(str(e)) from e
    if data is None:
        raise Misconfigured(f"{path} does not exist: copy cfg.example.json to {path.name} and edit it")
    if problem := encoding_problem(data):
        raise Misconfigured(f"{path} {problem}")
    try:
        return _checked(msgspec.json.decode(data, type=Config))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        where, text = decode_problems.problem(e, data)
        at_key = isinstance(e, msgspec.ValidationError)
        if type(e) is msgspec.DecodeError and (mistake := syntax_mistakes.in_json_file(data)):
            raise Misconfigured(f"{path}:{mistake}") from e
        raise Misconfigured(f"{path}: {where or 'top level'}: {text}" if at_key else f"{path} {text}") from e
    except _Bad as e:
        raise Misconfigured(f"{path}: {e}") from e


class _Bad(ValueError):
    pass


def _checked(config: Config) -> Config:
    _check("server", base_problem("server", config.heartbeat_url))
    if config.hostname:
        _check("hostname", hostname_problem(config.hostname))
    for url in config.credentials:
        _check(f"credentials.{plain(shown(url))}", base_problem("it", url))
    if config.ca_file and not places.is_file(Path(config.ca_file)):
        raise _Bad(f"caFile: {plain(config.ca_file)} is not a file")
    for name in config.agents:
        _check(f"agents.{plain(name)}", name_problem(name))
    if config.desired_agent:
        _check("desiredAgent", name_problem(config.desired_agent))
    try:
        if config.http.enabled or config.http.listen:
            addresses.parse_listen(config.http.listen)
    except ValueError as e:
        raise _Bad(f"http.listen: {e}") from e
    return config


def _check(path: str, problem: str) -> None:
    if problem:
        raise _Bad(f"{path}: {problem}")


def as_json(config: Config) -> Any:
    """The configuration as plain values for the local HTTP interface, without passwords and the paths of credentials."""
    values = msgspec.to_builtins(config)
    del values["credentials"]
    values["server"] = shown(config.server)
    return values
