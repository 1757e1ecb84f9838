"""The listening sockets of the master: opened for a generation, kept while one uses them, then closed.

Every error is an UnavailableError; its message names the address and the fix. This file does not know generations.
"""

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from asgid import descriptors
from asgid.address import Abstract, Address, Descriptor, Systemd, Tcp, Unix, parse
from asgid.assignment import Listener
from asgid.config.tables import Listen
from asgid.errors import UnavailableError
from asgid.master.net import tcp_sockets, unix_sockets
from asgid.master.net.bound_socket import BoundSocket
from asgid.master.net.listener_state import ListenerState
from asgid.master.net.unix_sockets import SocketFile

_EVERY_HOST = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
_REASONS = {
    errno.EADDRINUSE: "the address is in use; `ss -lntxp` shows by which process",
    errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address; `ip address` lists them",
    errno.ENOENT: "the directory does not exist",
}


class Listeners:
    """Every listening socket, by the address of its setting; one address of systemd may have several sockets."""

    def __init__(self, inherited: Mapping[str, Sequence[int]], left: Iterable[ListenerState] = ()) -> None:
        """`inherited` are the sockets of systemd, by name; `left` are open sockets of the program before this one."""
        self.inherited = {name: list(fds) for name, fds in inherited.items()}
        for fd in chain.from_iterable(inherited.values()):
            descriptors.register(fd)
        self._bound: dict[Address, list[BoundSocket]] = {}
        for state in left:
            address, sock = parse(state.bind), socket.socket(fileno=descriptors.own(state.fd))
            file = None
            if isinstance(address, Unix) and state.inode is not None:
                file = SocketFile(address.path, state.inode, state.device)
            self._bound.setdefault(address, []).append(BoundSocket(state.name, address, sock, state.backlog, file))

    def __iter__(self) -> Iterator[BoundSocket]:
        return chain.from_iterable(self._bound.values())

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(self._bound)

    def to_handover(self) -> tuple[ListenerState, ...]:
        """Return every socket as a value for the next program."""
        return tuple(bound.to_handover() for bound in self)

    def open(
        self, wanted: Iterable[Listen], *, kept: Collection[Address] = (), may_wait: bool = True
    ) -> list[BoundSocket]:
        """Return the sockets of `wanted`, all open. Raises UnavailableError for the first failure, and opens none then.

        `kept` are the addresses of the same configuration that are open already. A socket outside of `kept` is shared
        if it is the wanted socket under another name, such as 127.0.0.1:80 for `localhost:80`. Without `may_wait`, a
        host that only a name server can resolve is refused.
        """
        opened: list[BoundSocket] = []
        reusable = [bound for bound in self if bound.address not in kept]
        try:
            for listen in wanted:
                address = parse(listen.bind)
                if not may_wait and isinstance(address, Tcp):
                    tcp_sockets.require_local_name(address)
                for bound in self._open(address, listen, reusable):
                    self._bound.setdefault(bound.address, []).append(bound)
                    opened.append(bound)
        except BaseException:
            self.close({bound.address for bound in opened})
            raise
        return opened

    def apply_settings(self, listens: Iterable[Listen]) -> list[str]:
        """Set the name, the backlog, and the owner and mode of the file of open sockets. Returns the failures.

        After a failure the socket serves as before: the configuration is committed already.
        """
        problems: list[str] = []
        for listen in listens:
            for bound in self._bound[parse(listen.bind)]:
                bound.name = listen.label
                try:
                    # EADDRINUSE if the application has shut the socket down (shutdown(2)) and taken its port.
                    bound.socket.listen(listen.backlog)
                    bound.backlog = listen.backlog
                except OSError as error:
                    problems.append(str(unavailable(bound.address, error)))
                if bound.file:
                    try:
                        bound.file.set_owner_and_mode(listen)
                    except (OSError, UnavailableError) as error:
                        problems.append(str(error))
        return problems

    def restore_options(self) -> Iterator[tuple[str, list[str]]]:
        """Restore the options that a worker has changed. Yields the name of each such listener, and the options."""
        for bound in self:
            if changed := bound.options.restore():
                yield bound.name, changed

    def close(self, addresses: Iterable[Address]) -> None:
        """Close the sockets of these addresses; a socket that has another name too stays open under that name."""
        for address in addresses:
            for bound in self._bound.pop(address):
                if bound.file and not any(bound.file.is_same(other.file) for other in self if other.file):
                    bound.file.remove()
                bound.socket.close()

    def for_worker(self, listens: Iterable[Listen]) -> tuple[Listener, ...]:
        """Return the sockets of these settings as a worker receives them."""
        return tuple(
            Listener(bound.name, bound.socket.fileno(), bound.backlog, listen.proxy_protocol)
            for listen in listens
            for bound in self._bound[parse(listen.bind)]
        )

    def _open(self, address: Address, listen: Listen, reusable: Sequence[BoundSocket]) -> Iterator[BoundSocket]:
        try:
            for sock, file in self._bind(address, listen, reusable):
                _listen(sock, listen.backlog)
                yield BoundSocket(listen.label, address, descriptors.own_socket(sock), listen.backlog, file)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and isinstance(address, Tcp):
                self._check_own_sockets(address, reusable)
            raise unavailable(address, error) from error

    def _bind(
        self, address: Address, listen: Listen, reusable: Sequence[BoundSocket]
    ) -> Iterator[tuple[socket.socket, SocketFile | None]]:
        match address:
            case Tcp():
                yield from (
                    (sock, None) for sock in tcp_sockets.open_all(address, [bound.socket for bound in reusable])
                )
            case Unix():
                yield self._share(address, reusable) or unix_sockets.open_unix(address, listen)
            case Abstract():
                yield unix_sockets.open_abstract(address), None
            case Descriptor():
                yield _adopt(address.fd, address), None
                descriptors.register(address.fd)  # it stays open for the next reload
            case Systemd():
                yield from ((_adopt(fd, address), None) for fd in self._systemd_fds(address))

    def find_conflict(self, address: Tcp) -> BoundSocket | None:
        """Return our socket that has the port of `address` and one of its hosts. Raises OSError."""
        wanted = {place.host for place in tcp_sockets.resolve(address)}
        for bound in self:
            host, port = bound.host_and_port
            if port == address.port and (host in wanted or not _EVERY_HOST.isdisjoint({host, *wanted})):
                return bound
        return None

    def _check_own_sockets(self, address: Tcp, reusable: Sequence[BoundSocket]) -> None:
        """Raise UnavailableError if one of our own sockets has the wanted port."""
        if bound := self.find_conflict(address):
            raise UnavailableError(
                f"cannot listen on {address}: asgid itself listens on {describe(bound)}, and both take the same "
                "connections; "
                + ("only a restart changes one into the other" if bound in reusable else "leave one of them out")
            )

    def _share(self, address: Unix, reusable: Sequence[BoundSocket]) -> tuple[socket.socket, SocketFile] | None:
        """Return a duplicate of our socket whose file is at this path too; None if we have none there."""
        try:
            found = os.stat(address.path)
        except OSError:
            return None
        bound = next((bound for bound in self if bound.file and bound.file.is_at(found)), None)
        if bound is None or bound.file is None:
            return None
        if bound not in reusable:
            raise UnavailableError(
                f"cannot listen on {address}: {bound.address} is the same file; leave one of them out"
            )
        return bound.socket.dup(), replace(bound.file, path=address.path)

    def _systemd_fds(self, address: Systemd) -> Sequence[int]:
        """Return the sockets of this FileDescriptorName=, which every ListenStream= of the unit has."""
        if not (fds := self.inherited.get(address.name)):
            known = ", ".join(sorted(self.inherited)) or "none at all"
            raise UnavailableError(
                f"{address}: systemd passed no socket of that name (it passed {known}); "
                f"set FileDescriptorName={address.name} in the .socket unit and start it first"
            )
        return fds


def describe(bound: BoundSocket) -> str:
    """Return the address of a socket, and that of its setting if it differs."""
    setting = "" if bound.local_address == str(bound.address) else f" (for {bound.address})"
    return f"{bound.local_address}{setting}"


def unavailable(address: Address, error: OSError) -> UnavailableError:
    """Return an error that names the address, the reason and the fix."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    if isinstance(address, Unix) and error.errno == errno.EACCES:
        reason = unix_sockets.why_denied(address.path)
    return UnavailableError(f"cannot listen on {address}: {reason}")


def _listen(sock: socket.socket, backlog: int) -> None:
    descriptors.refuse_passed(sock)  # before the first client; a connection inherits it
    try:
        sock.listen(backlog)  # EADDRINUSE if another socket is bound to the same address and listened first
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)


def _adopt(fd: int, address: Address) -> socket.socket:
    """Return a duplicate of an open descriptor. Raises UnavailableError if it is not a stream socket."""
    try:
        copy = os.dup(fd)
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            raise
    except OSError as error:
        raise UnavailableError(f"{address}: descriptor {fd} is not an open socket") from error
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise UnavailableError(f"{address}: descriptor {fd} is not a stream socket")
    return sock
