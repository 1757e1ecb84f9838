"""The shared memory under the board: created at a start, adopted by a new program, confined to one row in a worker.

The master maps all rows for writing; a worker, only its own. A worker maps the others through a descriptor that is open
for reading, so that mprotect(2) cannot make them writable. Its own mapping is sealed (mseal(2)), because mremap(2) and
remap_file_pages(2) could extend or move it to other rows. Before Linux 6.10 they can, and a worker may write to every
row; the ledger limits the damage. The size is sealed: if a worker could truncate the file, the next read would kill the
master (SIGBUS, mmap(2)). The module calls mmap(2) itself, because Python's `mmap` keeps a duplicate of the descriptor,
which a worker would inherit.
"""

import ctypes
import fcntl
import os
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE

from asgid import descriptors
from asgid.board import BYTES, CELLS, STRIDE, Board

_ROW_BYTES = STRIDE * 8
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_FAILED = ctypes.c_void_p(-1).value
_MSEAL = 462  # its number on all architectures but alpha; glibc has a function since 2.41

_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _munmap = _libc.mmap, _libc.munmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_syscall = _libc.syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ulong)


class BoardMemory:
    """A memory file of BYTES bytes, and the board over it. Raises OSError if the kernel has no memory for it."""

    def __init__(self, fd: int) -> None:
        """`fd` is the file, which the previous program may have created."""
        if os.fstat(fd).st_size < BYTES:
            raise OSError(f"descriptor {fd} holds {os.fstat(fd).st_size} bytes, a board has {BYTES}")
        self.fd = descriptors.own(fd)
        self._start = _map(self.fd, BYTES, PROT_READ | PROT_WRITE)
        self.board = Board(_bytes_at(self._start, BYTES))

    @classmethod
    def create(cls) -> "BoardMemory":
        """Return new memory, all zero."""
        fd = os.memfd_create("asgid-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return cls(fd)

    def confine(self, slot: int) -> Board:
        """Return the board of a worker, which can write to the row of `slot` only. Call it in the child of a fork.

        It unmaps the memory and closes the descriptor that the child inherited. The child must not use the board of
        the master after this call.
        """
        own = _map(self.fd, _ROW_BYTES, PROT_READ | PROT_WRITE, slot * _ROW_BYTES)
        _syscall(_MSEAL, own, _ROW_BYTES, 0)  # fails without effect before Linux 6.10 and with 32 bits
        others = self._others()
        _munmap(self._start, BYTES)
        os.close(self.fd)
        return Board(others, {slot: _bytes_at(own, _ROW_BYTES).cast("Q")[:CELLS]})

    def _others(self) -> "memoryview | bytes":
        """Return all rows for reading. Without /proc return zeros, as if this worker had no sibling."""
        try:
            reader = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return bytes(BYTES)
        try:
            return _bytes_at(_map(reader, BYTES, PROT_READ), BYTES).toreadonly()
        finally:
            os.close(reader)


def _map(fd: int, size: int, protection: int, offset: int = 0) -> int:
    """Return the address of a part of the file."""
    address: int = _mmap(None, size, protection, MAP_SHARED, fd, offset)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"the board cannot be mapped: {os.strerror(number)}")
    return address


def _bytes_at(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
