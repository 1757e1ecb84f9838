"""Parses PROXY headers, versions 1 and 2: the first bytes of a connection, with its addresses (proxy-protocol.txt).

A malformed header is rejected: if the receiver guessed, a client could make it read a false address. This module does
not know which peers are trusted, nor the connection.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from asgid.errors import ClientError
from asgid.worker.net.peers import Node, address_text

_V1_START = b"PROXY "
_V1_MAX_BYTES = 107  # section 2.1, with CR LF
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = Struct("!12xBBH")  # version and command, family, length of the rest
#: The max length of the rest: up to 216 bytes of addresses, then TLVs about TLS and the proxy.
_V2_MAX_BYTES = 4096
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21
#: Family -> bytes of its addresses; others must be rejected (section 2.2).
_FAMILIES = {_UNSPEC: 0, _TCP4: 12, 0x12: 12, _TCP6: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_TLV = Struct("!BH")
_TYPE_CRC32C, _TYPE_SSL, _CLIENT_SSL = 0x03, 0x20, 0x01
_CRC_BYTES = 4
_SSL_BYTES = 5  # flags, and the result of the certificate check; more TLVs follow


class ProxyHeader(NamedTuple):
    """The header in the first `size` bytes. An address is None if the header has none: then the kernel's counts."""

    size: int
    client: Node | None = None
    server: Node | None = None
    is_tls: bool = False


def parse_header(data: bytes, versions: str) -> ProxyHeader | None:
    """Return the header that `data` begins with, or None if it is not complete. `versions` is v1, v2 or any.

    Raises ClientError if `data` does not begin with a valid header.
    """
    for start, read_version in _VERSIONS[versions]:
        if data.startswith(start):
            return read_version(data)
        if start.startswith(data):
            return None
    raise _invalid(f"the connection does not begin with a PROXY header ({versions})")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, found, _ = data[:_V1_MAX_BYTES].partition(b"\n")
    if not found and len(data) < _V1_MAX_BYTES:
        return None
    if not line.endswith(b"\r") or not found:
        raise _invalid(f"the PROXY line does not end with CR LF within {_V1_MAX_BYTES} bytes")
    size = len(line) + 1
    match line[:-1].split(b" "):
        case [_, b"UNKNOWN", *_]:
            return ProxyHeader(size)
        case [_, (b"TCP4" | b"TCP6") as family, source, destination, source_port, destination_port]:
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            client = _address(kind, source), _port(source_port)
            return ProxyHeader(size, client, (_address(kind, destination), _port(destination_port)))
    raise _invalid("the PROXY line is malformed")


def _address(kind: type[IPv4Address] | type[IPv6Address], text: bytes) -> str:
    try:
        if b"%" not in text:  # a zone has a meaning on the proxy only
            return address_text(kind(text.decode("latin-1")))
    except ValueError:
        pass
    raise _invalid("an address in the PROXY line is malformed")


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or (text[:1] == b"0" and text != b"0") or int(text) > 65535:
        raise _invalid("a port in the PROXY line is malformed")
    return int(text)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    command, family, length = _V2_HEAD.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise _invalid(f"the PROXY header has an unknown version or command: {command:#04x}")
    if length > _V2_MAX_BYTES:
        raise _invalid(f"the PROXY header has {length} bytes after its fixed part; the max is {_V2_MAX_BYTES}")
    size = _V2_HEAD.size + length
    if len(data) < size:
        return None
    if command == _LOCAL:  # from the proxy itself, such as a health check: the rest is ignored (section 2.2)
        return ProxyHeader(size)
    if family not in _FAMILIES or length < _FAMILIES[family]:
        raise _invalid(f"the PROXY header has no addresses of family {family:#04x}")
    if family == _UNSPEC:
        return ProxyHeader(size)
    block = data[_V2_HEAD.size : size]
    is_tls = _check_tlvs(data[:size], _V2_HEAD.size + _FAMILIES[family])
    if family == _TCP4:
        return ProxyHeader(size, *_addresses(IPv4Address, block, 4), is_tls)
    if family == _TCP6:
        return ProxyHeader(size, *_addresses(IPv6Address, block, 16), is_tls)
    return ProxyHeader(size, is_tls=is_tls)  # datagrams and unix sockets: no address for an application


def _addresses(kind: type[IPv4Address] | type[IPv6Address], block: bytes, width: int) -> tuple[Node, Node]:
    source, destination = address_text(kind(block[:width])), address_text(kind(block[width : 2 * width]))
    ports = block[2 * width : 2 * width + 4]
    return (source, int.from_bytes(ports[:2])), (destination, int.from_bytes(ports[2:]))


def _check_tlvs(header: bytes, at: int) -> bool:
    """Check the TLVs, which begin at `at`, and return whether the client uses TLS."""
    is_tls = False
    for kind, value in _tlvs(header[at:]):
        at += _TLV.size + len(value)
        if kind == _TYPE_SSL:
            is_tls = _is_tls(value) or is_tls
        elif kind == _TYPE_CRC32C:
            _check_crc32c(value, header[: at - len(value)] + bytes(len(value)) + header[at:])
    return is_tls


def _check_crc32c(checksum: bytes, header: bytes) -> None:
    """Raise ClientError for a wrong checksum; `header` has zeros in its place (section 2.2.3)."""
    if len(checksum) != _CRC_BYTES or int.from_bytes(checksum) != crc32c(header):
        raise _invalid("the checksum of the PROXY header is wrong")


def _tlvs(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each TLV. Raises ClientError for an incomplete one."""
    while block:
        if len(block) < _TLV.size:
            raise _invalid("a TLV of the PROXY header is cut off")
        kind, length = _TLV.unpack_from(block)
        value, block = block[_TLV.size : _TLV.size + length], block[_TLV.size + length :]
        if len(value) < length:
            raise _invalid("a TLV of the PROXY header is longer than the header")
        yield kind, value


def _is_tls(value: bytes) -> bool:
    if len(value) < _SSL_BYTES:
        raise _invalid("the TLV about TLS in the PROXY header is cut off")
    for _ in _tlvs(value[_SSL_BYTES:]):
        pass
    return bool(value[0] & _CLIENT_SSL)


def _invalid(message: str) -> ClientError:
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
