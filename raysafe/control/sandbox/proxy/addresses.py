"""Which addresses a sandbox's hosts may have: public ones (IANA's special-purpose registries, RFC 6890) and those that
the operator names. A name that leads anywhere else is refused, and what was checked is what is connected to, so that
a name that changes its mind (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Awaitable[list[str]]]

_SPECIAL_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # a public address at which a large cloud tells its machines their secrets
        "168.63.129.16/32",
    )
]  # fmt: skip
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_6 = [
    # 6to4 and Teredo hold an IPv4 address, to which somebody's relay would take the packets
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public network's; an IPv4 address within an IPv6 one is not."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


def objection(found: Sequence[str], allowed: Sequence[str], own: frozenset[str] = frozenset()) -> str | None:
    """What stands against a host with these addresses; own: the machine's. None where each of them may be reached."""
    networks = [ipaddress.ip_network(network) for network in allowed]
    for text in found:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in networks):
            continue
        if not is_public(address):
            return "its address is not a public one"
        if str(address) in own:
            return "its address is this machine's own"
    return None if found else "it has no address"


def own_addresses() -> frozenset[str]:
    """The addresses of this machine."""
    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        known.address.partition("%")[0]
        for interface in psutil.net_if_addrs().values()
        for known in interface
        if known.family in families
    )


async def resolve(host: str) -> list[str]:
    """The addresses that a name has now, in the order in which to try them; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
