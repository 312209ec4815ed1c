"""Where a service listens and who calls it: addresses as people write them, as sockets have them, and as messages show them.

Used by both services. An IPv4 address inside IPv6 (`::ffff:10.0.0.1`) is that IPv4 address, whoever looks at it.
"""

import re
import socket
from ipaddress import ip_address

from updater.wire.text import quoted

_LISTEN = re.compile(r"(?P<host>\[[^\[\]\s]+\]|[^\[\]\s:]*):(?P<port>[0-9]{1,5})")
_INSIDE = "::ffff:"


def parse_listen(listen: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT`, or `:PORT` for every interface -> (host, port), the host "" for every interface. Raises
    ValueError."""
    match = _LISTEN.fullmatch(listen)
    if not match or int(match["port"]) > 65535:
        raise ValueError(f"{quoted(listen)} is not HOST:PORT, [IPv6]:PORT, or :PORT for every interface")
    return match["host"].strip("[]"), int(match["port"])


def shown(host: str, port: int) -> str:
    """As a person writes it: `10.0.0.1:2000`, `[::1]:2000`, `:2000` for every interface."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def every_interface() -> str:
    """The address on which a socket hears every interface: `::`, or `0.0.0.0` where there is no IPv6, or where the system keeps
    the two apart (the sysctl net.ipv6.bindv6only)."""
    return "::" if _takes_both() else "0.0.0.0"  # noqa: S104 (asked for by an address without a host)


def _takes_both() -> bool:
    """Whether what listens on `::` hears IPv4 too."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
            return not trial.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False


def from_here(host: str) -> str:
    """Where this machine reaches what listens on this host: on every interface, that is by loopback. By IPv4 where that can be:
    a machine on which IPv6 is off by sysctl lets `::` be listened on, but has no address `::1`."""
    if host == "::":
        return "127.0.0.1" if _takes_both() else "::1"
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104


def family(address: str) -> socket.AddressFamily:
    """Of a socket for this address or name."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def unmapped(address: str) -> str:
    """The IPv4 address that is inside an IPv6 one, as a socket that takes both has it; any other as it is."""
    if not address.startswith(_INSIDE):
        return address
    inside = address[len(_INSIDE) :]
    return inside if "." in inside else address


def is_loopback(address: str) -> bool:
    """Whether it is an address that only this machine can reach; no name is one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
