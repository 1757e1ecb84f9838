"""Addresses as people write them."""

import pytest

from asgid.address import METRICS, Abstract, Address, Descriptor, Systemd, Tcp, Unix, parse

WRITTEN: dict[str, Address] = {
    "127.0.0.1:8000": Tcp("127.0.0.1", 8000),
    "localhost:0": Tcp("localhost", 0),
    "app_1.internal.:80": Tcp("app_1.internal.", 80),
    "bücher.example:80": Tcp("bücher.example", 80),
    "[::1]:65535": Tcp("::1", 65535),
    "[::]:80": Tcp("::", 80),
    ":8000": Tcp("", 8000),
    "unix:/run/app.sock": Unix("/run/app.sock"),
    "unix:app.sock": Unix("app.sock"),
    "unix:/with:colon": Unix("/with:colon"),
    "unix:@app": Abstract("app"),
    "fd:3": Descriptor(3),
    "systemd:http": Systemd("http"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_an_address_is_parsed_and_written_back(text):
    address = parse(text)

    assert WRITTEN[text] == address
    assert text == str(address)


METRICS_REFUSED = {
    "localhost": 'write "localhost:9464"',
    "::1": r'in brackets: "\[::1\]:9464"',
    "127.0.0.1:80,127.0.0.1:81": 'only one address is possible; write "127.0.0.1:80"',
}


@pytest.mark.parametrize("text", METRICS_REFUSED)
def test_a_metrics_address_is_corrected_with_its_own_port(text):
    """The port of the application would be taken."""
    with pytest.raises(ValueError, match=METRICS_REFUSED[text]):
        parse(text, METRICS)


REFUSED = {
    "": "no port",
    "8000": r'8000 is only a port; write "127\.0\.0\.1:8000", or ":8000"',
    "localhost": r"no port in 'localhost'; write \"localhost:8000\"",
    "localhost:": "a port is a number",
    "localhost:http": "a port is a number",
    "localhost:65536": "a port is a number",
    "localhost:-1": "a port is a number",
    "localhost:８０": "a port is a number",  # noqa: RUF001 - int() accepts these digits, a port does not
    "127.0.0.1:80,[::1]:80, unix:/x": r"3 addresses; write -b 127.0.0.1:80 -b '\[::1\]:80' -b unix:/x, or one",
    "127.0.0.1:80,": "brackets|a port is a number",
    "::1:8000": r'in brackets: "\[::1\]:8000"',
    "[::g]:80": "not an IPv6 address",
    "[]:80": "not an IPv6 address",
    "300.0.0.1:80": "not an IPv4 address",
    "127.1:80": "not an IPv4 address",
    "http://localhost:80": 'write "localhost:80", without http://',
    "https://localhost:80/": 'write "localhost:80", without https://',
    "tcp://0.0.0.0:8000": 'write "0.0.0.0:8000", without tcp://',
    "ftp://localhost:80": "brackets",
    "/run/app.sock:80": "not a host name",
    "my host:80": "not a host name",
    "app..internal:80": "not a host name",
    ".internal:80": "not a host name",
    "a" * 64 + ".internal:80": "1 to 63 letters",
    "bücher" * 11 + ":80": "1 to 63 letters",
    "unix:": "needs a path",
    "unix:@": "needs a path",
    "unix:/" + "a" * 107: "at most 107 bytes",
    "fd:": "number of a descriptor",
    "fd:x": "number of a descriptor",
    "fd:0": 'standard input, .* or error; asgid inherits sockets from 3 on: write "fd:3", and 3<&0 0<>/dev/null at',
    "systemd:": "FileDescriptorName=",
    "systemd:a:b": "FileDescriptorName=",
    "127.0.0.1:80\n": "control characters",
    "unix:/a\0b": "control characters",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_that_is_not_an_address_is_refused(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        parse(text)


def test_a_path_of_the_max_length_is_accepted():
    """107 bytes and the zero byte after them fill sun_path."""
    path = "/" + "a" * 106

    assert Unix(path) == parse(f"unix:{path}")
