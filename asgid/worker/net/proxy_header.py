"""The PROXY protocol, versions 1 and 2: the first bytes of a connection -> who is at its ends (proxy-protocol.txt).

Whatever is malformed is refused, for a receiver that guesses takes an address from whoever knows how it guesses. This
file does not know whose word is taken, nor what becomes of the connection.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from asgid.errors import ClientError
from asgid.worker.http.forwarded import Node, address_text

_V1_START = b"PROXY "
_V1_MOST = 107  # section 2.1: with its CRLF
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = Struct("!12xBBH")  # version and command, family, length of the rest
#: Of the rest. Addresses take 216 bytes at most; what else there is tells of TLS and of the proxy itself.
_V2_MOST = 4096
_LOCAL, _PROXY = 0x20, 0x21
#: Bytes of the addresses of each family; others are to be rejected (section 2.2).
_FAMILIES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_TCP4, _TCP6, _UNSPEC = 0x11, 0x21, 0x00
_TLV = Struct("!BH")
_TYPE_CRC32C, _TYPE_SSL, _CLIENT_SSL = 0x03, 0x20, 0x01
_CRC_BYTES = 4
_SSL_BYTES = 5  # the bits of what the client did, and the verdict on its certificate; then more TLVs


class ProxyHeader(NamedTuple):
    """What the first `size` bytes say; an end that they do not tell is None: the real one counts."""

    size: int
    client: Node | None = None
    server: Node | None = None
    is_tls: bool = False


def parse_header(data: bytes, versions: str) -> ProxyHeader | None:
    """Return the header that `data` begins with, None where more of it is to come; `versions` is v1, v2 or any.

    Raises ClientError for what is none.
    """
    for start, read_version in _VERSIONS[versions]:
        if data.startswith(start):
            return read_version(data)
        if start.startswith(data):
            return None
    raise _refused(f"the connection does not begin with a PROXY header ({versions})")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, found, _ = data[:_V1_MOST].partition(b"\n")
    if not found and len(data) < _V1_MOST:
        return None
    if not line.endswith(b"\r") or not found:
        raise _refused(f"a PROXY line ends with CR LF within {_V1_MOST} bytes")
    size = len(line) + 1
    match line[:-1].split(b" "):
        case [_, b"UNKNOWN", *_]:
            return ProxyHeader(size)
        case [_, (b"TCP4" | b"TCP6") as family, source, destination, source_port, destination_port]:
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            client = _address(kind, source), _port(source_port)
            return ProxyHeader(size, client, (_address(kind, destination), _port(destination_port)))
    raise _refused("the PROXY line is malformed")


def _address(kind: type[IPv4Address] | type[IPv6Address], text: bytes) -> str:
    try:
        if b"%" not in text:  # a zone, which means something to nobody but the proxy
            return address_text(kind(text.decode("latin-1")))
    except ValueError:
        pass
    raise _refused("an address in the PROXY line is malformed")


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or (text[:1] == b"0" and text != b"0") or int(text) > 65535:
        raise _refused("a port in the PROXY line is malformed")
    return int(text)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    command, family, length = _V2_HEAD.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise _refused(f"the PROXY header is of no known version and command: {command:#04x}")
    if length > _V2_MOST:
        raise _refused(f"the PROXY header says that {length} bytes follow; {_V2_MOST} is the most")
    size = _V2_HEAD.size + length
    if len(data) < size:
        return None
    if command == _LOCAL:  # the proxy itself, such as for its health check: nothing else counts (section 2.2)
        return ProxyHeader(size)
    if family not in _FAMILIES or length < _FAMILIES[family]:
        raise _refused(f"the PROXY header has no addresses of family {family:#04x}")
    if family == _UNSPEC:
        return ProxyHeader(size)
    block = data[_V2_HEAD.size : size]
    is_tls = _judged(data[:size], _V2_HEAD.size + _FAMILIES[family])
    match family:
        case 0x11:
            return ProxyHeader(size, *_ends(IPv4Address, block, 4), is_tls)
        case 0x21:
            return ProxyHeader(size, *_ends(IPv6Address, block, 16), is_tls)
    return ProxyHeader(size, is_tls=is_tls)  # datagrams and unix sockets: no address that an application could use


def _ends(kind: type[IPv4Address] | type[IPv6Address], block: bytes, width: int) -> tuple[Node, Node]:
    source, destination = address_text(kind(block[:width])), address_text(kind(block[width : 2 * width]))
    ports = block[2 * width : 2 * width + 4]
    return (source, int.from_bytes(ports[:2])), (destination, int.from_bytes(ports[2:]))


def _judged(header: bytes, at: int) -> bool:
    """Look at the TLVs, which begin at `at`; return whether the client came over TLS."""
    is_tls = False
    for kind, value in _tlvs(header[at:]):
        at += _TLV.size + len(value)
        if kind == _TYPE_SSL:
            is_tls = _is_tls(value) or is_tls
        elif kind == _TYPE_CRC32C:
            _verify(value, header[: at - len(value)] + bytes(len(value)) + header[at:])
    return is_tls


def _verify(checksum: bytes, header: bytes) -> None:
    """Hold a header to its checksum, in whose place it has zeros (section 2.2.3)."""
    if len(checksum) != _CRC_BYTES or int.from_bytes(checksum) != crc32c(header):
        raise _refused("the checksum of the PROXY header is not its own")


def _tlvs(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each, and take none for whole that is not."""
    while block:
        if len(block) < _TLV.size:
            raise _refused("a TLV of the PROXY header is cut off")
        kind, length = _TLV.unpack_from(block)
        value, block = block[_TLV.size : _TLV.size + length], block[_TLV.size + length :]
        if len(value) < length:
            raise _refused("a TLV of the PROXY header is longer than the header")
        yield kind, value


def _is_tls(value: bytes) -> bool:
    if len(value) < _SSL_BYTES:
        raise _refused("the TLV about TLS in the PROXY header is cut off")
    for _ in _tlvs(value[_SSL_BYTES:]):
        pass
    return bool(value[0] & _CLIENT_SSL)


def _refused(message: str) -> ClientError:
    return ClientError(400, "proxy", message)


# CRC32c (RFC 3720 section 12.1, RFC 4960 appendix B): a table and a loop, 0.1 us a byte. Headers are
# short, and few have a checksum.
_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed, as they are sent


def _crc32c_of_byte(remainder: int) -> int:
    for _ in range(8):
        remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
    return remainder


_CRC32C_TABLE = tuple(_crc32c_of_byte(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """Return the CRC32c checksum of `data`."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = _CRC32C_TABLE[(remainder ^ byte) & 0xFF] ^ remainder >> 8
    return remainder ^ 0xFFFFFFFF


_Form = tuple[bytes, Callable[[bytes], ProxyHeader | None]]
_V1: _Form = (_V1_START, _read_v1)
_V2: _Form = (_V2_START, _read_v2)
_VERSIONS: dict[str, tuple[_Form, ...]] = {"v1": (_V1,), "v2": (_V2,), "any": (_V1, _V2)}
