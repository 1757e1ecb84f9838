"""Who the client is behind proxies: whose word is taken, and what the forwarding headers of a request say.

Each proxy adds to the right of what it was sent, so only what stands on the right was written by a proxy that is known;
what a client made up stands further left and is never reached. One family of headers is read and the other never: a
proxy that sets one passes on what a client wrote into the other. This file does not know a connection; it is told the
peer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from asgid.config import Proxy
from asgid.worker.http.fields import TOKEN_CHARACTERS
from asgid.worker.http.scope import Scope, full_path, strip_root_path

#: What `proxy.trusted` calls whoever comes over a unix socket, and everybody.
UNIX, ANY_PEER = "unix", "*"
_X_FORWARDED = {
    b"x-forwarded-for": b"for",
    b"x-forwarded-proto": b"proto",
    b"x-forwarded-host": b"host",
    b"x-forwarded-prefix": b"prefix",
}
#: Every header that may say something; a request without any of them costs no look at its headers.
FORWARDING_FIELDS = frozenset((*_X_FORWARDED, b"forwarded"))

#: Clients of which a worker remembers what their addresses mean: to read one takes longer than all else here.
_REMEMBERED = 1024
_NODE_BYTES = 64  # none is longer that means something
_MAPPED_BITS = 96  # before an address of IPv4 in one of IPv6 (RFC 4291 section 2.5.5.2)
#: Proxies in a row that are believed; what stands left of them is in one piece, which is no address and ends the walk.
_HOPS = 32
#: Traefik says ws and wss of a WebSocket's handshake.
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_HOST = re.compile(rb"(?:[0-9A-Za-z._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
# Segments of a path that a browser or a framework takes for nothing else: not "//host", no "." or "..", no escapes.
_PREFIX = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[0-9A-Za-z._~!$&'()*+;=:@-]+){1,32}")
#: 192.0.2.1, [2001:db8::1], each perhaps with a port, or 2001:db8::1; a port may be hidden (RFC 7239 section 6.2).
_NODE = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:(\d{1,5})|_[0-9A-Za-z._-]+))?|([0-9A-Fa-f:.]{2,45})"
)
# RFC 7239 section 4, except that ":", "[" and "]" may stand without quotes, as proxies write addresses and ports.
_PAIR = re.compile(rb"([%b]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([%b:\[\]]+))" % (TOKEN_CHARACTERS, TOKEN_CHARACTERS))
_ELEMENT = re.compile(rb"%(pair)b(?:[ \t]*;[ \t]*%(pair)b)*+;?" % {b"pair": _PAIR.pattern})

Node: TypeAlias = tuple[str, int]
_Said: TypeAlias = Mapping[bytes, Sequence[bytes]]  # what each hop says, from the nearest proxy to the farthest
_Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class TrustedProxies:
    """The peers whose word is taken: `peer in trust`, where a peer is an address in its shortest form, or UNIX."""

    def __init__(self, trusted: Iterable[str]) -> None:
        names = set(trusted)
        self._is_blind = ANY_PEER in names
        networks = [_plain_network(ip_network(name)) for name in names - {UNIX, ANY_PEER}]
        # Most are single addresses, and are found without being read as one: that takes as long as all the rest.
        self._names = {str(network.network_address) for network in networks if network.num_addresses == 1}
        self._names |= names & {UNIX}
        wide = [network for network in networks if network.num_addresses > 1]
        self._is_within = lru_cache(_REMEMBERED)(partial(_is_within, wide)) if wide else _is_nowhere

    def __contains__(self, peer: str) -> bool:
        return self._is_blind or peer in self._names or self._is_within(peer)


def _is_within(networks: Sequence[IPv4Network | IPv6Network], name: str) -> bool:
    try:
        address = ip_address(name)
    except ValueError:  # "unix", or nothing where the kernel does not know any more
        return False
    return any(address in network for network in networks)


def _is_nowhere(_name: str) -> bool:
    return False


class ForwardedFields:
    """What `[proxy]` has a request's headers mean."""

    def __init__(self, settings: Proxy, trust: TrustedProxies) -> None:
        self._trust = trust
        self._read = {"none": _nothing, "x-forwarded": _x_forwarded, "forwarded": _forwarded}[settings.headers]
        self._takes_host, self._takes_prefix = settings.host, settings.prefix

    def apply(self, scope: Scope, peer: str) -> None:
        """Change `scope` to what the proxies say of it, if `peer`, who sent it, is trusted."""
        if peer not in self._trust or not (said := self._read(scope["headers"])):
            return
        hop, client = self._client_hop(said.get(b"for", ()))
        if client:
            scope["client"] = client
        if scheme := _SCHEMES.get(_value_at_hop(said, b"proto", hop).lower()):
            scope["scheme"] = scheme
        if self._takes_host and _HOST.fullmatch(host := _value_at_hop(said, b"host", hop)):
            scope["headers"] = _with_host(scope["headers"], host)
        if self._takes_prefix and _PREFIX.fullmatch(prefix := _value_at_hop(said, b"prefix", hop).rstrip(b"/")):
            path = strip_root_path(scope["root_path"], scope["path"])
            scope["root_path"] = prefix.decode("ascii")
            scope["path"] = full_path(scope["root_path"], path)

    def _client_hop(self, nodes: Iterable[bytes]) -> tuple[int, Node | None]:
        """Return the hop at which what is known ends, and who is the farthest to be known.

        (1) That is the first who is not trusted. (2) What is no address, be it garbage, `unknown` or a name that a
        proxy made up (RFC 7239 section 6.3), hides who comes next: the one before it. (3) If all are trusted, the last.
        """
        hop, client = 0, None
        for hop, text in enumerate(nodes):  # noqa: B007 - where it ended is half of the answer
            node = _node(text) if len(text) <= _NODE_BYTES else None
            if node is None:
                break
            client = node
            if node[0] not in self._trust:
                break
        return hop, client


