"""Hooks for processes that the application forks: a child keeps nothing of the worker, and never serves as one.

os.register_at_fork calls the hooks. In the child they restore the default actions of signals and replace all
descriptors of the worker. A child that returns to the event loop, or raises an exception out of the application, exits.
Code that runs within the call of fork, such as the function of a multiprocessing.Process, is not affected.
"""

import asyncio
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable  # noqa: TC003 - the same
from contextlib import suppress
from threading import local
from typing import Any, NoReturn

from asgid import descriptors
from asgid.assignment import DUMP

#: The packages of the signal handlers that a child must not keep.
_OURS = frozenset({"asgid", "asyncio", "uvloop", "gunicorn"})


class _Mask(local):
    """The signals that a thread had blocked before it forked."""

    before: "set[int | signal.Signals] | None" = None


class ForkHooks:
    """The parts of the worker that a child must release. One for each process; `install` cannot be undone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._mask = loop, _Mask()
        self.transports: Callable[[], Iterable[asyncio.BaseTransport | None]] = list  #: all transports of clients
        self.on_child: Callable[[], None] = lambda: None  #: called last, in the child

    def install(self) -> None:
        """Register the hooks in this process."""
        os.register_at_fork(
            before=self._block_signals, after_in_parent=self._unblock_signals, after_in_child=self._release
        )

    def _block_signals(self) -> None:
        # A parent may call terminate() at once. Before the child has reset its handlers, Python would write the signal
        # into the wake-up pipe, which the child shares with the worker, and the worker would act on it.
        self._mask.before = {*signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())}

    def _unblock_signals(self) -> None:
        if self._mask.before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before)
            self._mask.before = None

    def _release(self) -> None:
        global _is_child  # noqa: PLW0603 - a property of the process
        _is_child = True
        signal.set_wakeup_fd(-1)
        faulthandler.unregister(DUMP)
        for signum in signal.valid_signals():
            if _module(signal.getsignal(signum)) in _OURS:
                is_interrupt = signum == signal.SIGINT
                signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
        try:
            self._replace_descriptors()
            self._exit_at_return()
            self.on_child()
        finally:
            self._unblock_signals()

    def _replace_descriptors(self) -> None:
        """Replace each descriptor by a socket without a peer, and that of the event loop by a new epoll.

        The child would get the number of a closed descriptor for its next file, and an object of the worker would close
        it when it is collected. epoll_ctl(2) accepts a socket, so libuv does not abort before the child has exited.
        """
        dead, peer = socket.socketpair()
        peer.close()
        sockets = [transport.get_extra_info("socket") for transport in self.transports() if transport]
        sockets += [part for part in self._parts() if isinstance(part, socket.socket)]  # the loop's wake-up pipe
        with dead:
            for fd in {*descriptors.listed(), *(sock.fileno() for sock in sockets if sock)}:
                if descriptors.identity(fd):
                    os.dup2(dead.fileno(), fd, inheritable=False)
        loop: Any = self._loop  # these attributes are not in the interface of event loops
        fd = loop._get_backend_id() if hasattr(loop, "_get_backend_id") else loop._selector.fileno()  # noqa: SLF001
        with select.epoll() as empty:
            os.dup2(empty.fileno(), fd, inheritable=False)

    def _exit_at_return(self) -> None:
        """Make the loop exit the process if the child returns to it, also if a thread calls it."""
        loop: Any = self._loop
        for part in self._parts():
            if isinstance(part, deque):  # callbacks of other requests, which continue in the worker
                part.clear()
        loop.call_soon(exit_immediately)
        loop.call_soon_threadsafe = exit_immediately  # exit handlers belong to the worker

    def _parts(self) -> list[object]:
        """Return the attributes of the event loop; only the garbage collector finds those of uvloop."""
        return [*vars(self._loop).values(), *gc.get_referents(self._loop)]


_is_child = False


def exit_if_child(error: BaseException) -> None:
    """Exit if this process is a child whose application raised `error`, as Python exits after an exception."""
    if not _is_child:
        return
    code = 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        traceback.print_exception(error)
    exit_immediately(code=code)


def exit_immediately(*_: object, code: int = 0, **__: object) -> NoReturn:
    """Exit without exit handlers; other arguments are those of the method that this replaces in a child."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the application may have replaced it
            stream.flush()
    os._exit(code & 0xFF)


def _module(handler: object) -> str:
    return str(getattr(handler, "__module__", "")).partition(".")[0]
