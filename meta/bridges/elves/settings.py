"""The settings of the bridge, from the heartbeat module's conf.properties.

The original file works unchanged, in UTF-8 or Java's ISO-8859-1, with all its keys and the names of older versions. Its
documentation shows comments after values (` #...`), which Java would read as part of the value; here they are removed.

If something is wrong, all problems are reported at once, each in one sentence.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import javaproperties

from meta.bridges.elves.limits import MAX_QUEUE
from meta.bridges.elves.zookeeper.nodes import check_hosts
from meta.errors import Misconfigured, Problem, RecordsError
from meta.suggestions import closest
from updater.wire.text import encoding_problem, plain, quoted

SIMPLE, SUPERVISOR, RECORDS = "simple", "supervisor", "records"
MODES = (SIMPLE, SUPERVISOR, RECORDS)
AGENT_INFO_FORMS = {"object": False, "list": True}
T = TypeVar("T")
MAX_FILE = 1 << 20  # bytes
_COMMENT = re.compile(r"(?:^|\s+)#.*$", re.DOTALL)  # also a value that is only a comment
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_ROOT = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\x00-\x20\x7f]+)+")
_HOSTS = re.compile(r"[^\s,]+(?:,[^\s,]+)*")
_WORDS = {"true": True, "false": False}


class BadProperties(ValueError):
    """The file is no properties file; the text says why."""


class Settings(NamedTuple):
    """The settings of the bridge."""

    mode: str = RECORDS
    local_apps: Mapping[str, str] = MappingProxyType({})  # app -> version, for mode simple
    thrift_ip: str = ""  # "": all interfaces
    thrift_port: int = 11102
    mq_ip: str = "127.0.0.1"
    mq_port: int = 5672
    mq_user: str = "guest"
    mq_password: str = "guest"  # noqa: S105 (RabbitMQ's own default)
    mq_vhost: str = "/"
    mq_exchange: str = "elves"
    mq_queue: str = "heartbeat"
    agent_info_list: bool = False  # whether agentInfo is answered with a list
    zookeeper_hosts: str = ""  # "": ZooKeeper is off
    out_time: float = 10.0  # seconds of ZooKeeper's session
    root: str = "/elves"  # path in ZooKeeper
    sync_every: float = 60.0  # seconds between two calls of appAuthInfo
    warnings: tuple[str, ...] = ()  # for the owner of the file


def read(path: Path) -> Settings:
    """Read a conf.properties. Raises Misconfigured."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as e:
        raise Misconfigured(f"the configuration {path} cannot be read: {e.strerror or e}") from e
    if len(data) > MAX_FILE:
        raise Misconfigured(f"the configuration {path} has more than {MAX_FILE} bytes: it is no conf.properties")
    try:
        return settle(parse(data), str(path))
    except BadProperties as e:
        raise Misconfigured(f"the configuration {path} cannot be read: {e}") from e


def parse(data: bytes) -> dict[str, str]:
    """Parse the bytes of a properties file. If a key is there twice, the last one counts. Raises BadProperties."""
    if problem := encoding_problem(data):
        raise BadProperties(problem)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("iso-8859-1")
    entries, line = {}, 1
    try:
        for element in javaproperties.parse(text):
            if isinstance(element, javaproperties.KeyValue):
                entries[element.key] = element.value
            line += len(_LINE_ENDS.findall(element.source))
    except javaproperties.InvalidUEscapeError as e:
        raise BadProperties(f"line {line}: \\u must be followed by four hex digits") from e
    return entries


def settle(entries: Mapping[str, str], file: str = "conf.properties") -> Settings:
    """Return the settings for these entries. Raises RecordsError, which has all problems."""
    values = _cleaned(entries)
    problems: list[Problem] = []

    def of(key: str, parse: Callable[[str], T], default: T) -> T:
        text = values.get(key, "")
        try:
            return parse(text) if text else default
        except ValueError as e:
            problems.append(Problem(key, 0, str(e) if plain(text) == text else f"{e}, not {quoted(text)}"))
            return default

    mode = of("auth.mode", _mode, RECORDS)
    nothing: dict[str, str] = {}
    apps = of("auth.localAppInfo", local_apps, nothing)
    if mode == SIMPLE and not values.get("auth.localAppInfo"):
        text = "is missing in mode simple, and every agent would remove all its apps; write {} if you want that"
        problems.append(Problem("auth.localAppInfo", 0, text))
    settings = Settings(
        mode=mode,
        local_apps=apps,
        thrift_ip=values.get("thrift.heartbeat.ip", ""),
        thrift_port=of("thrift.heartbeat.port", _port, 11102),
        mq_ip=values.get("mq.ip") or "127.0.0.1",
        mq_port=of("mq.port", _port, 5672),
        mq_user=values.get("mq.user") or "guest",
        mq_password=values.get("mq.password") or "guest",
        mq_vhost=values.get("mq.vhost") or "/",
        mq_exchange=of("mq.exchange", _short, "elves"),
        mq_queue=of("mq.queue", _short, "heartbeat"),
        agent_info_list=of("mq.agentInfo", _agent_info, False),
        zookeeper_hosts=of("zookeeper.host", _hosts, "127.0.0.1:2181")
        if of("zookeeper.enabled", _boolean, False)
        else "",
        out_time=of("zookeeper.outTime", _milliseconds, 10.0),
        root=of("zookeeper.root", _root, "/elves"),
        sync_every=of("auth.syncSeconds", _seconds, 60.0),
        warnings=tuple(_warnings(values)),
    )
    if problems:
        raise RecordsError(
            file, problems + [Problem(plain(key), 0, _unknown(key)) for key in values if _is_nearly_right(key)]
        )
    return settings


