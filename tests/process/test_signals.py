"""What the master hears of the signals that it is sent."""

import selectors
import signal
from collections.abc import Callable, Iterator

import pytest

from asgid.master.system.signals import Signals
from asgid.master.workers.spawn import SIGNALS


@pytest.fixture
def acted() -> Iterator[Callable[[], list[str]]]:
    """Let the loop come to the signals, and return the names of those that were acted on."""
    names: list[str] = []
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    with selectors.DefaultSelector() as selector:

        def act() -> list[str]:
            for key, mask in selector.select(0):
                key.data(mask)
            return names

        wakeup_fd = signal.set_wakeup_fd(-1)
        Signals(selector, dict.fromkeys(SIGNALS, lambda signum: names.append(signum.name))).install()
        try:
            yield act
        finally:
            signal.set_wakeup_fd(wakeup_fd)
            for signum, handler in before.items():
                signal.signal(signum, handler)


def test_a_flood_of_one_signal_hides_no_other(acted: Callable[[], list[str]]) -> None:
    """While the master is busy they pile up; whatever is among them is heard, and said often it is one wish."""
    for _ in range(10_000):
        signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGTERM)

    assert ["SIGUSR1", "SIGTERM"] == acted()
    assert ["SIGUSR1", "SIGTERM"] == acted()


def test_workers_are_asked_for_one_by_one(acted: Callable[[], list[str]]) -> None:
    """Three times TTIN is three workers more."""
    for name in ("TTIN", "TTIN", "TTOU", "TTIN"):
        signal.raise_signal(getattr(signal, f"SIG{name}"))

    assert ["SIGTTIN"] * 3 + ["SIGTTOU"] == acted()
