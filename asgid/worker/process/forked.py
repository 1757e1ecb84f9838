"""Processes that the application forks: they keep nothing of the worker, and never go on as a second one.

One hook of os.register_at_fork does it. In the child it gives signals their default action and replaces every
descriptor of the worker; a child that returns to the event loop, or raises out of the application, ends there. What
runs within the call of fork, such as the function of a multiprocessing.Process, is the application's and goes on.
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

#: Whose handlers of signals mean nothing in a child.
_OURS = frozenset({"asgid", "asyncio", "uvloop", "gunicorn"})


class _Mask(local):
    """The signals that a thread had blocked before it forked."""

    before: "set[int | signal.Signals] | None" = None


class ForkHooks:
    """The worker, as far as a child has to let go of it. One for each process; `install` cannot be taken back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._mask = loop, _Mask()
        self.transports: Callable[[], Iterable[asyncio.BaseTransport | None]] = list  #: of the clients
        self.on_child: Callable[[], None] = _nothing  #: called last, in the child

    def install(self) -> None:
        """Have the children of this process let go."""
        os.register_at_fork(
            before=self._hold_signals, after_in_parent=self._release_signals, after_in_child=self._let_go
        )

    def _hold_signals(self) -> None:
        # A parent may call terminate() at once. Before the child has reset its handlers, it would write the number of
        # the signal into the wake-up pipe, which it shares with the worker: the worker would obey.
        self._mask.before = {*signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())}

    def _release_signals(self) -> None:
        if self._mask.before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before)
            self._mask.before = None

    def _let_go(self) -> None:
        global _is_child  # noqa: PLW0603 - a process is a child or it is not
        _is_child = True
        signal.set_wakeup_fd(-1)
        faulthandler.unregister(DUMP)
        for signum in signal.valid_signals():
            if _module(signal.getsignal(signum)) in _OURS:
                is_interrupt = signum == signal.SIGINT
                signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
        try:
            self._replace_descriptors()
            self._end_at_return()
            self.on_child()
        finally:
            self._release_signals()

    def _replace_descriptors(self) -> None:
        """Put a socket without a peer under each number, and a new epoll under that of the event loop's.

        A number that was only closed would be the next one that the child gets, and an object of the worker's that is
        collected would close it. epoll_ctl(2) takes a socket, so that libuv does not abort before the child has ended.
        """
        dead, peer = socket.socketpair()
        peer.close()
        sockets = [transport.get_extra_info("socket") for transport in self.transports() if transport]
        sockets += [part for part in self._parts() if isinstance(part, socket.socket)]  # that wake the loop
        with dead:
            for fd in {*descriptors.listed(), *(sock.fileno() for sock in sockets if sock)}:
                if descriptors.identity(fd):
                    os.dup2(dead.fileno(), fd, inheritable=False)
        loop: Any = self._loop  # what is asked for here is not in the interface of event loops
        fd = loop._get_backend_id() if hasattr(loop, "_get_backend_id") else loop._selector.fileno()  # noqa: SLF001
        with select.epoll() as empty:
            os.dup2(empty.fileno(), fd, inheritable=False)

    def _end_at_return(self) -> None:
        """Have the loop do nothing but end the process, if the child returns to it; nor may a thread ask it again."""
        loop: Any = self._loop
        for part in self._parts():
            if isinstance(part, deque):  # the callbacks of other requests, which the worker goes on with
                part.clear()
        loop.call_soon(_end)
        loop.call_soon_threadsafe = _end

    def _parts(self) -> list[object]:
        """Return the attributes of the event loop; only the collector of garbage finds those of uvloop."""
        return [*vars(self._loop).values(), *gc.get_referents(self._loop)]


_is_child = False


def exit_if_child(error: BaseException) -> None:
    """End the process, if it is a child that raised out of the application: as Python ends one that raises."""
    if not _is_child:
        return
    code = 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        traceback.print_exception(error)
    _end(code=code)


def exit_immediately() -> NoReturn:
    """End the process with 0, whatever still runs in it."""
    _end()


def _end(*_: object, code: int = 0, **__: object) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the application's
            stream.flush()
    os._exit(code & 0xFF)  # the exit handlers are the worker's


def _module(handler: object) -> str:
    return str(getattr(handler, "__module__", "")).partition(".")[0]


def _nothing() -> None:
    """Nothing else is to be let go."""
