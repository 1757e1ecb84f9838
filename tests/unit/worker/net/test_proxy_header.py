"""PROXY headers of both versions: complete, in pieces, and malformed."""

import socket
from struct import pack

import pytest

from asgid.errors import ClientError
from asgid.worker.net.proxy_header import ProxyHeader, crc32c, parse_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.9") + pack("!HH", 4711, 443)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    + pack("!HH", 4711, 443)
)
MAPPED = bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.1") + V6[16:]
UNIX = b"/run/a".ljust(108, b"\0") * 2
ADDRESSES_4 = (("192.0.2.1", 4711), ("192.0.2.9", 443))
ADDRESSES_6 = (("2001:db8::1", 4711), ("2001:db8::9", 443))


def v2(family: int = 0x11, rest: bytes = V4, *, command: int = PROXY, length: int | None = None) -> bytes:
    return SIGNATURE + pack("!BBH", command, family, len(rest) if length is None else length) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return pack("!BH", kind, len(value)) + value


def tls(client: int, *inner: bytes) -> bytes:
    """Return a PP2_TYPE_SSL: flags of the client, the result of the certificate check, more TLVs."""
    return tlv(0x20, pack("!BI", client, 0) + b"".join(inner))


def with_checksum(family: int, before: bytes, after: bytes = b"", *, off_by: int = 0) -> bytes:
    """Return a header with its checksum between `before` and `after`."""
    without = v2(family, before + tlv(0x03, bytes(4)) + after)
    return v2(family, before + tlv(0x03, pack("!I", crc32c(without) ^ off_by)) + after)


VALID = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", ADDRESSES_4, False),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", (("255.255.255.255", 65535),) * 2, False),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", (("0.0.0.0", 0),) * 2, False),
    (b"PROXY TCP6 2001:db8::1 2001:db8::9 4711 443\r\n", ADDRESSES_6, False),
    (b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::9 4711 443\r\n", (ADDRESSES_4[0], ADDRESSES_6[1]), False),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", None, False),
    (b"PROXY UNKNOWN\r\n", (None, None), False),
    (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", (None, None), False),
    (b"PROXY UNKNOWN anything at all\r\n", (None, None), False),
    (v2(), ADDRESSES_4, False),
    (v2(0x21, V6), ADDRESSES_6, False),
    (v2(0x21, MAPPED), (ADDRESSES_4[0], ADDRESSES_6[1]), False),
    (v2(rest=V4 + tls(1)), ADDRESSES_4, True),
    (v2(rest=V4 + tls(7, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"cn"))), ADDRESSES_4, True),
    (v2(rest=V4 + tls(0)), ADDRESSES_4, False),
    (v2(rest=V4 + tlv(0x05, b"id") + tlv(0x04, b"") + tls(1) + tlv(0xEA, b"vpce")), ADDRESSES_4, True),
    (v2(0x21, V6 + tls(1)), ADDRESSES_6, True),
    (v2(rest=V4 + tlv(0x03, bytes.fromhex("357bb29d"))), ADDRESSES_4, False),
    (with_checksum(0x11, V4 + tls(1), tlv(0x05, b"id")), ADDRESSES_4, True),
    (with_checksum(0x21, V6 + tlv(0x04, b"")), ADDRESSES_6, False),
    (with_checksum(0x31, UNIX), (None, None), False),
    (v2(rest=V4 + tlv(0x04, bytes(4096 - 15))), ADDRESSES_4, False),
    # From the proxy itself, such as a health check; and families without an address for an application.
    (v2(0x00, b"", command=LOCAL), (None, None), False),
    (v2(0x11, V4, command=LOCAL), (None, None), False),
    (v2(0x77, b"whatever", command=LOCAL), (None, None), False),
    (v2(0x00, b""), (None, None), False),
    (v2(0x00, b"ignored"), (None, None), False),
    (v2(0x12, V4), (None, None), False),
    (v2(0x22, V6), (None, None), False),
    (v2(0x31, UNIX), (None, None), False),
    (v2(0x31, UNIX + tls(1)), (None, None), True),
    (v2(0x32, UNIX), (None, None), False),
]


@pytest.mark.parametrize(("data", "addresses", "is_tls"), VALID)
def test_a_header_is_read_to_its_end(data, addresses, is_tls):
    last = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    client, server = addresses or (last, last)

    assert ProxyHeader(len(data), client, server, is_tls) == parse_header(data, "any")
    assert ProxyHeader(len(data), client, server, is_tls) == parse_header(data + b"GET / HTTP/1.1\r\n", "any")


@pytest.mark.parametrize(("data", "addresses", "is_tls"), VALID)
def test_parse_header_returns_none_for_an_incomplete_header(data, addresses, is_tls):
    assert {None} == {parse_header(data[:size], "any") for size in range(1, len(data))}


