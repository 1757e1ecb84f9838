"""TCP sockets for a listener: one for each address to which its host name resolves.

This file does not know which sockets the master holds; the caller passes those that may be shared.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

from asgid.address import Tcp
from asgid.errors import UnavailableError

HOSTS = "/etc/hosts"
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_MAX_ATTEMPTS = 20  # to find a port that is free in both families


@dataclass(frozen=True)
class SocketAddress:
    """One address to which a host name resolves."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]  #: the argument of bind(2)
    is_dual: bool = False  #: an IPv6 address that accepts IPv4 too

    @property
    def host(self) -> str:
        return str(self.sockaddr[0])

    def bind(self, port: int) -> socket.socket:
        """Return a new socket that is bound to this address. Raises OSError."""
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            # Without it a restart would wait a minute for the TIME_WAIT of the last run's connections (ip(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self.is_dual)
            sock.bind((self.sockaddr[0], port, *self.sockaddr[2:]))
        except OSError:
            sock.close()
            raise
        return sock

    def is_bound_by(self, sock: socket.socket) -> bool:
        """Return whether `sock` has this address and port, and accepts the same families."""
        if sock.family != self.family or sock.getsockname() != self.sockaddr:
            return False
        is_v6 = self.family == socket.AF_INET6
        return not is_v6 or bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) != self.is_dual


def resolve(address: Tcp) -> list[SocketAddress]:
    """Return every address to which the host resolves; `localhost` usually has one in each family.

    An empty host is every interface: IPv4, and IPv6 if the machine has it. Raises OSError.
    """
    if not address.host:
        if socket.has_dualstack_ipv6():
            return [SocketAddress(socket.AF_INET6, ("::", address.port, 0, 0), is_dual=True)]
        return [SocketAddress(socket.AF_INET, ("0.0.0.0", address.port))]  # noqa: S104 - the settings ask for it
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(SocketAddress(family, sockaddr) for family, _, _, _, sockaddr in found))


def open_first(address: Tcp) -> socket.socket:
    """Return a socket that is bound to the first address of the host. Raises OSError."""
    return resolve(address)[0].bind(address.port)


def open_all(address: Tcp, reusable: Sequence[socket.socket]) -> list[socket.socket]:
    """Return a socket for each address of the host that this machine has.

    A socket of `reusable` that is bound to one of them already is duplicated. An address that the machine does not have
    is left out: a hosts file may list ::1 on a machine without IPv6. Raises OSError if none is left.
    """
    missing: list[OSError] = []
    for attempt in count():
        with ExitStack() as undo:
            opened: list[socket.socket] = []
            try:
                for place in resolve(address):
                    shared = next((sock for sock in reusable if place.is_bound_by(sock)), None)
                    port = address.port or (opened[0].getsockname()[1] if opened else 0)  # one port in both families
                    try:
                        opened.append(undo.enter_context(shared.dup() if shared else place.bind(port)))
                    except OSError as error:
                        if error.errno not in _NO_SUCH_ADDRESS:
                            raise
                        missing.append(error)
            except OSError as error:
                # The port that the kernel chose in one family may be in use in the other.
                if address.port or error.errno != errno.EADDRINUSE or attempt == _MAX_ATTEMPTS:
                    raise
                continue
            if not opened:
                raise missing[0]
            undo.pop_all()
            return opened
    raise AssertionError("the loop above returns or raises")


def require_local_name(address: Tcp) -> None:
    """Raise UnavailableError if only a name server can resolve the host.

    A number or a name in the hosts file needs no name server: nsswitch.conf(5) puts files first.
    """
    if not address.host or address.host in _names_in_hosts_file():
        return
    try:
        ip_address(address.host)
    except ValueError:
        how = f"write its number, have the name in {HOSTS}, or restart"
        raise UnavailableError(f"cannot listen on {address}: a reload asks no name server; {how}") from None


def _names_in_hosts_file() -> set[str]:
    try:
        lines = Path(HOSTS).read_text(errors="replace").splitlines()
    except OSError:
        return set()
    return {name for line in lines for name in line.partition("#")[0].split()[1:]}
