"""What systemd and the master say to each other: states over NOTIFY_SOCKET, the watchdog, and sockets handed in.

Without systemd every call does nothing; with it no call ever raises or waits, for a supervisor that cannot be told is
no reason to stop serving. The variables are taken out of the environment, so that no worker and no program of the
application's speaks for the master. This file does not know what is served, nor when the master is ready.

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
_NUMBER = re.compile(r"[0-9]{1,20}")  # an unsigned number of 64 bits; a number of 400 digits is too large for a float
_SLACK_S = 5.0  # for what comes after the deadline of the last worker


class Notifier:
    """Tells systemd what the master does; each call returns whether it was told. Removes its variables from `environ`.

    `watchdog_s` is how often systemd wants to hear `watchdog()` at least, None where it does not ask. `variables` are
    what a master that is executed anew needs in its environment again.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.variables = _take(environ, _NOTIFY)
        self.watchdog_s = _watchdog_s(self.variables)
        address = self.variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def starting(self, within_s: float) -> bool:
        """A start has begun; it has at least so long, whatever TimeoutStartSec= says."""
        return self._send(_extension(within_s))

    def ready(self, status: str) -> bool:
        """The server serves, or the reload has ended, whatever its verdict."""
        return self._send("READY=1", _status(status))

    def reloading(self, status: str) -> bool:
        """A reload begins; `ready` must follow. Type=notify-reload knows it for its answer by the time."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={_now_us()}", _status(status))

    def status(self, text: str) -> bool:
        """What `systemctl status` shows; one line."""
        return self._send(_status(text))

    def stopping(self, within_s: float) -> bool:
        """A stop has begun; it has at least so long, whatever TimeoutStopSec= says."""
        return self._send("STOPPING=1", _extension(within_s))

    def watchdog(self) -> bool:
        """The master's loop turns."""
        return self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> bool:
        if not self._address:
            return False
        message = "\n".join(assignments).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                # systemd's queue holds hundreds of messages; one that is full must not hold the master.
                sock.sendto(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except (OSError, ValueError):  # nobody listens there, or it is no address of this kind of socket
            return False
        return True


def take_listen_fds(environ: MutableMapping[str, str]) -> dict[str, list[int]]:
    """Return the sockets systemd opened for this process, by name (FileDescriptorName=); remove the variables.

    Several may share one name; one without is called "unknown". Empty where there are none, or they are not for us.
    """
    variables = _take(environ, _LISTEN)
    if variables.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = variables.get("LISTEN_FDS", "")
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[int]] = {}
    for index in range(min(int(count), _MAX_FDS) if _NUMBER.fullmatch(count) else 0):
        fd = _FIRST_FD + index
        try:
            os.set_inheritable(fd, False)
        except OSError:  # promised and not open
            continue
        name = names[index] if index < len(names) else ""
        sockets.setdefault(name or "unknown", []).append(fd)
    return sockets


def _take(environ: MutableMapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
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