INVALID = {
    "does not begin with a PROXY header": [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"proxy TCP4 192.0.2.1 192.0.2.9 4711 443\r\n",
        b" PROXY TCP4",
        b"\r\n\r\nGET",
        SIGNATURE[:-1] + b"\r",
    ],
    "within 107 bytes": [
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY " + b"x" * 101,
        b"PROXY \n",
    ],
    "line is malformed": [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443 1\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.9 4711 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443 \r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.9 4711 443\r\n",
        b"PROXY unknown\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY  UNKNOWN\r\n",
    ],
    "address in the PROXY line": [
        b"PROXY TCP4 192.0.2.256 192.0.2.9 4711 443\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.9 4711 443\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.9 4711 443\r\n",
        b"PROXY TCP6 192.0.2.1 2001:db8::9 4711 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::9 4711 443\r\n",
        b"PROXY TCP4 192.0.2.1 localhost 4711 443\r\n",
        b"PROXY TCP4 192.0.2.\xb9 192.0.2.9 4711 443\r\n",
        b"PROXY TCP4 192.0.2.1\t192.0.2.9 192.0.2.9 4711 443\r\n",
    ],
    "port in the PROXY line": [
        b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 0443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 +1 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 4_3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 x\r\n",
    ],
    "unknown version or command": [v2(command=0x11), v2(command=0x31), v2(command=0x22), v2(command=0x2F)],
    "the max is 4096": [v2(rest=V4, length=4097), v2(rest=b"", length=65535), v2(command=LOCAL, length=4097)],
    "no addresses of family": [
        v2(0x10),
        v2(0x13),
        v2(0x41),
        v2(0xFF),
        v2(0x11, V4[:-1]),
        v2(0x21, V6[:-1]),
        v2(0x21, V4),
        v2(0x31, UNIX[:-1]),
        v2(0x11, b""),
    ],
    "checksum of the PROXY header": [
        with_checksum(0x11, V4, off_by=1),
        with_checksum(0x21, V6 + tls(1), tlv(0x05, b"id"), off_by=1 << 31),
        with_checksum(0x31, UNIX, off_by=1),
        with_checksum(0x11, V4).replace(b"\x12\x67", b"\x12\x68"),  # the client's port
        v2(rest=V4 + tlv(0x03, bytes(4))),
        v2(rest=V4 + tlv(0x03, bytes(3))),
        v2(rest=V4 + tlv(0x03, b"")),
        v2(rest=V4 + tlv(0x03, crc32c(v2(rest=V4 + tlv(0x03, bytes(5)))).to_bytes(5))),
    ],
    "TLV": [
        v2(rest=V4 + b"\x04"),
        v2(rest=V4 + b"\x04\x00"),
        v2(rest=V4 + b"\x04\x00\x01"),
        v2(rest=V4 + tlv(0x04, b"a") + b"\x04\xff\xffa"),
        v2(rest=V4 + tlv(0x20, b"\x01\0\0\0")),
        v2(rest=V4 + tls(1, b"\x21\x00\x09TLSv1")),
        v2(rest=V4 + tls(1) + b"\x04\xff\xff"),
        v2(0x31, UNIX + b"\x04"),
    ],
}


@pytest.mark.parametrize(("reason", "data"), [(reason, data) for reason, cases in INVALID.items() for data in cases])
def test_a_malformed_header_is_rejected(reason, data):
    with pytest.raises(ClientError) as caught:
        parse_header(data, "any")

    assert "proxy" == caught.value.kind
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "data"), [("v1", v2()), ("v2", b"PROXY UNKNOWN\r\n"), ("v1", b"\r"), ("v2", b"P")]
)
def test_a_header_of_another_version_is_rejected(versions, data):
    with pytest.raises(ClientError, match=rf"does not begin with a PROXY header \({versions}\)"):
        parse_header(data, versions)


@pytest.mark.parametrize(("versions", "data"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", v2())])
def test_a_header_of_the_configured_version_is_read(versions, data):
    assert parse_header(data, "any") == parse_header(data, versions)


#: RFC 3720 appendix B.4, its bytes in the order of the text.
_ISCSI_READ = "01c00000" + "00000000" * 3 + "14000000" + "00000400" + "00000014" + "00000018" + "28000000" + "00000000"
CHECKSUMS = {
    "no byte": (b"", "00000000"),
    "zeros": (bytes(32), "aa36918a"),
    "ones": (b"\xff" * 32, "43aba862"),
    "counting up": (bytes(range(32)), "4e79dd46"),
    "counting down": (bytes(reversed(range(32))), "5cdb3f11"),
    "an iSCSI command": (bytes.fromhex(_ISCSI_READ + "02000000" + "00000000"), "563a96d9"),
}


@pytest.mark.parametrize(("data", "expected"), CHECKSUMS.values(), ids=CHECKSUMS)
def test_crc32c_returns_the_checksums_of_the_standard(data, expected):
    """The examples of RFC 3720, which writes the last byte of the number first."""
    assert bytes.fromhex(expected) == crc32c(data).to_bytes(4, "little")
