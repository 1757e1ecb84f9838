"""Logs the stack of a blocked event loop when the master asks for it by the DUMP signal.

The loop does not turn, but Python runs signal handlers between two instructions. If C code holds the interpreter,
faulthandler alone writes the stack, to the last words of the worker.
"""

import asyncio
import faulthandler
import signal
from types import FrameType

from asgid import faults
from asgid.assignment import DUMP
from asgid.log import Log
from asgid.worker import tracebacks
from asgid.worker.net.registry import Connections
from asgid.worker.process.last_words import LastWords

_MAX_REQUESTS = 20  # in the log line


def handle_dumps(connections: Connections, last_words: LastWords, log: Log) -> None:
    """Handle the DUMP signal from now on."""

    def on_dump(_signum: int, frame: FrameType | None) -> None:
        requests = [request for client in connections.open for request in client.requests()][:_MAX_REQUESTS]
        if tracebacks.is_in_debugger(frame):
            keep = "--set timeouts.blocked=off --set timeouts.heartbeat=off"
            log.warning("a debugger holds the event loop", keep_it=keep, requests=", ".join(requests))
        else:
            task = asyncio.current_task()
            log.warning(
                "event loop blocked",
                task=task.get_name() if task else "none",
                requests=", ".join(requests) or "none",
                stack=tracebacks.format_thread_stack(frame) if frame else "",
            )
        # The log has the stack; left in the file, the one of faulthandler would be taken for last words.
        last_words.write("")

    # In this order: faulthandler writes the stack, and then calls the handler that it found.
    signal.signal(DUMP, on_dump)
    faulthandler.register(DUMP, last_words.descriptor, all_threads=False, chain=True)
    faults.make_room()  # under gunicorn, faulthandler was not enabled before
