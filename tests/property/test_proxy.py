"""Whatever a client sends: the addresses that a trusted proxy appends count, and an invalid address is never used."""

from ipaddress import ip_address
from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from asgid.errors import ClientError
from asgid.worker.net import proxy_header
from tests.unit.worker.http.test_forwarded import HOST, PEER, forwarded

# Pieces of addresses: random characters are hardly ever one.
PIECES = st.sampled_from(
    [
        *(
            "203.0.113.9",
            "10.0.0.2",
            "127.0.0.1",
            "2001:db8::9",
            "[2001:db8::9]",
            ":80",
            "unknown",
            "_x",
            "%",
            "\\",
            " ",
        ),
        *("for=", "For=", "proto=", "host=", "by=", "https", "http", "evil.example", "/evil", '"', ",", ";", "=", "\t"),
    ]
)
EVIL = st.lists(PIECES, max_size=12).map("".join) | st.text(st.characters(max_codepoint=255), max_size=30)
LINES = st.lists(
    st.tuples(st.sampled_from(["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]), EVIL), max_size=4
)
ELEMENT = "for=192.0.2.1;proto=http;host=a.example"


@given(LINES, EVIL)
def test_x_forwarded_fields_of_a_client_change_nothing(lines, before):
    """In the same line or in others, if the proxy appends to each field."""
    scope = forwarded(
        *lines,
        ("x-forwarded-for", f"{before}, 192.0.2.1"),
        ("x-forwarded-proto", f"{before}, http"),
        ("x-forwarded-host", f"{before}, a.example"),
        host=True,
    )

    assert (("192.0.2.1", 0), "http", (b"host", b"a.example")) == (
        scope["client"],
        scope["scheme"],
        scope["headers"][0],
    )


@given(st.lists(EVIL, max_size=3), EVIL)
def test_a_forwarded_field_of_a_client_changes_nothing(lines, before):
    """Even with an open quote."""
    scope = forwarded(
        *(("forwarded", line) for line in lines), ("forwarded", f"{before},{ELEMENT}"), headers="forwarded", host=True
    )

    assert (("192.0.2.1", 0), "http", (b"host", b"a.example")) == (
        scope["client"],
        scope["scheme"],
        scope["headers"][0],
    )


@given(EVIL)
def test_a_quoted_part_of_forwarded_is_not_an_element(text):
    """A proxy may quote the Host of a client, with its quotes escaped (RFC 9110)."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    scope = forwarded(("forwarded", f'for=192.0.2.1;proto=https;host="{quoted}"'), headers="forwarded")

    assert scope["client"] in (("192.0.2.1", 0), PEER)


@given(st.sampled_from(["x-forwarded", "forwarded"]), st.lists(EVIL, max_size=3))
def test_the_scope_is_valid_for_any_field(headers, lines):
    scope = forwarded(*((name, line) for line in lines for name in ("x-forwarded-for", "forwarded")), headers=headers)
    address, port = scope["client"]

    assert str(ip_address(address)) == address
    assert 0 <= port <= 65535
    assert scope["scheme"] in ("http", "https")
    assert HOST == scope["headers"][0]


WORDS = st.sampled_from(
    [b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.1 ", b"::1 ", b"80 ", b"80", b"\r\n", b" "]
)
V2 = st.builds(
    lambda command, family, rest, more: (
        b"\r\n\r\n\0\r\nQUIT\n" + pack("!BBH", command, family, len(rest)) + rest + more
    ),
    st.sampled_from([0x20, 0x21, 0x22]),
    st.sampled_from([0x00, 0x11, 0x21, 0x31, 0x13]),
    st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: bytes(12) + b"\x20\x00\x05\x01" + tail),
    st.binary(max_size=4),
)


@given(st.lists(WORDS, max_size=9).map(b"".join) | V2 | st.binary(max_size=60))
def test_a_proxy_header_does_not_depend_on_the_cuts(data):
    """It is parsed once, or rejected; never both, and more bytes change nothing."""

    def outcome(size: int) -> object:
        try:
            return proxy_header.parse_header(data[:size], "any")
        except ClientError:
            return ClientError

    outcomes = [found for found in map(outcome, range(1, len(data) + 1)) if found is not None]

    assert len(set(outcomes)) <= 1
    assert all(found.size <= len(data) for found in outcomes if isinstance(found, proxy_header.ProxyHeader))
