"""Rate limits of clients, and the identity of a client behind proxies. Time is an argument.

Memory is bounded: the client that was idle for longest is forgotten first. Forgetting can only allow a request, never refuse
one.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from updater.service.web_guard import host_problem, page_problem
from updater.wire.text import quoted

MAX_CLIENTS = 20_000
FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
_INSIDE = 96  # bits of an IPv6 address before the IPv4 address inside it
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,16}")
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Buckets:
    """A token bucket of `burst` permits for each client, refilled at `rate` per second. Safe for threads."""

    def __init__(self, rate: float, burst: float, clients: int = MAX_CLIENTS):
        self.rate = rate
        self.burst = burst
        self._clients = clients
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str, now: float) -> float:
        """Take a permit and return 0.0; if there is none, return the seconds until the next one. now: Unix seconds."""
        with self._lock:
            level, at = self._levels.pop(client, (self.burst, now))
            level = min(self.burst, level + max(0.0, now - at) * self.rate)
            wait = 0.0 if level >= 1 else (1 - level) / self.rate
            self._levels[client] = (level if wait else level - 1, now)
            if len(self._levels) > self._clients:
                self._levels.popitem(last=False)
            return wait

    def __len__(self) -> int:
        return len(self._levels)


class RateLimits(NamedTuple):
    """The rate limits of meta."""

    failures: Buckets  # refused tokens, by address
    requests: Buckets  # requests to the REST API, by address
    enrolments: Buckets  # by enrolment token, since a whole rack may share one address


def default_rate_limits() -> RateLimits:
    return RateLimits(
        failures=Buckets(rate=1, burst=10), requests=Buckets(rate=50, burst=200), enrolments=Buckets(rate=20, burst=200)
    )


def network(text: str) -> Network:
    """Parse an address or a network; an IPv4-mapped IPv6 one becomes IPv4. Raises ValueError."""
    try:
        found = ip_network(text)
    except ValueError as e:
        raise ValueError(f"{quoted(text)} is no address like 10.0.0.1 and no network like {_meant(text)}") from e
    if isinstance(found, IPv6Network) and found.prefixlen >= _INSIDE and (inside := found.network_address.ipv4_mapped):
        return IPv4Network((inside, found.prefixlen - _INSIDE))
    return found


def _meant(text: str) -> str:
    """The network that was probably meant, or an example."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return "10.0.0.0/8"


def client_address(environ: Mapping[str, Any], trusted: Sequence[Network] = ()) -> str:
    """The client's address. X-Forwarded-For is believed only as far as trusted proxies wrote it: from the right, the first
    address that is not a trusted proxy is the client."""
    address = str(environ.get("REMOTE_ADDR") or "")
    if not trusted or not is_in(address, trusted):
        return address
    for hop in reversed(str(environ.get("HTTP_X_FORWARDED_FOR") or "").split(",")):
        parsed = _parse(hop.strip())
        if parsed is None:
            break
        address = str(parsed)
        if not is_in(address, trusted):
            break
    return address


def path_prefix(environ: Mapping[str, Any], trusted: Sequence[Network] = ()) -> str:
    """The path below which clients reach meta, without a trailing slash, "" for none.

    It is X-Forwarded-Prefix, if a trusted proxy sends it, followed by the server's own prefix.
    """
    said = ""
    if trusted and is_in(str(environ.get("REMOTE_ADDR") or ""), trusted):
        said = str(environ.get("HTTP_X_FORWARDED_PREFIX") or "").strip().rstrip("/")
    prefix = f"{said}{environ.get('SCRIPT_NAME') or ''}".rstrip("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""


def is_local(environ: Mapping[str, Any]) -> bool:
    """Whether the request was made on this machine, and not only forwarded by a proxy on it."""
    address = _parse(str(environ.get("REMOTE_ADDR") or ""))
    return address is not None and address.is_loopback and not any(header in environ for header in FORWARDED)


def page_refusal(environ: Mapping[str, Any]) -> str:
    """Why this request comes from a web page of another site, or ""."""
    origin, site = environ.get("HTTP_ORIGIN", ""), environ.get("HTTP_SEC_FETCH_SITE", "")
    return page_problem(origin, site, environ.get("HTTP_HOST", "")) if origin or site else ""


def host_refusal(environ: Mapping[str, Any]) -> str:
    """Why this request may come from a web page by DNS rebinding, or "". For routes that only `is_local` allows."""
    return host_problem(environ.get("HTTP_HOST", ""))


def allows_anonymous(setting: bool | None, environ: Mapping[str, Any]) -> bool:
    """Whether a host without a token is accepted. setting: `anonymousHosts`; None means only from this machine."""
    return is_local(environ) if setting is None else setting


def bucket_of(address: str) -> str:
    """The key of an address's bucket: the IPv4 address, or the /64 network of IPv6, which one customer owns anyway."""
    parsed = _parse(address)
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def is_in(address: str, networks: Sequence[Network]) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks)


@lru_cache(4096)
def _parse(text: str) -> Address | None:
    """Parse an address; an IPv4-mapped IPv6 address becomes IPv4. None if it is not an address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
