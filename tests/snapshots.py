"""The state of a service at one moment, for the tests of the metrics address and of its pages."""

from asgid.master.status.history import StatusHistory
from asgid.master.status.snapshot import ListenerBacklog, Snapshot, WorkerStatus
from asgid.master.workers.process_state import ProcessUsage

_STARTS = ("initial", "reload", "recycle", "crash", "scale")
_EXITS = ("reload", "recycle", "blocked", "crash", "signal", "boot_failed", "boot_timeout", "scale", "shutdown")
_RESULTS = ("committed", "rolled_back", "invalid_config", "superseded")


def process(resident_bytes: int, open_fds: int | None = 20) -> ProcessUsage:
    return ProcessUsage(
        cpu_s=1.5, threads=3, virtual_bytes=90_000_000, resident_bytes=resident_bytes, open_fds=open_fds
    )


NOW_NS = 1_000_000_000_000
SNAPSHOT = Snapshot(
    now_ns=NOW_NS,
    history=StatusHistory(
        0.0,
        1_699_999_000.0,
        1_700_000_000.0,
        slots={0, 1, 2},
        reloads=dict.fromkeys(_RESULTS, 3),
        boots=[1, 2, 0, 0, 0, 0, 0, 0, 0, 4],
        boots_sum_s=123.5,
    ),
    uptime_s=60.0,
    generation=3,
    desired=2,
    backing_off=1,
    is_ready=True,
    stopping=False,
    reloading=False,
    workers=(WorkerStatus(0, 811, 3, "ready", 50.0), WorkerStatus(2, 812, 3, "draining", 40.0)),
    listeners=(ListenerBacklog("127.0.0.1:8000", 2048, 5),),
    starts=dict.fromkeys(_STARTS, 1),
    exits=dict.fromkeys(_EXITS, 2),
    master=process(30_000_000),
    max_fds=65536,
    processes={0: process(50_000_000), 2: process(60_000_000)},
    cpu_s={0: 1.5, 1: 2.5, 2: 3.5},
    loop="uvloop",
)
