"""Addresses of listeners as text: a TCP host and port, a socket file, an abstract name, an inherited socket.

Parsing and writing are inverse: `parse(str(address)) == address`. No socket is opened here, and nothing on this machine
is checked.
"""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from shlex import join
from typing import TypeAlias

# sockaddr_un has 108 bytes (unix(7)): a path ends with a zero byte, an abstract name begins with one.
_MAX_UNIX_BYTES = 107


@dataclass(frozen=True)
class Tcp:
    """A TCP address. Host "" is every interface; port 0 lets the kernel choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Unix:
    """A socket file."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class Abstract:
    """A name in Linux' abstract namespace, which has no file and ends with its last socket."""

    name: str

    def __str__(self) -> str:
        return f"unix:@{self.name}"


@dataclass(frozen=True)
class Descriptor:
    """A listening socket that asgid inherits, by its descriptor number."""

    fd: int

    def __str__(self) -> str:
        return f"fd:{self.fd}"


@dataclass(frozen=True)
class Systemd:
    """A listening socket of a systemd .socket unit, by its FileDescriptorName=."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Address: TypeAlias = Tcp | Unix | Abstract | Descriptor | Systemd


@dataclass(frozen=True)
class Forms:
    """The forms of an address that a setting accepts, for messages."""

    examples: str
    port: int  #: for an address without one
    is_repeatable: bool = True


_LISTEN = Forms('"127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/path", "unix:@name", "fd:3" or "systemd:NAME"', 8000)
METRICS = Forms('"127.0.0.1:9464", "[::1]:9464" or ":9464"', 9464, is_repeatable=False)


def is_local(bound: Address) -> bool:
    """Return whether only this machine can connect to `bound`, a numeric address that a socket is bound to."""
    return not isinstance(bound, Tcp) or bool(bound.host and ip_address(bound.host).is_loopback)


def parse(text: str, forms: Forms = _LISTEN) -> Address:
    """Return the address in `text`. Raises ValueError with the expected form."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise ValueError(f"control characters in the address {text!r}")
    kind, _, rest = text.partition(":")
    if rest.startswith("//") and kind in ("tcp", "http", "https"):
        authority = rest.removeprefix("//").partition("/")[0]
        candidates = (authority, f"{authority}:{'443' if kind == 'https' else '80'}")
        address = next(filter(_is_tcp, candidates), f"127.0.0.1:{forms.port}")
        raise ValueError(f'write "{address}", without {kind}://, or an address as {forms.examples}')
    read = {"unix": _unix, "fd": _descriptor, "systemd": _systemd}.get(kind)
    if read:
        return read(rest)
    _check_single(text, forms)
    return _tcp(text, forms)


def _unix(rest: str) -> Address:
    name = rest.removeprefix("@")
    if not name:
        raise ValueError('"unix:" needs a path or a name: "unix:/run/app.sock" or "unix:@app"')
    if len(name.encode()) > _MAX_UNIX_BYTES:
        raise ValueError(
            f"the kernel allows at most {_MAX_UNIX_BYTES} bytes after unix:, this has {len(name.encode())}"
        )
    return Unix(name) if name == rest else Abstract(name)


def _descriptor(rest: str) -> Address:
    if not (rest.isascii() and rest.isdecimal()) or len(rest) > 9:
        raise ValueError(f'"fd:" needs the number of a descriptor, such as "fd:3", not {rest!r}')
    if int(rest) < 3:
        raise ValueError(
            f"descriptor {int(rest)} is standard input, output or error; asgid inherits sockets from 3 on: "
            f'write "fd:3", and 3<&{int(rest)} {int(rest)}<>/dev/null at the end of the command in the shell'
        )
    return Descriptor(int(rest))


def _systemd(rest: str) -> Address:
    # ":" separates the names in LISTEN_FDNAMES (sd_listen_fds(3)), so a name cannot contain it.
    if not rest or ":" in rest:
        raise ValueError('"systemd:" needs the FileDescriptorName= of a .socket unit, such as "systemd:http"')
    return Systemd(rest)


def _missing_port_message(text: str, forms: Forms) -> str:
    if text.isdecimal() and _is_tcp(f":{text}"):
        return f'{text} is only a port; write "127.0.0.1:{text}", or ":{text}" for every address'
    if text and "/" not in text and _is_tcp(f"{text}:{forms.port}"):
        return f'no port in {text!r}; write "{text}:{forms.port}"'
    return f"no port in {text!r}; write an address as {forms.examples}"


def _is_tcp(text: str) -> bool:
    """Return whether `text` is a valid TCP address, so that a message may suggest it."""
    try:
        _tcp(text, _LISTEN)
    except ValueError:
        return False
    return True


def _check_single(text: str, forms: Forms) -> None:
    """Raise ValueError for addresses with commas between them, which gunicorn accepts."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and all(map(_is_address, parts)):
        if not forms.is_repeatable:
            raise ValueError(f'only one address is possible; write "{parts[0]}"')
        options = join(word for part in parts for word in ("-b", part))
        raise ValueError(f"these are {len(parts)} addresses; write {options}, or one [[listen]] for each")


def _is_address(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _tcp(text: str, forms: Forms) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(_missing_port_message(text, forms))
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}; write an address as {forms.examples}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise ValueError(f"not an IPv6 address between the brackets of {text!r}: {error}") from None
    elif ":" in host:
        address = next(filter(_is_tcp, (f"[{host}]:{port}", f"[{text}]:{forms.port}")), f"[::1]:{forms.port}")
        raise ValueError(f'write an IPv6 address in brackets: "{address}"')
    elif any(character.isspace() or character in "/[]@" for character in host):
        raise ValueError(f"{host!r} is not a host name; write an address as {forms.examples}")
    elif host and all(character in "0123456789." for character in host):
        try:
            IPv4Address(host)
        except AddressValueError as error:
            raise ValueError(f"not an IPv4 address: {error}") from None
    else:
        try:
            host.encode("idna")  # as getaddrinfo() does later, with an error that names no setting
        except UnicodeError:
            rule = "between its dots are 1 to 63 letters, digits or hyphens"
            raise ValueError(f"{host!r} is not a host name: {rule}") from None
    return Tcp(host, int(port))
