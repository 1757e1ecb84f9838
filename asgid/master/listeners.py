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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain
from pathlib import Path

from asgid import descriptors
from asgid.address import Abstract, Address, Descriptor, Systemd, Tcp, Unix, parse
from asgid.assignment import Listener
from asgid.config import Listen
from asgid.errors import UnavailableError
from asgid.master.handover import ListenerPart

# struct tcp_info (linux/tcp.h): for a listening socket tcpi_unacked is the length of its queue, tcpi_sacked the queue's
# limit.
_TCP_INFO_BYTES, _QUEUE_OFFSET = 104, 24
HOSTS = "/etc/hosts"
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

    def give(self, listen: Listen) -> None:
        """Give it its owner, its group and its mode: to the file that was looked at, whatever its name leads to since.

        Raises OSError, and UnavailableError where another file has its name.
        """
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not self._is(os.fstat(fd)):
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
            if self._is(os.lstat(self.path)):
                os.unlink(self.path)

    def _is(self, found: os.stat_result) -> bool:
        is_same = found.st_ino == self.inode and self.device in (None, found.st_dev)
        return is_same and stat.S_ISSOCK(found.st_mode)


@dataclass(slots=True)
class Held:
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

    def queue(self) -> tuple[int, int] | None:
        """Return how many completed connections wait, and how many may; None where the kernel does not tell."""
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        waiting, limit = struct.unpack_from("II", info, _QUEUE_OFFSET)
        return waiting, limit


class Listeners:
    """Every listening socket of the master, by address as it was written; systemd may have passed several for one."""

    def __init__(self, inherited: Mapping[str, Sequence[int]], left: Iterable[ListenerPart] = ()) -> None:
        """`inherited` are systemd's, by name; `left` are those that the program before this one has left open."""
        self.inherited = {name: list(fds) for name, fds in inherited.items()}
        for fd in chain.from_iterable(inherited.values()):
            descriptors.note(fd)
        self._held: dict[Address, list[Held]] = {}
        for part in left:
            address, sock = parse(part.bind), socket.socket(fileno=descriptors.own(part.fd))
            file = None
            if isinstance(address, Unix) and part.inode is not None:
                file = SocketFile(address.path, part.inode, part.device)
            self._held.setdefault(address, []).append(Held(part.name, address, sock, part.backlog, file))

    def __iter__(self) -> Iterator[Held]:
        return chain.from_iterable(self._held.values())

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(self._held)

    def parts(self) -> tuple[ListenerPart, ...]:
        """Return what the next program needs to know of each."""
        return tuple(
            ListenerPart(
                str(held.address),
                held.name,
                held.backlog,
                held.file.inode if held.file else None,
                held.socket.fileno(),
                held.file.device if held.file else None,
            )
            for held in self
        )

    def open(self, wanted: Iterable[Listen], *, may_wait: bool = True) -> list[Held]:
        """Bind all of `wanted` or none, and return them; raises UnavailableError for the first that cannot be.

        Without `may_wait` that is also a host that a name server would have to be asked for.
        """
        opened: list[Held] = []
        try:
            for listen in wanted:
                if not may_wait:
                    _expect_known(parse(listen.bind))
                for held in self._open(listen):
                    self._held.setdefault(held.address, []).append(held)
                    opened.append(held)
        except BaseException:
            self.close({held.address for held in opened})
            raise
        return opened

    def refresh(self, listens: Iterable[Listen]) -> list[str]:
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
                        held.file.give(listen)
                    except (OSError, UnavailableError) as error:
                        problems.append(str(error))
        return problems

    def close(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            for held in self._held.pop(address):
                if held.file:
                    held.file.remove()
                held.socket.close()

    def of(self, listens: Iterable[Listen]) -> tuple[Listener, ...]:
        """Return what a worker needs to know of these listeners."""
        return tuple(
            Listener(held.name, held.socket.fileno(), held.backlog, listen.proxy_protocol)
            for listen in listens
            for held in self._held[parse(listen.bind)]
        )

    def _open(self, listen: Listen) -> Iterator[Held]:
        address = parse(listen.bind)
        try:
            for sock, file in self._sockets(address, listen):
                _listen(sock, listen.backlog)
                yield Held(listen.label, address, descriptors.own_socket(sock), listen.backlog, file)
        except OSError as error:
            raise unavailable(address, error) from error

    def _sockets(self, address: Address, listen: Listen) -> Iterator[tuple[socket.socket, SocketFile | None]]:
        match address:
            case Tcp():
                yield open_tcp(address), None
            case Unix():
                yield _open_unix(address, listen)
            case Abstract():
                yield _open_abstract(address), None
            case Descriptor():
                yield _adopt(address.fd, address), None
                descriptors.note(address.fd)  # it stays open for the next reload
            case Systemd():
                yield from ((_adopt(fd, address), None) for fd in self._passed(address))

    def _passed(self, address: Systemd) -> Sequence[int]:
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


def open_tcp(address: Tcp) -> socket.socket:
    """Bind a TCP address: every interface (IPv4 and IPv6 where the machine has both) for an empty host.

    Raises OSError.
    """
    if not address.host:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        return socket.create_server(("", address.port), family=family, dualstack_ipv6=dual)
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart would wait a minute for the TIME_WAIT of the last run's connections (ip(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


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
    _clear(address)
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
            file.give(listen)
        except (OSError, UnavailableError):
            file.remove()
            raise
    except (OSError, UnavailableError):
        sock.close()
        raise
    return sock, file


def _clear(address: Unix) -> None:
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
