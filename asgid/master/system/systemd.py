"""The interface to systemd: states over NOTIFY_SOCKET, the watchdog, and sockets that systemd opened.

Without systemd every call does nothing. No call raises or waits: a failed notification is not a reason to stop serving.
The variables are removed from the environment, so no worker and no child of the application can notify systemd. This
file does not know when the master is ready.

Source: sd_notify(3), sd_listen_fds_with_names(3), sd_watchdog_enabled(3).
"""

import os
import re
import socket
import time
from collections.abc import Mapping, MutableMapping

_NOTIFY = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_FIRST_FD = 3  # SD_LISTEN_FDS_START
_MAX_FDS = 65536
_NUMBER = re.compile(r"[0-9]{1,20}")  # unsigned 64 bits; a number with 400 digits does not fit a float
_SLACK_S = 5.0  # for the end of the master after the deadline of the last worker


class Notifier:
    """Sends states to systemd; each call returns whether the message was sent. Removes its variables from `environ`.

    `watchdog_s` is the longest time between two calls of `watchdog()`; None if systemd has no watchdog on the master.
    `variables` are those that an executed new program needs in its environment again.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.variables = _pop(environ, _NOTIFY)
        self.watchdog_s = _watchdog_s(self.variables)
        address = self.variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def starting(self, within_s: float) -> bool:
        """A start has begun and may take `within_s`, even if TimeoutStartSec= is shorter."""
        return self._send(_extension(within_s))

    def ready(self, status: str) -> bool:
        """The server is ready, or a reload has ended with any result."""
        return self._send("READY=1", _status(status))

    def reloading(self, status: str) -> bool:
        """A reload begins; `ready` must follow. Type=notify-reload needs the time, to match it to its signal."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={_now_us()}", _status(status))

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(_status(text))

    def stopping(self, within_s: float) -> bool:
        """A stop has begun and may take `within_s`, even if TimeoutStopSec= is shorter."""
        return self._send("STOPPING=1", _extension(within_s))

    def watchdog(self) -> bool:
        """The master is alive."""
        return self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> bool:
        if not self._address:
            return False
        message = "\n".join(assignments).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                # The queue of systemd holds hundreds of messages; if it is full, the master must not wait.
                sock.sendto(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except (OSError, ValueError):  # no process listens there, or the address is not one of AF_UNIX
            return False
        return True


def take_listen_fds(environ: MutableMapping[str, str]) -> dict[str, list[int]]:
    """Return the sockets that systemd opened for this process, by FileDescriptorName=. Removes the variables.

    Several may share a name; a socket without one is called "unknown". Empty if systemd passed none to this process.
    """
    variables = _pop(environ, _LISTEN)
    if variables.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = variables.get("LISTEN_FDS", "")
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[int]] = {}
    for index in range(min(int(count), _MAX_FDS) if _NUMBER.fullmatch(count) else 0):
        fd = _FIRST_FD + index
        try:
            os.set_inheritable(fd, False)
        except OSError:  # announced but not open
            continue
        name = names[index] if index < len(names) else ""
        sockets.setdefault(name or "unknown", []).append(fd)
    return sockets


def _pop(environ: MutableMapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: environ.pop(name) for name in names if name in environ}


def _watchdog_s(variables: Mapping[str, str]) -> float | None:
    period_us = variables.get("WATCHDOG_USEC", "")
    is_ours = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(period_us) / 1e6 if is_ours and _NUMBER.fullmatch(period_us) and int(period_us) > 0 else None


def _extension(within_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int((within_s + _SLACK_S) * 1_000_000)}"


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _now_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
