"""examples/miniature.py works as its text describes: newcomers learn the master from it."""

import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tests.client import get
from tests.daemon import eventually, is_alive

MINIATURE = Path(__file__).parents[2] / "examples" / "miniature.py"


class Miniature:
    """A running miniature: its process, its address, the pids of its workers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.address = process.stdout.readline().strip().rpartition("http://")[2]

    def answering_pid(self) -> int:
        """Return the pid of the worker that answers. Raises if the request fails."""
        found = re.fullmatch(rb"hello from pid (\d+)\n", get(self.address).body)
        assert found
        return int(found[1])

    def workers(self) -> set[int]:
        """Return the pids of the master's running children."""
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if is_alive(child.pid)}  # one may exit in between

    def wait_for_answers(self, pids: set[int]) -> None:
        """Send requests until each of `pids` has answered."""
        missing = set(pids)

        def all_have_answered() -> bool:
            missing.discard(self.answering_pid())
            return not missing

        eventually(all_have_answered)


@pytest.fixture
def miniature() -> Iterator[Miniature]:
    with subprocess.Popen([sys.executable, str(MINIATURE)], stdout=subprocess.PIPE, text=True) as process:
        try:
            running = Miniature(process)
            eventually(lambda: len(running.workers()) == 2)
            yield running
        finally:
            process.kill()  # its workers exit, too: their lifelines end


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("miniature", MINIATURE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["miniature"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def test_every_worker_answers(miniature):
    miniature.wait_for_answers(miniature.workers())


def test_a_killed_worker_is_replaced(miniature):
    victim, sibling = miniature.workers()

    psutil.Process(victim).kill()
    eventually(lambda: len(miniature.workers() - {victim}) == 2)

    (replacement,) = miniature.workers() - {sibling}
    assert victim != replacement
    miniature.wait_for_answers({sibling, replacement})


def test_hup_replaces_all_workers_and_every_request_is_answered(miniature):
    old = miniature.workers()

    miniature.process.send_signal(signal.SIGHUP)
    eventually(
        lambda: miniature.answering_pid() and miniature.workers().isdisjoint(old) and len(miniature.workers()) == 2
    )

    miniature.wait_for_answers(miniature.workers())


def test_term_ends_the_master_with_0_and_leaves_no_child(miniature):
    workers = miniature.workers()

    miniature.process.terminate()

    assert miniature.process.wait(10) == 0
    assert not any(psutil.pid_exists(pid) for pid in workers)  # reaped, too


def test_workers_exit_when_their_master_is_killed(miniature):
    """The end of the lifeline makes a worker drain, even if the master is dead."""
    workers = miniature.workers()

    miniature.process.kill()

    eventually(lambda: not any(is_alive(pid) for pid in workers))


def test_in_a_roll_no_fewer_than_wanted_workers_serve(module):
    supervisor = module.Supervisor(wanted=2)
    Step = module.Step  # noqa: N806 - a class
    assert [Step("spawn", 0), Step("spawn", 1)] == supervisor.reconcile(now=0.0)
    supervisor.ready(0, now=1.0)
    supervisor.ready(1, now=1.0)

    supervisor.reload()
    assert [Step("spawn", 2)] == supervisor.reconcile(now=2.0)
    assert supervisor.reconcile(now=3.0) == []
    supervisor.ready(2, now=4.0)
    assert [Step("drain", 0)] == supervisor.reconcile(now=4.0)
    assert [Step("spawn", 3)] == supervisor.reconcile(now=4.0)
    supervisor.exited(0)
    supervisor.ready(3, now=5.0)
    assert [Step("drain", 1)] == supervisor.reconcile(now=5.0)


def test_a_worker_that_does_not_drain_is_killed_at_its_deadline(module):
    supervisor = module.Supervisor(wanted=1)
    supervisor.reconcile(now=0.0)
    supervisor.ready(0, now=0.0)
    supervisor.stop()
    assert [module.Step("drain", 0)] == supervisor.reconcile(now=10.0)

    assert supervisor.next_deadline() == 15.0
    assert supervisor.reconcile(now=14.9) == []
    assert [module.Step("kill", 0)] == supervisor.reconcile(now=15.0)
    assert supervisor.next_deadline() == 16.0
