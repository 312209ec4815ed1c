"""Finds out from /proc whether another process listens on a port of this machine, without opening a socket.

Used before a service starts or moves to another address. If the kernel does not say, the answer is no.
"""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_LISTEN = "0A"
_Ip = IPv4Address | IPv6Address


def others_listen(host: str, port: int, pid: int) -> bool:
    """Whether a process other than `pid` and its descendants listens on this port of `host` or of every interface.

    host: a name or address, "" for every interface; pid: 0 for none.
    """
    addresses = _addresses(host, port)
    meets = {inode for ip, inode in _listening(port) if any(_meet(ip, one) for one in addresses)}
    return bool(meets - _sockets_of(pid))


def _addresses(host: str, port: int) -> list[_Ip]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return []
    return [_plain(str(address[0]).partition("%")[0]) for *_, address in found]


def _plain(text: str) -> _Ip:
    ip = ip_address(text)
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _meet(one: _Ip, other: _Ip) -> bool:
    return one == other or one.is_unspecified or other.is_unspecified


def _listening(port: int) -> Iterator[tuple[_Ip, str]]:
    """(address, inode) of each listening socket of this port."""
    for table in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/net/{table}"))[1:]:
            fields = line.split()
            address, _, its_port = fields[1].partition(":")
            if fields[3] == _LISTEN and int(its_port, 16) == port:
                words = (address[at : at + 8] for at in range(0, len(address), 8))
                packed = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
                yield _plain(str(ip_address(packed))), fields[9]


def _sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process and its descendants have open."""
    found = set()
    for one in _family(pid) if pid else ():
        for link in _links(Path(f"/proc/{one}/fd")):
            if link.startswith("socket:["):
                found.add(link[8:-1])
    return found


def _family(pid: int) -> set[int]:
    parents = {int(path.parent.name): _parent(path) for path in Path("/proc").glob("[0-9]*/stat")}
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _parent(stat: Path) -> int:
    fields = "".join(_lines(stat)).rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _links(directory: Path) -> Iterator[str]:
    try:
        for entry in directory.iterdir():
            try:
                yield str(entry.readlink())
            except OSError:  # closed since it was listed
                continue
    except OSError:  # it has ended, or is another user's
        return


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
