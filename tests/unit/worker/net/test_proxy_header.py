"""The PROXY protocol's bytes: both versions, whole, in pieces, and malformed in every way."""

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
ENDS_4 = (("192.0.2.1", 4711), ("192.0.2.9", 443))
ENDS_6 = (("2001:db8::1", 4711), ("2001:db8::9", 443))


def v2(family: int = 0x11, rest: bytes = V4, *, command: int = PROXY, length: int | None = None) -> bytes:
    return SIGNATURE + pack("!BBH", command, family, len(rest) if length is None else length) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return pack("!BH", kind, len(value)) + value


def tls(client: int, *inner: bytes) -> bytes:
    """PP2_TYPE_SSL: what the client did, and the verdict on its certificate."""
    return tlv(0x20, pack("!BI", client, 0) + b"".join(inner))


def checked(family: int, before: bytes, after: bytes = b"", *, off_by: int = 0) -> bytes:
    """Return a header with its checksum between `before` and `after`."""
    without = v2(family, before + tlv(0x03, bytes(4)) + after)
    return v2(family, before + tlv(0x03, pack("!I", crc32c(without) ^ off_by)) + after)


WHOLE = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", ENDS_4, False),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", (("255.255.255.255", 65535),) * 2, False),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", (("0.0.0.0", 0),) * 2, False),
    (b"PROXY TCP6 2001:db8::1 2001:db8::9 4711 443\r\n", ENDS_6, False),
    (b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::9 4711 443\r\n", (ENDS_4[0], ENDS_6[1]), False),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", None, False),
    (b"PROXY UNKNOWN\r\n", (None, None), False),
    (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", (None, None), False),
    (b"PROXY UNKNOWN anything at all\r\n", (None, None), False),
    (v2(), ENDS_4, False),
    (v2(0x21, V6), ENDS_6, False),
    (v2(0x21, MAPPED), (ENDS_4[0], ENDS_6[1]), False),
    (v2(rest=V4 + tls(1)), ENDS_4, True),
    (v2(rest=V4 + tls(7, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"cn"))), ENDS_4, True),
    (v2(rest=V4 + tls(0)), ENDS_4, False),
    (v2(rest=V4 + tlv(0x05, b"id") + tlv(0x04, b"") + tls(1) + tlv(0xEA, b"vpce")), ENDS_4, True),
    (v2(0x21, V6 + tls(1)), ENDS_6, True),
    (v2(rest=V4 + tlv(0x03, bytes.fromhex("357bb29d"))), ENDS_4, False),
    (checked(0x11, V4 + tls(1), tlv(0x05, b"id")), ENDS_4, True),
    (checked(0x21, V6 + tlv(0x04, b"")), ENDS_6, False),
    (checked(0x31, UNIX), (None, None), False),
    (v2(rest=V4 + tlv(0x04, bytes(4096 - 15))), ENDS_4, False),
    # Of a proxy itself, such as for its health check; and of what has no address that an application could use.
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


@pytest.mark.parametrize(("data", "ends", "is_tls"), WHOLE)
def test_a_header_is_read_to_its_end_and_no_further(data, ends, is_tls):
    """Whatever follows is the connection's."""
    last = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    client, server = ends or (last, last)

    assert ProxyHeader(len(data), client, server, is_tls) == parse_header(data, "any")
    assert ProxyHeader(len(data), client, server, is_tls) == parse_header(data + b"GET / HTTP/1.1\r\n", "any")


@pytest.mark.parametrize(("data", "ends", "is_tls"), WHOLE)
def test_a_header_that_is_not_whole_is_waited_for(data, ends, is_tls):
    """At every byte."""
    assert {None} == {parse_header(data[:size], "any") for size in range(1, len(data))}


REFUSED = {
    "not begun with": [
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
    "no known version and command": [v2(command=0x11), v2(command=0x31), v2(command=0x22), v2(command=0x2F)],
    "4096 is the most": [v2(rest=V4, length=4097), v2(rest=b"", length=65535), v2(command=LOCAL, length=4097)],
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
        checked(0x11, V4, off_by=1),
        checked(0x21, V6 + tls(1), tlv(0x05, b"id"), off_by=1 << 31),
        checked(0x31, UNIX, off_by=1),
        checked(0x11, V4).replace(b"\x12\x67", b"\x12\x68"),  # its client's port
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


@pytest.mark.parametrize(("why", "data"), [(why, data) for why, cases in REFUSED.items() for data in cases])
def test_what_is_malformed_is_refused(why, data):
    """As soon as it is known to be, and never guessed at."""
    with pytest.raises(ClientError) as caught:
        parse_header(data, "any")

    assert "proxy" == caught.value.kind
    assert why.replace("not begun with", "does not begin with a PROXY header") in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "data"), [("v1", v2()), ("v2", b"PROXY UNKNOWN\r\n"), ("v1", b"\r"), ("v2", b"P")]
)
def test_a_version_that_is_not_expected_is_none(versions, data):
    """From its first byte on."""
    with pytest.raises(ClientError, match=rf"does not begin with a PROXY header \({versions}\)"):
        parse_header(data, versions)


@pytest.mark.parametrize(("versions", "data"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", v2())])
def test_the_version_that_is_expected_is_read(versions, data):
    """Alone."""
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
