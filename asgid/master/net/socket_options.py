"""The options of a listening socket: a worker may change them for all processes, and the master restores them.

Workers share the socket of the master, and a connection inherits its options. A worker that sets SO_LINGER or a large
SO_RCVLOWAT would block each connection to each later worker. A filter cannot be restored, because SO_LOCK_FILTER would
protect it from the master too. So the master locks the socket before it has a worker. Not found are a change of an
option without a value to read (TCP_MD5SIG) and shutdown(2). This file does not know workers.
"""

import fcntl
import os
import socket
import sys
from contextlib import suppress
from socket import IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET

_SO_LOCK_FILTER = 44
#: Level and number of each.
_OPTIONS: dict[str, tuple[int, int]] = {
    "SO_LINGER": (SOL_SOCKET, socket.SO_LINGER),
    "SO_RCVLOWAT": (SOL_SOCKET, socket.SO_RCVLOWAT),
    "SO_KEEPALIVE": (SOL_SOCKET, socket.SO_KEEPALIVE),
    "SO_BINDTODEVICE": (SOL_SOCKET, socket.SO_BINDTODEVICE),
    "SO_MAX_PACING_RATE": (SOL_SOCKET, 47),
    "SO_PASSRIGHTS": (SOL_SOCKET, 83),
    "SO_SNDBUF": (SOL_SOCKET, socket.SO_SNDBUF),
    "SO_RCVBUF": (SOL_SOCKET, socket.SO_RCVBUF),
    "SO_BUF_LOCK": (SOL_SOCKET, 72),
    "TCP_NODELAY": (IPPROTO_TCP, socket.TCP_NODELAY),
    "TCP_MAXSEG": (IPPROTO_TCP, socket.TCP_MAXSEG),
    "TCP_CORK": (IPPROTO_TCP, socket.TCP_CORK),
    "TCP_KEEPIDLE": (IPPROTO_TCP, socket.TCP_KEEPIDLE),
    "TCP_KEEPINTVL": (IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": (IPPROTO_TCP, socket.TCP_KEEPCNT),
    "TCP_DEFER_ACCEPT": (IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
    "TCP_WINDOW_CLAMP": (IPPROTO_TCP, socket.TCP_WINDOW_CLAMP),
    "TCP_CONGESTION": (IPPROTO_TCP, socket.TCP_CONGESTION),
    "TCP_USER_TIMEOUT": (IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    "IP_TTL": (IPPROTO_IP, socket.IP_TTL),
    "IP_OPTIONS": (IPPROTO_IP, socket.IP_OPTIONS),
    "IP_MINTTL": (IPPROTO_IP, 21),
    "IPV6_UNICAST_HOPS": (IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    "IPV6_MINHOPCOUNT": (IPPROTO_IPV6, 73),
}
_MAX_OPTION_BYTES = 40  # IP_OPTIONS
_DOUBLED = ("SO_SNDBUF", "SO_RCVBUF")  # the kernel returns the double of the number that was set (socket(7))
#: Set instead of the value before. The kernel returns an MSS also if none is set (0 unsets it), and does not accept the
#: window clamp 0 of a socket that listens (this is the largest window).
_UNSET = {"TCP_MAXSEG": 0, "TCP_WINDOW_CLAMP": 65535 << 14}


class SocketOptions:
    """The options of one socket at the time when it was opened, before a worker had it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._flags = sock, fcntl.fcntl(sock, fcntl.F_GETFL)
        with suppress(OSError):
            sock.setsockopt(SOL_SOCKET, _SO_LOCK_FILTER, 1)
        self._values = self._read()

    def restore(self) -> list[str]:
        """Restore the options that have changed, and return their names."""
        changed = []
        if fcntl.fcntl(self._socket, fcntl.F_GETFL) != self._flags:
            fcntl.fcntl(self._socket, fcntl.F_SETFL, self._flags)
            changed.append("O_NONBLOCK" if self._flags & os.O_NONBLOCK else "file status flags")
        before, now = self._values, self._read()
        if now != before:
            names = [name for name, value in before.items() if now.get(name) != value]
            changed += names
            for name in (*names, "SO_BUF_LOCK"):  # which restoring a buffer has set
                with suppress(KeyError, OSError):
                    self._socket.setsockopt(*_OPTIONS[name], self._setting(name, before[name]))
            self._values = self._read()  # an option that cannot be restored is reported once
        return changed

    def _read(self) -> dict[str, bytes]:
        values = {}
        for name, (level, number) in _OPTIONS.items():
            with suppress(OSError):  # another kind of socket, or an older kernel
                values[name] = self._socket.getsockopt(level, number, _MAX_OPTION_BYTES)
        return values

    @staticmethod
    def _setting(name: str, value: bytes) -> bytes | int:
        if name in _DOUBLED:
            return int.from_bytes(value, sys.byteorder) // 2
        return _UNSET.get(name, value)
