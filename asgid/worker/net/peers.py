"""The names of the two ends of a connection: for a scope, for `proxy.trusted`, and as text."""

from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

#: Host and port.
Node: TypeAlias = tuple[str, int]
#: The `client` or `server` of a scope: host and port, or the path of a unix socket (ASGI HTTP specification).
Address: TypeAlias = Node | tuple[str, None] | None
#: The name in `proxy.trusted` of a peer on a unix socket.
UNIX = "unix"


def address_text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text; an IPv4-mapped IPv6 address as IPv4."""
    return str(address.ipv4_mapped or address) if isinstance(address, IPv6Address) else str(address)
