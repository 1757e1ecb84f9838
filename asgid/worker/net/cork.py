"""What is written to one client in one turn of the loop, held back to leave in one write.

uvloop writes at once, so the answers to sixteen pipelined requests would be sixteen system calls here and as many
wake-ups of the client; so would the parts of a body that an application streams without waiting (measured: 0.79 and
0.81 of the CPU). The first write of a turn is not held back, for mostly it is the only one. It does not know when
it is to be pulled.
"""

from asyncio import WriteTransport
from collections.abc import Iterable

#: Where holding back more gains nothing: the transport is then to say whether the client keeps up.
_MOST_BYTES = 65536
#: What one client may be written in a turn; then others have theirs. With 64 KiB a stream of 1 MiB took 5 % more of a
#: processor.
_MOST_A_TURN = 262144


class Cork:
    """Takes what the transport would take; `pull` hands it over. `size` is how many bytes are held back."""

    __slots__ = ("_most_joined", "_parts", "_pulled", "_transport", "size")

    def __init__(self, transport: WriteTransport, most_joined: float) -> None:
        self._transport = transport
        self._most_joined = most_joined  # above this, copying costs more than handing over the parts
        self._parts: list[bytes] = []
        self.size = self._pulled = 0

    @property
    def is_passed(self) -> bool:
        """Whether it is somebody else's turn."""
        return self._pulled > _MOST_A_TURN

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)
        if self.size > _MOST_BYTES:
            self._pulled += self.size
            self.pull()

    def writelines(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self.write(part)

    def pull(self) -> None:
        """Write what is held back."""
        parts, size, self._parts, self.size = self._parts, self.size, [], 0
        if size > self._most_joined:
            self._transport.writelines(parts)
        elif parts:
            self._transport.write(b"".join(parts))
