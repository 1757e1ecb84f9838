"""One worker process as values: its state for a handover, and the resources that it uses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessState:
    """A worker process and the descriptors through which the master reaches it."""

    slot: int
    generation: int
    pid: int
    started_at: float
    lifeline_fd: int  #: the pipe from the worker
    lifeline_writer_fd: int  #: the pipe to the worker
    stack_dump_fd: int
    half_read: str  #: the part of a message that has arrived; its end has not


@dataclass(frozen=True)
class ProcessUsage:
    """The usage of one process, as the kernel reports it."""

    cpu_s: float  #: user and system time
    threads: int
    virtual_bytes: int
    resident_bytes: int
    open_fds: int | None  #: None if the kernel does not report it, for example of a process that has ended
