"""Finds the client behind trusted proxies, from the forwarding headers of a request.

Each proxy appends to the right of a header, so trusted proxies wrote its right end. A value that a client invented is
further left and is never reached. Only one family of headers is read, because a proxy that sets one forwards the other
as the client sent it. This module does not know connections; the caller passes the peer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from asgid.config.tables import Proxy
from asgid.worker.asgi import Scope
from asgid.worker.http.fields import TOKEN_CHARACTERS
from asgid.worker.http.scope import full_path, strip_root_path
from asgid.worker.net.peers import UNIX, Node, address_text

#: The name in `proxy.trusted` of any peer.
ANY_PEER = "*"
_X_FORWARDED = {
    b"x-forwarded-for": b"for",
    b"x-forwarded-proto": b"proto",
    b"x-forwarded-host": b"host",
    b"x-forwarded-prefix": b"prefix",
}
#: The headers of both families. If a request has none, `ForwardedFields.apply` is not called.
FORWARDING_FIELDS = frozenset((*_X_FORWARDED, b"forwarded"))

#: The max number of cached addresses: to parse one takes longer than the rest of this module.
_CACHE_SIZE = 1024
_MAX_NODE_BYTES = 64  # a longer one is not an address
_MAPPED_BITS = 96  # in front of the IPv4 address in a mapped IPv6 address (RFC 4291 section 2.5.5.2)
#: The max number of proxies in a row. The items further left stay one piece, which is not an address and ends the walk.
_MAX_HOPS = 32
#: Traefik sends ws and wss for the handshake of a WebSocket.
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_HOST = re.compile(rb"(?:[0-9A-Za-z._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
# Segments of a path that a browser or a framework cannot misread: not "//host", "." or "..", no escapes.
_PREFIX = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[0-9A-Za-z._~!$&'()*+;=:@-]+){1,32}")
#: 192.0.2.1 or [2001:db8::1], with an optional port, or 2001:db8::1. A port may be obfuscated (RFC 7239 section 6.2).
_NODE = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:(\d{1,5})|_[0-9A-Za-z._-]+))?|([0-9A-Fa-f:.]{2,45})"
)
# RFC 7239 section 4, except that ":", "[" and "]" need no quotes: proxies write addresses and ports without.
_PAIR = re.compile(rb"([%b]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([%b:\[\]]+))" % (TOKEN_CHARACTERS, TOKEN_CHARACTERS))
_ELEMENT = re.compile(rb"%(pair)b(?:[ \t]*;[ \t]*%(pair)b)*+;?" % {b"pair": _PAIR.pattern})

_Values: TypeAlias = Mapping[bytes, Sequence[bytes]]  # parameter -> its values, the nearest proxy's first
_Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class TrustedProxies:
    """The trusted peers: `peer in trusted`, for a peer that is an address in its shortest form, or UNIX."""

    def __init__(self, trusted: Iterable[str]) -> None:
        names = set(trusted)
        self._trusts_all = ANY_PEER in names
        networks = [_plain_network(ip_network(name)) for name in names - {UNIX, ANY_PEER}]
        # Most are single addresses, and are compared as text: to parse an address would double the cost.
        self._names = {str(network.network_address) for network in networks if network.num_addresses == 1}
        self._names |= names & {UNIX}
        wide = [network for network in networks if network.num_addresses > 1]
        self._is_within = lru_cache(_CACHE_SIZE)(partial(_is_within, wide)) if wide else lambda _name: False

    def __contains__(self, peer: str) -> bool:
        return self._trusts_all or peer in self._names or self._is_within(peer)


def _is_within(networks: Sequence[IPv4Network | IPv6Network], name: str) -> bool:
    try:
        address = ip_address(name)
    except ValueError:  # "unix", or "" if the kernel does not know the address any more
        return False
    return any(address in network for network in networks)


class ForwardedFields:
    """Reads the forwarding headers as `[proxy]` sets it."""

    def __init__(self, settings: Proxy, trusted: TrustedProxies) -> None:
        self._trusted = trusted
        self._read = {"none": lambda _headers: {}, "x-forwarded": _x_forwarded, "forwarded": _forwarded}[
            settings.headers
        ]
        self._takes_host, self._takes_prefix = settings.host, settings.prefix

    def apply(self, scope: Scope, peer: str) -> None:
        """Write the values of the proxies into `scope`, if `peer`, which sent the request, is trusted."""
        if peer not in self._trusted or not (values := self._read(scope["headers"])):
            return
        hop, client = self._client_hop(values.get(b"for", ()))
        if client:
            scope["client"] = client
        if scheme := _SCHEMES.get(_value_at_hop(values, b"proto", hop).lower()):
            scope["scheme"] = scheme
        if self._takes_host and _HOST.fullmatch(host := _value_at_hop(values, b"host", hop)):
            others = (field for field in scope["headers"] if field[0] != b"host")
            scope["headers"] = [(b"host", host), *others]
        if self._takes_prefix and _PREFIX.fullmatch(prefix := _value_at_hop(values, b"prefix", hop).rstrip(b"/")):
            path = strip_root_path(scope["root_path"], scope["path"])
            scope["root_path"] = prefix.decode("ascii")
            scope["path"] = full_path(scope["root_path"], path)

    def _client_hop(self, nodes: Iterable[bytes]) -> tuple[int, Node | None]:
        """Return the hop where the walk from the nearest proxy ends, and the farthest known node.

        (1) The walk ends at the first node that is not trusted. (2) If a node is not an address, such as `unknown` or
        an identifier (RFC 7239 section 6.3), the next one is hidden, so the client is the node before. (3) If all nodes
        are trusted, the client is the last one.
        """
        hop, client = 0, None
        for hop, text in enumerate(nodes):  # noqa: B007 - the last value is returned
            node = _node(text) if len(text) <= _MAX_NODE_BYTES else None
            if node is None:
                break
            client = node
            if node[0] not in self._trusted:
                break
        return hop, client


def _plain_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return an IPv4-mapped network, such as ::ffff:10.0.0.0/104, as IPv4: the addresses of peers have that form."""
    first = network.network_address
    if not (isinstance(first, IPv6Address) and first.ipv4_mapped and network.prefixlen >= _MAPPED_BITS):
        return network
    return IPv4Network((int(first.ipv4_mapped), network.prefixlen - _MAPPED_BITS))


