"""A snapshot agrees with the recorded events, the supervisor and the kernel."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from asgid import pipes
from asgid.address import Systemd, Tcp
from asgid.master.net.bound_socket import BoundSocket
from asgid.master.status.collection import collect, status_line
from asgid.master.status.history import BOOT_BUCKETS_S, ReloadResult, StatusHistory
from asgid.master.status.snapshot import ListenerBacklog, WorkerStatus
from asgid.master.supervision.lifecycle import ExitReason, StartReason
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.workers.spawn import Child
from tests.settings import plan_of

ROLLED_BACK = ReloadResult("rolled_back", "no module named shop", 2, 1_700_000_000.0)


@pytest.fixture
def children() -> Iterator[dict[int, Child]]:
    """Two workers; each is this process, so that the kernel reports one."""
    with ExitStack() as stack:
        ours, theirs = pipes.pair()
        stack.callback(ours.close)
        stack.callback(theirs.close)
        yield {slot: Child(slot, 1, os.getpid(), 0.0, end, -1) for slot, end in enumerate((ours, theirs))}


@pytest.fixture
def supervisor() -> Supervisor:
    """Plan 1 with two workers: one has served since 10 s, the other has booted since then."""
    supervisor = Supervisor()
    supervisor.reload(plan_of(1, 2), 5.0)
    supervisor.ready(0, 10.0)
    return supervisor


@pytest.fixture
def history() -> StatusHistory:
    """Made at time 0, with the start of three workers."""
    history = StatusHistory(0.0, 1_600_000_000.0, 1_700_000_000.0)
    for slot in range(3):
        history.record_start(slot)
    return history


def test_the_workers_are_those_of_the_supervisor(history, supervisor, children):
    snapshot = collect(history, supervisor, children, [], 15.0)

    assert snapshot.workers == [
        WorkerStatus(0, os.getpid(), 1, "ready", 10.0),
        WorkerStatus(1, os.getpid(), 1, "booting", 5.0),
    ]
    assert (snapshot.generation, snapshot.desired, snapshot.uptime_s, snapshot.backing_off) == (1, 2, 15.0, 0)
    assert snapshot.is_ready
    assert not snapshot.stopping
    assert not snapshot.reloading


def test_a_worker_that_is_to_exit_is_draining(history, supervisor, children):
    supervisor.stop(20.0)

    assert [worker.state for worker in collect(history, supervisor, children, [], 20.0).workers] == ["draining"] * 2

    supervisor.stop_now(21.0)
    snapshot = collect(history, supervisor, children, [], 21.0)

    assert [worker.state for worker in snapshot.workers] == ["draining"] * 2
    assert snapshot.stopping
    assert not snapshot.is_ready


def test_the_generation_is_0_before_the_first_worker_is_ready(history, children):
    """A start is not a reload."""
    supervisor = Supervisor()
    supervisor.reload(plan_of(1, 2), 0.0)
    snapshot = collect(history, supervisor, children, [], 1.0)

    assert (snapshot.generation, snapshot.reloading, snapshot.is_ready) == (0, False, False)


def test_a_snapshot_during_a_reload_is_reloading(history, supervisor, children):
    supervisor.reload(plan_of(2, 2), 20.0)
    children[2] = children[0]

    assert collect(history, supervisor, children, [], 20.0).reloading


def test_workers_that_wait_for_their_start_are_backing_off(history, supervisor, children):
    supervisor.ready(1, 10.0)
    supervisor.exited(1, 1, 20.0)
    children.pop(1)

    assert collect(history, supervisor, children, [], 20.05).backing_off == 1
    assert collect(history, supervisor, children, [], 20.15).backing_off == 0


def test_every_reason_has_a_count_from_the_start(history, supervisor, children):
    """If a series appears with its first event, a rate misses that event."""
    snapshot = collect(history, supervisor, children, [], 15.0)

    assert snapshot.starts == {reason.value: 0 for reason in StartReason} | {"initial": 2}
    assert snapshot.exits == {reason.value: 0 for reason in ExitReason}
    assert snapshot.history.reloads == {"committed": 0, "rolled_back": 0, "invalid_config": 0, "superseded": 0}


def test_the_last_reload_is_kept_and_each_result_is_counted(history):
    """Only a commit changes the time of the last success."""
    first, last_success = history.last_reload, history.last_success
    history.record_reload(ROLLED_BACK)

    assert first is None
    assert history.last_reload == ROLLED_BACK
    assert history.reloads["rolled_back"] == 1
    assert history.last_success == last_success

    history.record_reload(ReloadResult("committed", "", 3, 1_700_000_005.0))

    assert history.last_success == 1_700_000_005.0


@pytest.mark.parametrize(("boot_s", "bucket"), [(0.0, 0), (0.1, 0), (0.11, 1), (60.0, 8), (61.0, 9)])
def test_a_boot_is_counted_in_its_bucket(history, boot_s, bucket):
    history.record_boot(boot_s)

    assert history.boots == [int(index == bucket) for index in range(len(BOOT_BUCKETS_S) + 1)]
    assert history.boots_sum_s == boot_s


def test_the_processor_time_of_a_slot_includes_its_past_workers(history, supervisor, children):
    history.record_exit(1, 1000.0)
    snapshot = collect(history, supervisor, {0: children[0], 1: children[1]}, [], 1.0)
    used = round(sum(psutil.Process().cpu_times()[:2]), 2)

    assert snapshot.history.slots == {0, 1, 2}
    assert 0 < snapshot.cpu_s[0] <= used
    assert 1000 < snapshot.cpu_s[1] <= 1000 + used
    assert snapshot.processes[0].resident_bytes > 2**20
    assert snapshot.processes[0].open_fds
    assert snapshot.processes[0].open_fds > 2
    assert snapshot.processes[0].threads >= 1


def test_a_worker_whose_process_has_ended_has_no_usage(history, supervisor, children):
    """It stays in the list, and its slot keeps the processor time."""
    with psutil.Popen(["true"]) as ended:
        ended.wait()
    children[1].pid = ended.pid
    history.record_exit(1, 2.5)
    snapshot = collect(history, supervisor, children, [], 1.0)

    assert len(snapshot.workers) == 2
    assert 1 not in snapshot.processes
    assert snapshot.cpu_s[1] == 2.5


def test_the_snapshot_has_the_master(history, supervisor, children):
    snapshot = collect(history, supervisor, children, [], 1.0)

    assert snapshot.master
    assert snapshot.master.resident_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert snapshot.history.started_at == 1_600_000_000.0
    assert snapshot.max_fds == psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]


def test_a_tcp_listener_has_its_queue(history, supervisor, children):
    """A connection that was not accepted yet is in it. A unix socket is left out: the kernel reports no queue."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix, socket.socket() as client:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(7)
        client.connect(tcp.getsockname())
        sockets = [BoundSocket("web", Tcp("127.0.0.1", 0), tcp, 7), BoundSocket("local", Tcp("", 0), unix, 7)]

        assert collect(history, supervisor, children, sockets, 1.0).listeners == [ListenerBacklog("web", 7, 1)]


def test_the_queues_of_several_sockets_with_one_name_add_up(history, supervisor, children):
    """systemd may pass several sockets under one name, and a page must not have a series twice."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=7) as one,
        socket.create_server(("127.0.0.2", 0), backlog=5) as other,
    ):
        with socket.create_connection(one.getsockname()), socket.create_connection(other.getsockname()):
            sockets = [BoundSocket("web", Systemd("web"), sock, 9) for sock in (one, other)]
            listeners = collect(history, supervisor, children, sockets, 1.0).listeners

        assert listeners == [ListenerBacklog("web", 12, 2)]


def test_the_status_line_has_the_number_of_ready_workers_and_the_last_reload(history, supervisor):
    """One line, for `systemctl status`."""

    assert status_line(history, supervisor) == "1/2 workers ready, generation 1"

    history.record_reload(ROLLED_BACK)

    assert status_line(history, supervisor) == (
        "1/2 workers ready, generation 1, last reload rolled_back: no module named shop"
    )

    history.record_reload(ReloadResult("committed", "", 3, 1.0))

    assert status_line(history, supervisor) == "1/2 workers ready, generation 1, last reload committed"
