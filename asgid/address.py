"""Addresses as people write them: a TCP host and port, a socket file, an abstract name, an inherited socket.

Parsing and writing are inverse: `parse(str(address)) == address`. This file does not know what a socket is, nor
whether an address exists on this machine.
"""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

# sockaddr_un holds 108 bytes (unix(7)): a path ends with a zero byte, an abstract name begins with one.
_UNIX_BYTES = 107
_FORMS = '"127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/path", "unix:@name", "fd:3" or "systemd:NAME"'
TCP_FORMS = '"127.0.0.1:9464", "[::1]:9464" or ":9464"'


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP address; `host` "" means every interface, `port` 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket file."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Abstract:
    """A name in Linux' abstract namespace: no file, gone with its last socket."""

    name: str

    def __str__(self) -> str:
        return f"unix:@{self.name}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A listening socket that asgid was started with, by number."""

    fd: int

    def __str__(self) -> str:
        return f"fd:{self.fd}"


@dataclass(frozen=True, slots=True)
class Systemd:
    """A listening socket of a systemd .socket unit, by its FileDescriptorName=."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Address: TypeAlias = Tcp | Unix | Abstract | Descriptor | Systemd


def is_local(bound: Address) -> bool:
    """Whether only this machine can connect to an address that was bound, and so is a number and no name."""
    return not isinstance(bound, Tcp) or bool(bound.host and ip_address(bound.host).is_loopback)


def parse(text: str, forms: str = _FORMS) -> Address:
    """Return the address that `text` names; raises ValueError with what was expected, written in one of `forms`."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise ValueError(f"an address holds no control characters: {text!r}")
    kind, _, rest = text.partition(":")
    if rest.startswith("//") and kind in ("tcp", "http", "https"):
        alone = rest.removeprefix("//").partition("/")[0]
        ways = dict.fromkeys((alone, f"{alone}:{'443' if kind == 'https' else '80'}"))
        meant = next((way for way in ways if _is_tcp(way)), "127.0.0.1:8000")
        raise ValueError(f'write "{meant}", without {kind}://; only unix:, fd: and systemd: stand before an address')
    read = {"unix": _unix, "fd": _descriptor, "systemd": _systemd}.get(kind)
    return read(rest) if read else _tcp(text, forms)


def _unix(rest: str) -> Address:
    name = rest.removeprefix("@")
    if not name:
        raise ValueError('"unix:" needs a path or a name: "unix:/run/app.sock" or "unix:@app"')
    if len(name.encode()) > _UNIX_BYTES:
        raise ValueError(f"the kernel takes at most {_UNIX_BYTES} bytes after unix:, this is {len(name.encode())}")
    return Unix(name) if name == rest else Abstract(name)


def _descriptor(rest: str) -> Address:
    if not (rest.isascii() and rest.isdecimal()) or len(rest) > 9:
        raise ValueError(f'"fd:" needs the number of a descriptor, such as "fd:3", not {rest!r}')
    if int(rest) < 3:
        raise ValueError(
            f"descriptor {int(rest)} is standard input, output or error; sockets passed to asgid begin at 3: "
            f'write "fd:3", and 3<&{int(rest)} {int(rest)}<>/dev/null at the end of the command in the shell'
        )
    return Descriptor(int(rest))


def _systemd(rest: str) -> Address:
    # ":" separates the names in LISTEN_FDNAMES (sd_listen_fds(3)), so none holds one.
    if not rest or ":" in rest:
        raise ValueError('"systemd:" needs the FileDescriptorName= of a .socket unit, such as "systemd:http"')
    return Systemd(rest)


def _without_port(text: str, forms: str) -> str:
    if text.isdecimal() and _is_tcp(f":{text}"):
        return f'{text} is a port alone; write "127.0.0.1:{text}", or ":{text}" for every address'
    if text and "/" not in text and _is_tcp(f"{text}:8000"):
        return f'no port in {text!r}; write "{text}:8000"'
    return f"no port in {text!r}; write an address as {forms}"


def _is_tcp(text: str) -> bool:
    """Whether a hint may name it."""
    try:
        _tcp(text, _FORMS)
    except ValueError:
        return False
    return True


def _tcp(text: str, forms: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(_without_port(text, forms))
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}; write an address as {forms}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise ValueError(f"no IPv6 address stands between the brackets of {text!r}: {error}") from None
    elif ":" in host:
        meant = next((way for way in (f"[{host}]:{port}", f"[{text}]:8000") if _is_tcp(way)), "[::1]:8000")
        raise ValueError(f'an IPv6 address stands in brackets: "{meant}"')
    elif any(character.isspace() or character in "/[]@" for character in host):
        raise ValueError(f"{host!r} is no host name; write an address as {forms}")
    elif host and all(character in "0123456789." for character in host):
        try:
            IPv4Address(host)
        except AddressValueError as error:
            raise ValueError(f"no IPv4 address: {error}") from None
    else:
        try:
            host.encode("idna")  # as getaddrinfo() will, whose error would be nobody's
        except UnicodeError:
            how = "between its dots are 1 to 63 letters, digits or hyphens"
            raise ValueError(f"{host!r} is no host name: {how}") from None
    return Tcp(host, int(port))
