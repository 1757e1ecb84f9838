"""The client behind proxies: values that trusted proxies wrote are used, others are not."""

from time import process_time_ns
from typing import Any

import pytest

from asgid.config.tables import Proxy
from asgid.worker.asgi import Scope
from asgid.worker.http.forwarded import ForwardedFields, TrustedProxies
from asgid.worker.http.scope import request_scope, scope_template
from asgid.worker.net.peers import UNIX

NEAR, FAR = "10.0.0.1", "10.0.0.2"  # two trusted proxies in a row; NEAR is the peer
TRUSTED = ("127.0.0.1", "::1", UNIX, "10.0.0.0/8", "2001:db8:1::/48")
HOST = (b"host", b"app.internal")
PEER = ("10.0.0.1", 5000)


def forwarded(*headers: tuple[str, str], peer: str = NEAR, root_path: str = "", **settings: Any) -> Scope:
    """Return the scope of a request for /a with these headers, from `peer`."""
    proxy = Proxy(**{"trusted": TRUSTED, **settings})
    common = scope_template(client=PEER, server=None, root_path=root_path, scheme="http")
    lines = [HOST, *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)]
    scope = request_scope(common, {}, "GET", b"/a", 1, lines)
    ForwardedFields(proxy, TrustedProxies(proxy.trusted)).apply(scope, peer)
    return scope


def client(*headers: tuple[str, str], **settings: Any) -> object:
    return forwarded(*headers, **settings)["client"]


# -- trusted peers -----------------------------------------------------------------------------------------------------

TRUSTS = [
    # trusted proxies, a peer, whether it is trusted
    (("127.0.0.1",), "127.0.0.1", True),
    (("127.0.0.1",), "127.0.0.2", False),
    (("::1",), "::1", True),
    (("0:0:0::1",), "::1", True),
    (("::1",), "127.0.0.1", False),
    (("10.0.0.0/8",), "10.255.0.1", True),
    (("10.0.0.0/8",), "11.0.0.1", False),
    (("10.0.0.0/8",), "::10.0.0.9", False),
    (("192.0.2.7/32",), "192.0.2.7", True),
    (("fe80::/10",), "fe80::1%eth0", True),
    (("2001:db8::/32",), "2001:db9::1", False),
    (("10.0.0.0/8", "fe80::/10"), "10.0.0.1", True),
    (("0.0.0.0/0",), "::1", False),
    (("::ffff:10.0.0.0/104",), "10.255.0.1", True),
    (("::ffff:10.0.0.0/104",), "11.0.0.1", False),
    (("::ffff:0:0/96",), "192.0.2.7", True),
    (("::ffff:192.0.2.7",), "192.0.2.7", True),
    (("::ffff:a00:1/128", "2001:db8::/32"), "10.0.0.1", True),
    ((UNIX,), UNIX, True),
    ((UNIX,), "127.0.0.1", False),
    (("127.0.0.1",), UNIX, False),
    ((UNIX,), "", False),
    (("0.0.0.0/0", "::/0"), "", False),
    (("*",), "192.0.2.1", True),
    (("*",), UNIX, True),
    ((), "127.0.0.1", False),
]


@pytest.mark.parametrize(("trusted", "peer", "is_trusted"), TRUSTS)
def test_a_peer_is_trusted_by_address_network_or_kind(trusted, peer, is_trusted):
    """An IPv4 peer of a dual-stack socket counts as IPv4. A peer without an address is not trusted."""
    assert is_trusted == (peer in TrustedProxies(trusted))


# -- X-Forwarded-For ---------------------------------------------------------------------------------------------------

