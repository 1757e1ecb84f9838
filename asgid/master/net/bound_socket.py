"""A listening socket as the master holds it: its setting, its real address, and the length of its queue."""

import socket
import struct
from dataclasses import dataclass, field

from asgid.address import Address, Tcp
from asgid.master.net.listener_state import ListenerState
from asgid.master.net.socket_options import SocketOptions
from asgid.master.net.unix_sockets import SocketFile

# struct tcp_info (linux/tcp.h). For a listening socket tcpi_unacked is the length of its queue and tcpi_sacked is the
# limit of the queue.
_TCP_INFO_BYTES, _QUEUE_OFFSET = 104, 24


@dataclass(slots=True)
class BoundSocket:
    """A listening socket with the settings that it was opened for."""

    name: str
    address: Address
    socket: socket.socket
    backlog: int
    file: SocketFile | None = None  #: None unless it is a unix socket with a file
    options: SocketOptions = field(init=False)

    def __post_init__(self) -> None:
        self.options = SocketOptions(self.socket)

    @property
    def local_address(self) -> str:
        """The address as the kernel has it; it shows the port that the kernel chose for port 0."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            path = name.decode() if isinstance(name, bytes) else name
            return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"
        host, port = name[:2]
        return str(Tcp(host, port))

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The bound host and port; "" and 0 for a unix socket."""
        if not self._is_tcp:
            return "", 0
        host, port = self.socket.getsockname()[:2]
        return host, port

    def queue(self) -> tuple[int, int] | None:
        """Return the number of completed connections that wait for accept(2), and the limit of that number.

        None for a unix socket: the kernel does not report its queue.
        """
        if not self._is_tcp:
            return None
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        waiting, limit = struct.unpack_from("II", info, _QUEUE_OFFSET)
        return waiting, limit

    def to_handover(self) -> ListenerState:
        """Return the socket as a value for the next program."""
        inode, device = (self.file.inode, self.file.device) if self.file else (None, None)
        return ListenerState(str(self.address), self.name, self.backlog, inode, self.socket.fileno(), device)

    @property
    def _is_tcp(self) -> bool:
        return self.socket.family in (socket.AF_INET, socket.AF_INET6)
