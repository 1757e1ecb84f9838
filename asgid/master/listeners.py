"""Listening sockets: bind, adopt from systemd or a parent, and close. The master holds each for as long as a generation
uses it.

A unix socket's file is replaced only after a connect has proved that nobody listens on it, and is removed only while it
is still the file that was made here. All errors are UnavailableError, with the address and what to do in the message.
"""

import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import chain, count
from pathlib import Path
from typing import Any

from asgid import descriptors
from asgid.address import Abstract, Address, Descriptor, Systemd, Tcp, Unix, parse
from asgid.assignment import Listener
from asgid.config import Listen
from asgid.errors import UnavailableError
from asgid.master.replace.handover import ListenerState

# struct tcp_info (linux/tcp.h): for a listening socket tcpi_unacked is the length of its queue, tcpi_sacked the queue's
# limit.
_TCP_INFO_BYTES, _QUEUE_OFFSET = 104, 24
HOSTS = "/etc/hosts"
_EVERY_HOST = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
_LACKING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ATTEMPTS = 20  # to find a port that is free in both families
_REASONS = {
    errno.EADDRINUSE: "the address is in use; `ss -lntxp` shows by whom",
    errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address; `ip address` lists them",
    errno.ENOENT: "the directory does not exist",
}


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a unix socket that was bound here. Who may write in its directory may put another in its place."""

    path: str
    inode: int
    device: int | None  #: None where the program before this one did not hand it over

    @classmethod
    def at(cls, path: str) -> "SocketFile":
        found = os.lstat(path)
        return cls(path, found.st_ino, found.st_dev)

    def set_owner_and_mode(self, listen: Listen) -> None:
        """Give it its owner, its group and its mode: to the file that was looked at, whatever its name leads to since.

        Raises OSError, and UnavailableError where another file has its name.
        """
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not self.is_at(os.fstat(fd)):
                raise UnavailableError(f"unix:{self.path}: another file has taken the place of the socket's")
            same = f"/proc/self/fd/{fd}"  # fchmod(2) takes no O_PATH
            if listen.owner or listen.group:
                os.chown(same, _uid(listen.owner), _gid(listen.group))
            os.chmod(same, listen.mode)
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove it while it is still the one; no other file can have its inode number while the socket is open."""
        with suppress(OSError):
            if self.is_at(os.lstat(self.path)):
                os.unlink(self.path)

    def is_same(self, other: "SocketFile") -> bool:
        """Whether another name, or the same, leads to this file."""
        return (self.inode, self.device) == (other.inode, other.device)

    def is_at(self, found: os.stat_result) -> bool:
        """Whether it is this file that was found under some name."""
        is_same = found.st_ino == self.inode and self.device in (None, found.st_dev)
        return is_same and stat.S_ISSOCK(found.st_mode)


@dataclass(slots=True)
class BoundSocket:
    """A listening socket, and what it was asked for with."""

    name: str
    address: Address
    socket: socket.socket
    backlog: int
    file: SocketFile | None = None  #: where it is a unix socket with a file

    @property
    def bound(self) -> str:
        """Where it really listens: the port that the kernel chose stands here."""
        return _text(self.socket)

    @property
    def ends(self) -> tuple[str, int]:
        """Host and port where it listens; "" and 0 for a unix socket."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return "", 0
        host, port = self.socket.getsockname()[:2]
        return host, port

    def queue(self) -> tuple[int, int] | None:
        """Return how many completed connections wait, and how many may; None where the kernel does not tell."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        waiting, limit = struct.unpack_from("II", info, _QUEUE_OFFSET)
        return waiting, limit