FORWARDED_FOR = [
    # lines of the header, the client
    (["192.0.2.1"], ("192.0.2.1", 0)),
    (["192.0.2.1:4711"], ("192.0.2.1", 4711)),
    (["192.0.2.1:0"], ("192.0.2.1", 0)),
    (["2001:db8::1"], ("2001:db8::1", 0)),
    (["2001:DB8:0::1"], ("2001:db8::1", 0)),
    (["[2001:db8::1]"], ("2001:db8::1", 0)),
    (["[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
    (["::ffff:192.0.2.1"], ("192.0.2.1", 0)),
    (["  192.0.2.1\t"], ("192.0.2.1", 0)),
    ([f"192.0.2.1, {FAR}"], ("192.0.2.1", 0)),
    ([f"192.0.2.1,{FAR},127.0.0.1"], ("192.0.2.1", 0)),
    (["192.0.2.1", FAR], ("192.0.2.1", 0)),
    (["192.0.2.1, 2001:db8:1::9"], ("192.0.2.1", 0)),
    (["192.0.2.1, ::ffff:10.0.0.2"], ("192.0.2.1", 0)),
    # Values that the client invented are further left.
    (["127.0.0.1, 192.0.2.1"], ("192.0.2.1", 0)),
    ([f"203.0.113.9, 192.0.2.1, {FAR}"], ("192.0.2.1", 0)),
    (["203.0.113.9", "192.0.2.1"], ("192.0.2.1", 0)),
    (['"203.0.113.9, 192.0.2.1'], ("192.0.2.1", 0)),
    # If all are trusted: the farthest.
    ([FAR], (FAR, 0)),
    ([f"10.9.9.9, {FAR}"], ("10.9.9.9", 0)),
    # An item that is not an address ends the walk at the last good one.
    (["garbage"], PEER),
    (["unknown"], PEER),
    ([""], PEER),
    ([", ,"], PEER),
    ([f"garbage, {FAR}"], (FAR, 0)),
    ([f"192.0.2.1, garbage, {FAR}"], (FAR, 0)),
    (["192.0.2.1, garbage"], PEER),
    ([f"192.0.2.1, , {FAR}"], ("192.0.2.1", 0)),
    (["192.0.2.1:65536"], PEER),
    (["192.0.2.1:"], PEER),
    (["192.0.2.1:x"], PEER),
    (["192.0.2"], PEER),
    (["192.0.2.01"], PEER),
    (["192.0.2.1 192.0.2.2"], PEER),
    (["192.0.2.1\x00"], PEER),
    (["\xb9\xb2.0.2.1"], PEER),
    (["[192.0.2.1]"], PEER),
    (["[2001:db8::1"], PEER),
    (["[2001:db8::1]4711"], PEER),
    (["2001:db8::1::"], PEER),
    (["fe80::1%eth0"], PEER),
    (["a.example"], PEER),
    (["0x7f000001"], PEER),
    (["3221225985"], PEER),
    (["9" * 8000], PEER),
    # More proxies in a row are not read.
    ([", ".join(["192.0.2.1", *[FAR] * 32])], ("192.0.2.1", 0)),
    ([", ".join(["192.0.2.1", *[FAR] * 40])], (FAR, 0)),
]


@pytest.mark.parametrize(("lines", "expected"), FORWARDED_FOR)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(lines, expected):
    """With its port, 0 without one. Items that the client wrote itself change nothing."""
    assert expected == client(*(("x-forwarded-for", line) for line in lines))


@pytest.mark.parametrize("peer", ["192.0.2.9", "", "11.0.0.1"])
@pytest.mark.parametrize("headers", ["x-forwarded", "forwarded"])
def test_headers_of_a_peer_that_is_not_trusted_change_nothing(peer, headers):
    """The application still gets the headers as they were sent."""
    sent = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-prefix", "/api"),
        ("forwarded", "for=192.0.2.1;proto=https;host=a.example"),
    ]
    scope = forwarded(*sent, peer=peer, headers=headers, host=True, prefix=headers == "x-forwarded")

    assert (PEER, "http", "", "/a") == (scope["client"], scope["scheme"], scope["root_path"], scope["path"])
    assert [HOST, *((name.encode(), value.encode()) for name, value in sent)] == scope["headers"]


def test_a_peer_on_a_unix_socket_is_trusted_by_name():
    """It has no address; the permissions of the socket decide about its access."""
    assert ("192.0.2.1", 0) == client(("x-forwarded-for", "192.0.2.1"), peer=UNIX)
    assert PEER == client(("x-forwarded-for", "192.0.2.1"), peer=UNIX, trusted=["127.0.0.1"])


def test_the_client_is_the_leftmost_address_if_all_peers_are_trusted():
    """So "*" is for listeners that only proxies can reach."""
    assert ("203.0.113.9", 0) == client(("x-forwarded-for", "203.0.113.9, 192.0.2.1"), trusted=["*"])


# -- one family or the other -------------------------------------------------------------------------------------------

BOTH = (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.2"))


@pytest.mark.parametrize(
    ("headers", "expected", "scheme"),
    [("x-forwarded", ("192.0.2.1", 0), "https"), ("forwarded", ("192.0.2.2", 0), "http"), ("none", PEER, "http")],
)
def test_only_one_family_of_headers_is_read(headers, expected, scheme):
    """A proxy that sets one family forwards the other as the client sent it."""
    scope = forwarded(*BOTH, headers=headers)

    assert (expected, scheme) == (scope["client"], scope["scheme"])


# -- X-Forwarded-Proto -------------------------------------------------------------------------------------------------

PROTOS = [
    # X-Forwarded-For, X-Forwarded-Proto, the scheme
    (None, "https", "https"),
    (None, "http", "http"),
    (None, "HTTPS", "https"),
    (None, "wss", "https"),
    (None, "ws", "http"),
    (None, "", "http"),
    (None, "ftp", "http"),
    (None, "javascript", "http"),
    (None, "https;", "http"),
    ("192.0.2.1", "https", "https"),
    ("unknown", "https", "https"),
    # Both proxies append.
    (f"192.0.2.1, {FAR}", "https, http", "https"),
    (f"192.0.2.1, {FAR}", "http, https", "http"),
    # The client sent one, too.
    (f"203.0.113.9, 192.0.2.1, {FAR}", "https, http, http", "http"),
    ("192.0.2.1", "https, http", "http"),
    # One proxy sets it, the other forwards it.
    (f"192.0.2.1, {FAR}", "https", "https"),
    (None, "https, http", "http"),
    (f"192.0.2.1, {FAR}", "gopher, https", "http"),
]


@pytest.mark.parametrize(("addresses", "proto", "scheme"), PROTOS)
def test_the_scheme_is_that_of_the_client_s_hop(addresses, proto, scheme):
    """Counted from the right, as the addresses. Values other than http and https are ignored."""
    headers = [("x-forwarded-proto", proto)] + ([("x-forwarded-for", addresses)] if addresses else [])

    assert scheme == forwarded(*headers)["scheme"]


# -- X-Forwarded-Host and -Prefix --------------------------------------------------------------------------------------

HOSTS = [
    ("a.example", b"a.example"),
    ("a.example:8443", b"a.example:8443"),
    ("[2001:db8::1]:443", b"[2001:db8::1]:443"),
    ("192.0.2.1", b"192.0.2.1"),
    ("b.example, a.example", b"a.example"),
    ("", HOST[1]),
    ("a.example/path", HOST[1]),
    ("user@a.example", HOST[1]),
    ("a example", HOST[1]),
    ("a.example:", HOST[1]),
    ("a.example:port", HOST[1]),
    ("<script>", HOST[1]),
    ("a" * 256, HOST[1]),
]


@pytest.mark.parametrize(("sent", "host"), HOSTS)
def test_the_forwarded_host_replaces_the_host(sent, host):
    """Only if it is valid, and only in the field Host."""
    headers = forwarded(("x-forwarded-host", sent), host=True)["headers"]

    assert [(b"host", host), (b"x-forwarded-host", sent.encode())] == headers


PREFIXES = [
    # sent, root path, path
    ("/api", "/api", "/api/a"),
    ("/api/", "/api", "/api/a"),
    ("/api/v1.2/~x", "/api/v1.2/~x", "/api/v1.2/~x/a"),
    ("/x, /api", "/api", "/api/a"),
    ("/a", "/a", "/a"),
    ("/.well-known", "/.well-known", "/.well-known/a"),
    ("", "/root", "/root/a"),
    ("/", "/root", "/root/a"),
    ("api", "/root", "/root/a"),
    ("//evil.example", "/root", "/root/a"),
    ("/a//b", "/root", "/root/a"),
    ("/../x", "/root", "/root/a"),
    ("/x/.", "/root", "/root/a"),
    ("/a b", "/root", "/root/a"),
    ("/a%2f", "/root", "/root/a"),
    ("/a?b", "/root", "/root/a"),
    ("/a\\b", "/root", "/root/a"),
    ("/" + "a/" * 40, "/root", "/root/a"),
]


@pytest.mark.parametrize(("sent", "root_path", "path"), PREFIXES)
def test_the_forwarded_prefix_replaces_the_root_path(sent, root_path, path):
    """The path begins with it, as with `app.root_path`; the raw path does not change."""
    scope = forwarded(("x-forwarded-prefix", sent), prefix=True, root_path="/root")

    assert (root_path, path, b"/a") == (scope["root_path"], scope["path"], scope["raw_path"])


@pytest.mark.parametrize("headers", ["x-forwarded", "forwarded"])
def test_host_and_prefix_are_ignored_by_default(headers):
    """Not each proxy sets them, and one that does not forwards the values of the client."""
    scope = forwarded(
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "for=192.0.2.1;host=evil.example"),
        headers=headers,
    )

    assert (HOST, "", "/a") == (scope["headers"][0], scope["root_path"], scope["path"])


def test_the_forwarded_host_is_added_to_a_request_without_a_host():
    """HTTP/1.0 needs no Host."""
    common = scope_template(client=PEER, server=None, root_path="", scheme="http")
    scope = request_scope(common, {}, "GET", b"/", 0, [(b"x-forwarded-host", b"a.example")])
    ForwardedFields(Proxy(host=True), TrustedProxies([NEAR])).apply(scope, NEAR)

    assert (b"host", b"a.example") == scope["headers"][0]


# -- Forwarded (RFC 7239) ----------------------------------------------------------------------------------------------

FORWARDED = [
    # lines of the header; client, scheme, host
    (["for=192.0.2.1"], ("192.0.2.1", 0), "http", HOST[1]),
    (["For=192.0.2.1;Proto=HTTPS;Host=a.example"], ("192.0.2.1", 0), "https", b"a.example"),
    (["for=192.0.2.1; proto=https ;host=a.example;"], ("192.0.2.1", 0), "https", b"a.example"),
    (['for="192.0.2.1:4711"'], ("192.0.2.1", 4711), "http", HOST[1]),
    (["for=192.0.2.1:4711;host=a.example:8443"], ("192.0.2.1", 4711), "http", b"a.example:8443"),
    (['for="[2001:db8::1]"'], ("2001:db8::1", 0), "http", HOST[1]),
    (['for="[2001:db8::1]:4711";proto=https'], ("2001:db8::1", 4711), "https", HOST[1]),
    (['for="192.0.2.1:_hidden"'], ("192.0.2.1", 0), "http", HOST[1]),
    (['for="192.0.2.\\1"'], ("192.0.2.1", 0), "http", HOST[1]),
    (['for=192.0.2.1;by="[::1]";ext="a;b=c"'], ("192.0.2.1", 0), "http", HOST[1]),
    # Several hops: scheme and host are of the element where the walk ends, too.
    ([f"for=192.0.2.1;proto=https, for={FAR};proto=http"], ("192.0.2.1", 0), "https", HOST[1]),
    (["for=192.0.2.1;proto=https", f"for={FAR}"], ("192.0.2.1", 0), "https", HOST[1]),
    ([f"for=203.0.113.9;proto=https, for=192.0.2.1, for={FAR}"], ("192.0.2.1", 0), "http", HOST[1]),
    ([f"for=10.9.9.9;host=a.example, for={FAR}"], ("10.9.9.9", 0), "http", b"a.example"),
    # A hidden client is not known, but the proxy's scheme and host are.
    (["for=unknown;proto=https"], PEER, "https", HOST[1]),
    (["for=_gazonk;proto=https"], PEER, "https", HOST[1]),
    ([f"for=_gazonk;proto=https, for={FAR}"], (FAR, 0), "https", HOST[1]),
    ([f"for=203.0.113.9, for=_gazonk, for={FAR}"], (FAR, 0), "http", HOST[1]),
    (["proto=https;host=a.example"], PEER, "https", b"a.example"),
    # A malformed element is ignored and ends the walk.
    (["192.0.2.1"], PEER, "http", HOST[1]),
    (["for = 192.0.2.1"], PEER, "http", HOST[1]),
    (['for="192.0.2.1;proto=https'], PEER, "http", HOST[1]),
    (["for=192.0.2.1;for=192.0.2.2;proto=https"], PEER, "http", HOST[1]),
    (["for=192.0.2.1 proto=https"], PEER, "http", HOST[1]),
    (["for=;proto=https"], PEER, "http", HOST[1]),
    (['for="";proto=https'], PEER, "https", HOST[1]),
    (["for=192.0.2.1;;proto=https"], PEER, "http", HOST[1]),
    ([f"for=192.0.2.1, {FAR}"], PEER, "http", HOST[1]),
    # A quote that a client leaves open does not hide the element that the proxy appends.
    (['for="203.0.113.9, for=192.0.2.1;proto=https'], ("192.0.2.1", 0), "https", HOST[1]),
    (['for="203.0.113.9', "for=192.0.2.1"], ("192.0.2.1", 0), "http", HOST[1]),
    (['for=x", for="203.0.113.9, for=192.0.2.1'], ("192.0.2.1", 0), "http", HOST[1]),
    # A quoted text of a proxy is not read as elements.
    (['for=192.0.2.1;host="a, for=203.0.113.9"'], PEER, "http", HOST[1]),
    (['for=192.0.2.1;host="a, for=203.0.113.9;x=\\"b"'], PEER, "http", HOST[1]),
]


@pytest.mark.parametrize(("lines", "expected", "scheme", "host"), FORWARDED)
def test_forwarded_is_read_by_the_same_rule(lines, expected, scheme, host):
    """The rightmost element whose `for` is not trusted counts, with quotes, brackets, hidden names and garbage."""
    scope = forwarded(*(("forwarded", line) for line in lines), headers="forwarded", host=True)

    assert (expected, scheme, (b"host", host)) == (scope["client"], scope["scheme"], scope["headers"][0])


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-forwarded-for", "127.0.0.1," * 3200),
        ("forwarded", "for=127.0.0.1," * 2300),
        ("forwarded", 'for="' + '\\"' * 16000),
        ("forwarded", "a=b;" * 8000 + "="),
        ("x-forwarded-prefix", "/a" * 16000),
    ],
)
def test_a_long_header_is_read_in_a_few_milliseconds(name, value):
    """32 KiB, the default max of a head, took at most 2 ms when measured."""
    family = "forwarded" if name == "forwarded" else "x-forwarded"

    def cpu_ns() -> int:
        started = process_time_ns()
        forwarded((name, value), trusted=["*"], headers=family, prefix=family != "forwarded")
        return process_time_ns() - started

    assert min(cpu_ns() for _ in range(3)) < 20_000_000