def _x_forwarded(headers: _Headers) -> _Values:
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if parameter := _X_FORWARDED.get(name):
            lines.setdefault(parameter, []).append(value)
    return {parameter: _items(each) for parameter, each in lines.items()}


def _forwarded(headers: _Headers) -> _Values:
    elements = [_element(item) for item in _items([value for name, value in headers if name == b"forwarded"])]
    return {name: [element.get(name, b"") for element in elements] for name in (b"for", b"proto", b"host")}


def _items(lines: Sequence[bytes]) -> list[bytes]:
    """Return the items of a list of one or more lines, the last item first (RFC 9110 section 5.6.1).

    Quotes are ignored here: a quote that a client opened could hide the item that a proxy appended. A piece of a quoted
    text is not a valid element, because it ends with a quote that it does not open.
    """
    pieces = b",".join(lines).rsplit(b",", _MAX_HOPS)
    return [item for piece in reversed(pieces) if (item := piece.strip(b" \t"))]


def _value_at_hop(values: _Values, name: bytes, hop: int) -> bytes:
    """Return the value of a parameter at `hop`, b"" without one.

    Proxies may append to X-Forwarded-Proto as they do to X-Forwarded-For, so values are counted from the right. Most
    proxies set one value or forward the received one: if there are fewer values than hops, the leftmost counts.
    """
    found = values.get(name)
    return found[min(hop, len(found) - 1)] if found else b""


def _element(text: bytes) -> dict[bytes, bytes]:
    """Return the parameters of one element of Forwarded (RFC 7239 section 4), {} if it is malformed."""
    if not _ELEMENT.fullmatch(text):
        return {}
    pairs = [(name.lower(), re.sub(rb"\\(.)", rb"\1", quoted) or token) for name, quoted, token in _PAIR.findall(text)]
    parameters = dict(pairs)
    return parameters if len(parameters) == len(pairs) else {}


@lru_cache(_CACHE_SIZE)
def _node(text: bytes) -> Node | None:
    """Return address and port, 0 without a port; None if `text` is not an address."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    v4, bracketed, port, bare = (group and group.decode("ascii") for group in match.groups())
    try:
        address = IPv4Address(v4) if v4 else IPv6Address(bracketed or bare)
    except ValueError:
        return None
    number = int(port or 0)
    return (address_text(address), number) if number <= 65535 else None