class Listeners:
    """Every listening socket of the master, by address as it was written; systemd may have passed several for one."""

    def __init__(self, inherited: Mapping[str, Sequence[int]], left: Iterable[ListenerState] = ()) -> None:
        """`inherited` are systemd's, by name; `left` are those that the program before this one has left open."""
        self.inherited = {name: list(fds) for name, fds in inherited.items()}
        for fd in chain.from_iterable(inherited.values()):
            descriptors.note(fd)
        self._held: dict[Address, list[BoundSocket]] = {}
        for part in left:
            address, sock = parse(part.bind), socket.socket(fileno=descriptors.own(part.fd))
            file = None
            if isinstance(address, Unix) and part.inode is not None:
                file = SocketFile(address.path, part.inode, part.device)
            self._held.setdefault(address, []).append(BoundSocket(part.name, address, sock, part.backlog, file))

    def __iter__(self) -> Iterator[BoundSocket]:
        return chain.from_iterable(self._held.values())

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(self._held)

    def to_handover(self) -> tuple[ListenerState, ...]:
        """Return what the next program needs to know of each."""
        return tuple(
            ListenerState(
                str(held.address),
                held.name,
                held.backlog,
                held.file.inode if held.file else None,
                held.socket.fileno(),
                held.file.device if held.file else None,
            )
            for held in self
        )

    def open(
        self, wanted: Iterable[Listen], *, kept: Collection[Address] = (), may_wait: bool = True
    ) -> list[BoundSocket]:
        """Bind all of `wanted` or none, and return them; raises UnavailableError for the first that cannot be.

        `kept` are the addresses of the same configuration that are bound already. A socket that is bound for none of
        them, and is the one that is wanted under another name, is shared: `localhost:80` after `127.0.0.1:80`. Without
        `may_wait` a host that a name server would have to be asked for cannot be bound, either.
        """
        opened: list[BoundSocket] = []
        spare = [held for held in self if held.address not in kept]
        try:
            for listen in wanted:
                if not may_wait:
                    _expect_known(parse(listen.bind))
                for held in self._open(listen, spare):
                    self._held.setdefault(held.address, []).append(held)
                    opened.append(held)
        except BaseException:
            self.close({held.address for held in opened})
            raise
        return opened

    def apply_settings(self, listens: Iterable[Listen]) -> list[str]:
        """Give sockets that are kept name, backlog and a file's rights of a new configuration; return what failed.

        A socket serves on as it did before if that fails: the configuration is in force already.
        """
        problems: list[str] = []
        for listen in listens:
            for held in self._held[parse(listen.bind)]:
                held.name = listen.label
                try:
                    # EADDRINUSE if the application has shut the socket down (shutdown(2)) and taken its port.
                    held.socket.listen(listen.backlog)
                    held.backlog = listen.backlog
                except OSError as error:
                    problems.append(str(unavailable(held.address, error)))
                if held.file:
                    try:
                        held.file.set_owner_and_mode(listen)
                    except (OSError, UnavailableError) as error:
                        problems.append(str(error))
        return problems

    def close(self, addresses: Iterable[Address]) -> None:
        """Close the sockets of these addresses; a socket that is shared under another name listens on."""
        for address in addresses:
            for held in self._held.pop(address):
                if held.file and not any(held.file.is_same(other.file) for other in self if other.file):
                    held.file.remove()
                held.socket.close()

    def for_worker(self, listens: Iterable[Listen]) -> tuple[Listener, ...]:
        """Return what a worker needs to know of these listeners."""
        return tuple(
            Listener(held.name, held.socket.fileno(), held.backlog, listen.proxy_protocol)
            for listen in listens
            for held in self._held[parse(listen.bind)]
        )

    def _open(self, listen: Listen, spare: Sequence[BoundSocket]) -> Iterator[BoundSocket]:
        address = parse(listen.bind)
        try:
            for sock, file in self._sockets(address, listen, spare):
                _listen(sock, listen.backlog)
                yield BoundSocket(listen.label, address, descriptors.own_socket(sock), listen.backlog, file)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and isinstance(address, Tcp):
                self._expect_not_ours(address, spare)
            raise unavailable(address, error) from error

    def _expect_not_ours(self, address: Tcp, spare: Sequence[BoundSocket]) -> None:
        """Raise UnavailableError if it is a socket of this master's that is in the way of a new one."""
        wanted = {place.host for place in _places(address)}
        for held in self:
            host, port = held.ends
            if port == address.port and (host in wanted or not _EVERY_HOST.isdisjoint({host, *wanted})):
                asked = "" if held.bound == str(held.address) else f" (for {held.address})"
                raise UnavailableError(
                    f"cannot listen on {address}: asgid itself listens on {held.bound}{asked}, and both take the same "
                    "connections; "
                    + ("only a restart changes one into the other" if held in spare else "leave one of them out")
                )

    def _sockets(
        self, address: Address, listen: Listen, spare: Sequence[BoundSocket]
    ) -> Iterator[tuple[socket.socket, SocketFile | None]]:
        match address:
            case Tcp():
                yield from ((sock, None) for sock in _open_tcp(address, spare))
            case Unix():
                yield self._shared(address, spare) or _open_unix(address, listen)
            case Abstract():
                yield _open_abstract(address), None
            case Descriptor():
                yield _adopt(address.fd, address), None
                descriptors.note(address.fd)  # it stays open for the next reload
            case Systemd():
                yield from ((_adopt(fd, address), None) for fd in self._systemd_fds(address))

    def _shared(self, address: Unix, spare: Sequence[BoundSocket]) -> tuple[socket.socket, SocketFile] | None:
        """Return the socket whose file has this name too, None if this master has none there."""
        try:
            found = os.stat(address.path)
        except OSError:
            return None
        held = next((held for held in self if held.file and held.file.is_at(found)), None)
        if held is None or held.file is None:
            return None
        if held not in spare:
            raise UnavailableError(
                f"cannot listen on {address}: {held.address} is the same file; leave one of them out"
            )
        return held.socket.dup(), replace(held.file, path=address.path)

    def _systemd_fds(self, address: Systemd) -> Sequence[int]:
        """Return the descriptors of this name: FileDescriptorName= is that of every ListenStream= of its unit."""
        if not (fds := self.inherited.get(address.name)):
            known = ", ".join(sorted(self.inherited)) or "none at all"
            raise UnavailableError(
                f"{address}: systemd passed no socket of that name (it passed {known}); "
                f"set FileDescriptorName={address.name} in the .socket unit and start it first"
            )
        return fds