def address_text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text, one of IPv4 that is written as IPv6 as what it is."""
    return str(address.ipv4_mapped or address) if isinstance(address, IPv6Address) else str(address)


def _plain_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return a network of IPv4 that is written as IPv6, ::ffff:10.0.0.0/104, as the one whose members a peer may be."""
    first = network.network_address
    if not (isinstance(first, IPv6Address) and first.ipv4_mapped and network.prefixlen >= _MAPPED_BITS):
        return network
    return IPv4Network((int(first.ipv4_mapped), network.prefixlen - _MAPPED_BITS))


def _nothing(_headers: _Headers) -> _Said:
    return {}


def _x_forwarded(headers: _Headers) -> _Said:
    said: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if subject := _X_FORWARDED.get(name):
            said.setdefault(subject, []).append(value)
    return {subject: _items(lines) for subject, lines in said.items()}


def _forwarded(headers: _Headers) -> _Said:
    elements = [_element(item) for item in _items([value for name, value in headers if name == b"forwarded"])]
    return {name: [element.get(name, b"") for element in elements] for name in (b"for", b"proto", b"host")}


def _items(lines: Sequence[bytes]) -> list[bytes]:
    """Return the items of a list that may stand on several lines, the last first (RFC 9110 section 5.6.1).

    Quotes are not heeded: what a client has opened could swallow what the proxy wrote behind it. A piece of a quoted
    text is no element, for it ends in a quote that nothing in it opens.
    """
    pieces = b",".join(lines).rsplit(b",", _HOPS)
    return [item for piece in reversed(pieces) if (item := piece.strip(b" \t"))]


def _value_at_hop(said: _Said, name: bytes, hop: int) -> bytes:
    """Return what is said of one hop.

    Who appends to the addresses may append here too, so the values are counted from the same end. Most proxies set one
    value, or pass on the one that they were sent: where there are fewer values than hops, the first is the farthest.
    """
    values = said.get(name)
    return values[min(hop, len(values) - 1)] if values else b""


def _element(text: bytes) -> dict[bytes, bytes]:
    """Return the parameters of one element of Forwarded (RFC 7239 section 4); none where it is malformed."""
    if not _ELEMENT.fullmatch(text):
        return {}
    pairs = [(name.lower(), re.sub(rb"\\(.)", rb"\1", quoted) or token) for name, quoted, token in _PAIR.findall(text)]
    parameters = dict(pairs)
    return parameters if len(parameters) == len(pairs) else {}


@lru_cache(_REMEMBERED)
def _node(text: bytes) -> Node | None:
    """Return address and port, 0 where none is given; None where no address is."""
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


def _with_host(headers: list[tuple[bytes, bytes]], host: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", host), *(header for header in headers if header[0] != b"host")]