KEYS = (
    "zookeeper.enabled",
    "zookeeper.host",
    "zookeeper.outTime",
    "zookeeper.root",
    "mq.ip",
    "mq.port",
    "mq.user",
    "mq.password",
    "mq.exchange",
    "auth.mode",
    "auth.localAppInfo",
    "thrift.heartbeat.port",
    "thrift.heartbeat.ip",  # the address to listen on; this and the following keys are not in the original
    "mq.vhost",
    "mq.queue",
    "mq.agentInfo",
    "auth.syncSeconds",
)
_BLANK_END = re.compile(r"\s$")
_OLD_NAMES = {"zookeeper.heartbeat.port": "thrift.heartbeat.port"}
_OTHER_WORDS = {"mq.host": "mq.ip", "mq.hostname": "mq.ip"}  # their letters alone would suggest mq.vhost


def _cleaned(entries: Mapping[str, str]) -> dict[str, str]:
    """Return the values without trailing comments and blanks, except the password's. Old names become the new ones."""
    values = {key: text if key == "mq.password" else _COMMENT.sub("", text).strip() for key, text in entries.items()}
    for old, new in _OLD_NAMES.items():
        if old in values:
            values.setdefault(new, values.pop(old))
            values.pop(old, None)
    return values


def _warnings(values: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each probable mistake. The password is never shown."""
    for key in values:
        if key not in KEYS:
            yield f"{plain(key)} {_unknown(key)}"
    password = values.get("mq.password", "")
    if _COMMENT.search(password):
        yield "mq.password has a # that may begin a comment, but belongs to the password; put comments on their own lines"
    elif _BLANK_END.search(password):
        yield "mq.password ends with a blank, which is part of the password"
    if values.get("zookeeper.host") and not values.get("zookeeper.enabled"):
        yield (
            "zookeeper.host is given but zookeeper.enabled is not: agents are not shared with other instances; "
            "write zookeeper.enabled = true, or false if you want that"
        )


def _unknown(key: str) -> str:
    meant = _meant(key)
    return f"is not a known key and has no effect{f'; did you mean {meant}?' if meant else ''}"


def _is_nearly_right(key: str) -> bool:
    return key not in KEYS and bool(_meant(key))


def _meant(key: str) -> str:
    """Return the known key that is most similar to this one, "" if none is."""
    return _OTHER_WORDS.get(key.lower()) or closest(key.lower(), (*KEYS, *_OLD_NAMES))


def local_apps(text: str) -> dict[str, str]:
    """Parse apps and their versions, like `{'app1':'1.0.1'}`, with single or double quotes. Raises ValueError."""
    try:
        try:
            apps = json.loads(text)
        except ValueError:
            apps = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        apps = None
    if not isinstance(apps, dict) or not all(
        isinstance(v, str) and v and isinstance(k, str) and k for k, v in apps.items()
    ):
        raise ValueError("must be apps and their versions, like {'app1':'1.0.1','app2':'1.0.2'}")
    return apps


def _mode(text: str) -> str:
    if text.lower() not in MODES:
        raise ValueError("must be simple, supervisor or records")
    return text.lower()


def _agent_info(text: str) -> bool:
    if text.lower() not in AGENT_INFO_FORMS:
        raise ValueError("must be object or list")
    return AGENT_INFO_FORMS[text.lower()]


def _boolean(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("must be true or false")
    return _WORDS[text.lower()]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise ValueError("must be a port, 0 to 65535")
    return int(text)


def _milliseconds(text: str) -> float:
    if not text.isascii() or not text.isdecimal() or not 100 <= int(text[:9]) <= 3_600_000:
        raise ValueError("must be milliseconds, 100 to 3600000")
    return int(text) / 1000


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= 86400:
        raise ValueError("must be seconds, 1 to 86400")
    return float(text)


def _short(text: str) -> str:
    if len(text.encode()) > MAX_QUEUE or text.startswith("amq."):
        raise ValueError(f"must be a name of at most {MAX_QUEUE} bytes that does not begin with amq.")
    return text


def _hosts(text: str) -> str:
    hosts, _, chroot = text.partition("/")
    try:
        if not _HOSTS.fullmatch(hosts) or (chroot and not _ROOT.fullmatch(f"/{chroot}")):
            raise ValueError
        check_hosts(hosts)
    except ValueError:
        raise ValueError("must be HOST:PORT, more of them separated by commas without blanks") from None
    return text


def _root(text: str) -> str:
    if not _ROOT.fullmatch(text.rstrip("/")):
        raise ValueError("must be a path like /elves")
    return text.rstrip("/")