def _expect_known(address: Address) -> None:
    """Raise UnavailableError for a host that is neither a number nor a name in the file of hosts: nsswitch.conf(5) has
    that looked into before anybody is asked.
    """
    if not isinstance(address, Tcp) or not address.host or address.host in _names_of_hosts():
        return
    try:
        ip_address(address.host)
    except ValueError:
        how = f"write its number, have the name in {HOSTS}, or restart"
        raise UnavailableError(f"cannot listen on {address}: a reload asks no name server; {how}") from None


def _names_of_hosts() -> set[str]:
    try:
        lines = Path(HOSTS).read_text(errors="replace").splitlines()
    except OSError:
        return set()
    return {name for line in lines for name in line.partition("#")[0].split()[1:]}


@dataclass(frozen=True, slots=True)
class _Place:
    """One address that a host stands for."""

    family: socket.AddressFamily
    where: tuple[Any, ...]  #: as bind(2) takes it
    is_dual: bool = False  #: takes IPv4 too

    @property
    def host(self) -> str:
        return str(self.where[0])

    def bind(self, port: int) -> socket.socket:
        """Return a socket that is bound there. Raises OSError."""
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            # Without it a restart would wait a minute for the TIME_WAIT of the last run's connections (ip(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self.is_dual)
            sock.bind((self.where[0], port, *self.where[2:]))
        except OSError:
            sock.close()
            raise
        return sock

    def is_bound_by(self, sock: socket.socket) -> bool:
        """Whether a socket has this address and port, and takes the same families."""
        if sock.family != self.family or sock.getsockname() != self.where:
            return False
        is_v6 = self.family == socket.AF_INET6
        return not is_v6 or bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) != self.is_dual


def _places(address: Tcp) -> list[_Place]:
    """Return every address that the host stands for: of `localhost` most often one of each family.

    An empty host is every interface, IPv4 and IPv6 if the machine has both. Raises OSError.
    """
    if not address.host:
        if socket.has_dualstack_ipv6():
            return [_Place(socket.AF_INET6, ("::", address.port, 0, 0), is_dual=True)]
        return [_Place(socket.AF_INET, ("0.0.0.0", address.port))]  # noqa: S104 - that is asked for
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(_Place(family, where) for family, _, _, _, where in found))


