"""Nothing stays of a request, a message or a connection, however it was used and however it ended."""

import ctypes
import gc
import os
import sys
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from asgid.worker.http1 import request_syntax, response_head
from tests.worker.harness import Worker, on_a_loop, turns
from tests.worker.leak_cases import CASES, Case

#: What is remembered of many requests, within bounds that are tested elsewhere.
CACHES = (response_head.HEADS, response_head._LINES, request_syntax.GOOD_HOSTS)
#: Cases in which objects hold each other until the collector comes. A cancelled call's traceback leads to its task, a
#: lifespan that fails to its exception, and a connection that the harness makes and never uses to its reader.
COLLECTED = {name for name in CASES if "request timeout" in name or "PROXY" in name}
COLLECTED |= {"a lifespan that fails", "a WebSocket that is not taken from"}
QUARTERS = 4
#: Blocks that come to be between two measures without any leak, whatever their distance: measured, up to 100.
STRAY = 100


class _Mallinfo(ctypes.Structure):
    """What glibc has lent out (mallinfo(3))."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("a", "b", "c", "d", "mapped", "e", "f", "in_use", "g", "h")]


_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)  # None in another C library: then Python's own counts must do
if _mallinfo:
    _mallinfo.restype = _Mallinfo


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds at one moment."""

    objects: Counter[str]  #: by type, as far as the garbage collector knows them
    blocks: int  #: pieces of memory up to 512 bytes
    allocated_bytes: int  #: larger ones, those of C libraries among them
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> "Held":
        for cache in CACHES:
            cache.clear()
        gc.collect()
        info = _mallinfo() if _mallinfo else None
        return cls(
            blocks=sys.getallocatedblocks(),
            allocated_bytes=info.in_use + info.mapped if info else 0,
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            objects=Counter(type(each).__qualname__ for each in gc.get_objects()),
        )

    def grown(self, before: "Held") -> Counter[str]:
        """Return by how much each has grown."""
        grown = self.objects - before.objects
        grown["blocks"] = self.blocks - before.blocks
        grown["descriptors"] = self.descriptors - before.descriptors
        grown["threads"] = self.threads - before.threads
        grown["kilobytes"] = (self.allocated_bytes - before.allocated_bytes) // 1024
        return grown


async def leaked(case: Case, rounds: int, before: int = 50) -> dict[str, int]:
    """Return what grows with the rounds, as if something of each second one had stayed.

    It has to grow in each quarter: the interpreter's free lists fill at any time, but once. The rounds `before` are for
    what is made once.
    """
    quarter = rounds // QUARTERS
    async with Worker(case.app, **case.tables) as worker:
        worker.drop_nothing()  # the clock stands still: else a stream would never learn that its client has left
        dialog = case.dialog(worker)

        async def play(number: int) -> None:
            for _ in range(number):
                await anext(dialog)
                worker.forget_clients()
                worker.lines.clear()
                worker.answers.clear()
            await turns(5)

        await play(before)
        gc.freeze()  # what is there by now is not counted: to count it would take most of the time
        try:
            least, held = Counter[str](), Held.now()
            for number in range(QUARTERS):  # no list of them: at each the same is held of the others
                await play(quarter)
                after = Held.now()
                grown = after.grown(held)
                least, held = least & grown if number else grown, after
        finally:
            gc.unfreeze()
        await dialog.aclose()
    least["blocks"] -= STRAY
    return {name: more for name, more in least.items() if more > quarter // 2}


@pytest.mark.parametrize("rounds", [160, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
@on_a_loop
async def test_nothing_stays(name, rounds):
    """Objects, memory, descriptors and threads are after many rounds what they were after fifty.

    Nothing waits for the garbage collector either: bodies may be large, and in a large application a full collection is
    rare. The cases in COLLECTED are those that do.
    """
    with nullcontext() if name in COLLECTED else no_collector():
        assert {} == await leaked(CASES[name], rounds)


@contextmanager
def no_collector():
    gc.disable()
    try:
        with patch("gc.collect"):
            yield
    finally:
        gc.enable()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@on_a_loop
async def test_each_case_sees_a_leak(case):
    """Something of each round is kept on purpose: the case reports it."""
    kept: list[object] = []
    owner, name = case.made
    original = getattr(owner, name)

    def keeping(*args, **kwargs):
        kept.append((args, kwargs))
        return original(*args, **kwargs)

    with patch.object(owner, name, keeping):
        seen = await leaked(case, 40, before=5)

    assert seen
