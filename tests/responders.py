"""A responder without a connection: its methods from messages to bytes need none."""

from types import SimpleNamespace
from typing import cast

from asgid.worker.http1.responder import Carrier, Responder

_NOWHERE = cast("Carrier", SimpleNamespace(context=None, writer=None))


def make_responder(*, is_head: bool = False, minor: int = 1, keep_alive: bool = True) -> Responder:
    return Responder(_NOWHERE, is_head, minor, keep_alive, expects_continue=False)