def open_tcp(address: Tcp) -> socket.socket:
    """Bind the first address that the host stands for. Raises OSError."""
    return _places(address)[0].bind(address.port)


def _open_tcp(address: Tcp, spare: Sequence[BoundSocket]) -> list[socket.socket]:
    """Return a socket for each address that the host stands for and this machine has; one of `spare` where it is that.

    A file of hosts may give ::1 to a machine without IPv6. Raises OSError.
    """
    lacking: list[OSError] = []
    for attempt in count():
        with ExitStack() as undo:
            opened: list[socket.socket] = []
            try:
                for place in _places(address):
                    shared = next((held.socket for held in spare if place.is_bound_by(held.socket)), None)
                    port = address.port or (opened[0].getsockname()[1] if opened else 0)  # the kernel chooses once
                    try:
                        opened.append(undo.enter_context(shared.dup() if shared else place.bind(port)))
                    except OSError as error:
                        if error.errno not in _LACKING:
                            raise
                        lacking.append(error)
            except OSError as error:
                # What the kernel chose for one family may be taken in the other.
                if address.port or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS:
                    raise
                continue
            if not opened:
                raise lacking[0]
            undo.pop_all()
            return opened
    raise AssertionError("the loop above ends by itself")


def unavailable(address: Address, error: OSError) -> UnavailableError:
    """Return the error in words that name the address and the way out."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    if isinstance(address, Unix) and error.errno == errno.EACCES:
        reason = _denied(address.path)
    return UnavailableError(f"cannot listen on {address}: {reason}")


def _denied(path: str) -> str:
    """Say who may not do what, for a socket file."""
    directory = os.path.dirname(os.path.abspath(path))
    who = _user(os.geteuid())
    if os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return f"permission denied; the file that is there is not for {who}, who cannot ask whether a server answers"
    return f"permission denied; {who} may not make a file in {directory}"


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _listen(sock: socket.socket, backlog: int) -> None:
    try:
        sock.listen(backlog)  # EADDRINUSE where another socket was bound beside ours and listened first
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)


def _open_abstract(address: Abstract) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind("\0" + address.name)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(address: Unix, listen: Listen) -> tuple[socket.socket, SocketFile]:
    _remove_stale_socket(address)
    sock = socket.socket(socket.AF_UNIX)
    try:
        # Nobody may connect before mode and owner are set.
        umask = os.umask(0o777)
        try:
            sock.bind(address.path)
        finally:
            os.umask(umask)
        file = SocketFile.at(address.path)
        try:
            file.set_owner_and_mode(listen)
        except (OSError, UnavailableError):
            file.remove()
            raise
    except (OSError, UnavailableError):
        sock.close()
        raise
    return sock, file


def _remove_stale_socket(address: Unix) -> None:
    """Remove the file of a server that is no more; refuse to touch anything else."""
    try:
        mode = os.stat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UnavailableError(f"cannot listen on {address}: that file is no socket, and asgid will not remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a living server with a full queue says EAGAIN instead of keeping us
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:  # the one answer that proves that nobody holds the other end
            os.unlink(address.path)
            return
        except BlockingIOError:
            pass
    raise UnavailableError(f"cannot listen on {address}: another server answers there; stop it first")


def _adopt(fd: int, address: Address) -> socket.socket:
    try:
        copy = os.dup(fd)
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            raise
    except OSError as error:
        raise UnavailableError(f"{address}: descriptor {fd} is no open socket") from error
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise UnavailableError(f"{address}: descriptor {fd} is no stream socket")
    return sock


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if name else -1
    except KeyError:
        raise UnavailableError(f"listen.owner: there is no user {name!r}") from None


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else -1
    except KeyError:
        raise UnavailableError(f"listen.group: there is no group {name!r}") from None


def _text(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = name.decode() if isinstance(name, bytes) else name
        return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"
    host, port = name[:2]
    return str(Tcp(host, port))
