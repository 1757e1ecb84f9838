"""The signals that the master dispatches."""

import selectors
import signal
from collections.abc import Callable, Iterator

import pytest

from asgid.master.system.signals import SIGNALS, Signals


@pytest.fixture
def dispatched() -> Iterator[Callable[[], list[str]]]:
    """Turn the loop once, and return the names of the signals that were dispatched."""
    names: list[str] = []
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    with selectors.DefaultSelector() as selector:

        def turn() -> list[str]:
            for key, mask in selector.select(0):
                key.data(mask)
            return names

        wakeup_fd = signal.set_wakeup_fd(-1)
        Signals(selector, dict.fromkeys(SIGNALS, lambda signum: names.append(signum.name))).install()
        try:
            yield turn
        finally:
            signal.set_wakeup_fd(wakeup_fd)
            for signum, handler in before.items():
                signal.signal(signum, handler)


def test_a_flood_of_one_signal_loses_no_other(dispatched: Callable[[], list[str]]) -> None:
    """Signals queue up while the master is busy. Each is dispatched; equal ones count once."""
    for _ in range(10_000):
        signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGTERM)

    assert ["SIGUSR1", "SIGTERM"] == dispatched()
    assert ["SIGUSR1", "SIGTERM"] == dispatched()


def test_ttin_and_ttou_count_each_time(dispatched: Callable[[], list[str]]) -> None:
    for name in ("TTIN", "TTOU", "TTIN", "TTOU", "TTIN"):
        signal.raise_signal(getattr(signal, f"SIG{name}"))

    assert ["SIGTTIN"] * 3 + ["SIGTTOU"] * 2 == dispatched()
