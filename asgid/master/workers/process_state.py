"""The part of a handover that describes one worker process, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
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
