"""Peer check of connections on loopback: whose process is at the other end, as the kernel tells it.

Every user of a machine can connect to a port on loopback. A token keeps strangers out only for as long as nobody reads
it, and Flower's own programs show theirs in their arguments. So the doors that are for this coordinator's own processes
ask the kernel who has opened the other end, and know one answer.

Linux lists every TCP socket with its owner (proc(5), ``/proc/net/tcp``). Where a system has no such list, everybody is
let in, and tokens are all there is.
"""

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"

Address = tuple[str, int]


def is_own(here: Address, there: Address) -> bool:
    """Whether the connection between ``here``, this end, and ``there`` was opened by a process of this very user.

    A socket that its process has closed belongs to nobody any more, and is not this user's.
    """
    if not TABLES[0].exists():
        return True
    wanted = (_endpoint(there), _endpoint(here))
    return any(owner == os.geteuid() for ends, owner in _established() if ends == wanted)


def _established() -> Iterator[tuple[tuple[Address, Address], int]]:
    """Both ends (its own first) and owner of every TCP socket in a connection."""
    for table in TABLES:
        if not table.exists():
            continue
        for line in table.read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED:
                yield (_listed(fields[1]), _listed(fields[2])), int(fields[7])


def _listed(text: str) -> Address:
    """``0100007F:1F90`` is 127.0.0.1 port 8080: words of 32 bits in this machine's own order of bytes."""
    address, _, port = text.partition(":")
    words = [int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(address), 8)]
    return _plain(ipaddress.ip_address(b"".join(words))), int(port, 16)


def _endpoint(address: Address) -> Address:
    return _plain(ipaddress.ip_address(address[0])), address[1]


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 address in IPv6's clothes is the same address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address if mapped is None else mapped)
