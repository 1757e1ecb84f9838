"""Collects the writes to one client within one turn of the loop, for one write at its end.

uvloop writes at once, so the responses to sixteen pipelined requests would be sixteen system calls, and would wake the
client as often. So would the parts of a body that an application streams without waiting (measured: 0.79 and 0.81 of
the CPU). The first write of a turn is not collected, because most turns have no other. A cork does not decide when to
flush.
"""

from asyncio import WriteTransport
from collections.abc import Sequence

#: Collecting more gains nothing: the transport then decides whether the client keeps up.
_MAX_BYTES = 65536
#: One client is written at most so much in a turn; then others have theirs. With 64 KiB a stream of 1 MiB took 5 % more
#: of a processor.
_MAX_TURN_BYTES = 262144


class Cork:
    """Takes bytes as a transport does; `flush` passes them on. `size` counts the collected bytes."""

    __slots__ = ("_flushed", "_join_limit", "_parts", "_transport", "size")

    def __init__(self, transport: WriteTransport, join_limit: float) -> None:
        self._transport = transport
        self._join_limit = join_limit  # above this, copying costs more than passing the parts
        self._parts: list[bytes] = []
        self.size = self._flushed = 0

    @property
    def exceeds_turn(self) -> bool:
        """Whether the client was written its share of this turn."""
        return self._flushed > _MAX_TURN_BYTES

    def write(self, data: bytes) -> None:
        self.writelines((data,))

    def writelines(self, parts: Sequence[bytes]) -> None:
        self._parts += parts
        self.size += sum(map(len, parts))
        if self.size > _MAX_BYTES:
            self._flushed += self.size
            self.flush()

    def flush(self) -> None:
        """Write the collected bytes."""
        parts, size, self._parts, self.size = self._parts, self.size, [], 0
        if size > self._join_limit:
            self._transport.writelines(parts)
        elif parts:
            self._transport.write(b"".join(parts))
