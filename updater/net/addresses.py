"""Addresses on which a service listens and from which it is called: parsed, converted for sockets, and shown in messages.

Used by both services. An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is always treated as that IPv4 address.
"""

import re
import socket
from ipaddress import ip_address

from updater.wire.text import quoted

_LISTEN = re.compile(r"(?P<host>\[[^\[\]\s]+\]|[^\[\]\s:]*):(?P<port>[0-9]{1,5})")
_INSIDE = "::ffff:"


def parse_listen(listen: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT`, or `:PORT` for every interface -> (host, port). Raises ValueError.

    The host is "" for every interface.
    """
    match = _LISTEN.fullmatch(listen)
    if not match or int(match["port"]) > 65535:
        raise ValueError(f"{quoted(listen)} is not HOST:PORT, [IPv6]:PORT, or :PORT for every interface")
    return match["host"].strip("[]"), int(match["port"])


def shown(host: str, port: int) -> str:
    """An address for messages: `10.0.0.1:2000`, `[::1]:2000`, `:2000` for every interface."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def every_interface() -> str:
    """The address on which a socket listens on every interface: `::`, or `0.0.0.0` if `::` does not take IPv4, too.

    It does not if there is no IPv6, or with the sysctl net.ipv6.bindv6only.
    """
    return "::" if _takes_both() else "0.0.0.0"  # noqa: S104 (asked for by an address without a host)


def _takes_both() -> bool:
    """Whether a socket that listens on `::` accepts IPv4 too."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
            return not trial.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False


def from_here(host: str) -> str:
    """The host by which this machine reaches a service that listens on `host`: loopback if that is every interface.

    IPv4 is preferred, since a machine on which a sysctl turned IPv6 off can listen on `::` but has no address `::1`.
    """
    if host == "::":
        return "127.0.0.1" if _takes_both() else "::1"
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104


def family(address: str) -> socket.AddressFamily:
    """The family of a socket for this address or name."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def unmapped(address: str) -> str:
    """The IPv4 address inside an IPv4-mapped IPv6 address; any other address unchanged."""
    if not address.startswith(_INSIDE):
        return address
    inside = address[len(_INSIDE) :]
    return inside if "." in inside else address


def is_loopback(address: str) -> bool:
    """Whether it is an IP address that only this machine can reach; False for every name."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
