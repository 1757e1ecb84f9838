"""A worker keeps nothing of a request, a message or a connection, however it was used and however it ended."""

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
from tests.worker.event_loop import turns
from tests.worker.leak_cases import CASES, Case
from tests.worker.worker import Worker

#: Caches of many requests; their bounds are tested elsewhere.
CACHES = (response_head.HEADS, response_head._LINES, request_syntax.VALID_HOSTS)
#: Cases with reference cycles. The traceback of a cancelled call leads to its task, a failing lifespan to its
#: exception, and an unused connection of the harness to its parser.
COLLECTED = {name for name in CASES if "request timeout" in name or "PROXY" in name}
COLLECTED |= {"a lifespan that fails", "a WebSocket that is not taken from"}
QUARTERS = 4
#: Rounds without the garbage collector. In a thousand some small blocks stay, of no object that it tracks.
FEW_ROUNDS = 160
#: Blocks that appear between two measurements without a leak, at any distance: up to 100 were measured.
STRAY = 100


class _Mallinfo(ctypes.Structure):
    """The memory that glibc has allocated (mallinfo(3))."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("a", "b", "c", "d", "mapped", "e", "f", "in_use", "g", "h")]


_mallinfo = getattr(
    ctypes.CDLL(None), "mallinfo2", None
)  # another C library has none: then only Python's own counts are used
if _mallinfo:
    _mallinfo.restype = _Mallinfo


@dataclass(frozen=True, slots=True)
class Held:
    """Counts of all that this process holds at one moment."""

    objects: Counter[str]  #: by type; only those that the garbage collector tracks
    blocks: int  #: pieces of memory up to 512 bytes
    allocated_bytes: int  #: larger ones, and those of C libraries
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
        """Return how much each count has grown."""
        grown = self.objects - before.objects
        grown["blocks"] = self.blocks - before.blocks
        grown["descriptors"] = self.descriptors - before.descriptors
        grown["threads"] = self.threads - before.threads
        grown["kilobytes"] = (self.allocated_bytes - before.allocated_bytes) // 1024
        return grown


async def leaked(case: Case, rounds: int, before: int = 50) -> dict[str, int]:
    """Return the counts that grow by more than half a unit a round.

    A count must grow in each quarter, because the free lists of the interpreter may grow once at any time. The rounds
    `before` fill caches.
    """
    quarter = rounds // QUARTERS
    async with Worker(case.app, **case.tables) as worker:
        worker.drop_nothing()  # the clock stands still, so dropping would never end
        dialog = case.dialog(worker)

        async def play(number: int) -> None:
            for _ in range(number):
                await anext(dialog)
                worker.forget_clients()
                worker.lines.clear()
                worker.access_entries.clear()
            await turns(5)

        await play(before)
        gc.freeze()  # to count older objects would take most of the time
        try:
            least, held = Counter[str](), Held.now()
            for number in range(QUARTERS):  # no list of them: each measurement would hold the last one
                await play(quarter)
                after = Held.now()
                grown = after.grown(held)
                least, held = least & grown if number else grown, after
        finally:
            gc.unfreeze()
        await dialog.aclose()
    least["blocks"] -= STRAY
    return {name: more for name, more in least.items() if more > quarter // 2}


@pytest.mark.parametrize("rounds", [FEW_ROUNDS, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
async def test_nothing_is_kept(name, rounds):
    """After many rounds the counts of objects, memory, descriptors and threads are those after fifty.

    This holds without the garbage collector, except for the cases in COLLECTED: bodies may be large, and a large
    application seldom has a full collection.
    """
    with nullcontext() if name in COLLECTED or rounds > FEW_ROUNDS else no_collector():
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
async def test_each_case_detects_a_leak(case):
    """One object of each round is kept on purpose, and the case reports it."""
    kept: list[object] = []
    owner, name = case.made
    original = getattr(owner, name)

    def keeping(*args, **kwargs):
        kept.append((args, kwargs))
        return original(*args, **kwargs)

    with patch.object(owner, name, keeping):
        seen = await leaked(case, 40, before=5)

    assert seen
