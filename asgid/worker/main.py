"""One worker's process: from the fork to its exit code."""

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from asgid import wire
from asgid.assignment import Assignment
from asgid.errors import BootError, ExitCode
from asgid.log import Log
from asgid.worker import forked, tracebacks
from asgid.worker.http1 import connection  # noqa: F401 - the workers share its memory, and boot faster
from asgid.worker.process import ending, privileges
from asgid.worker.process.last_words import LastWords
from asgid.worker.process.lifeline import Lifeline
from asgid.worker.process.malloc import raise_trim_threshold
from asgid.worker.process.title import set_title

#: Modules that replace threads, sockets and signals of the standard library, on which the event loop is built.
_PATCHERS = {"gevent.monkey", "eventlet.patcher"}


def main(assignment: Assignment) -> int:
    """Be one worker; return the exit code of its process."""
    set_title(assignment, "booting")  # first of all: until here the process has the title of the master
    raise_trim_threshold()
    # After the fork: the master does not need these, and stays 0.25 MB smaller without them.
    from asgid.worker.app.loader import load  # noqa: PLC0415
    from asgid.worker.server import Server  # noqa: PLC0415

    lifeline, last_words = Lifeline(assignment.lifeline), LastWords(assignment.last_words_fd)
    settings = assignment.config.log
    try:
        try:
            user = privileges.user(assignment.config.process)
            log = Log(settings.level, settings.format, settings.output, user)
            log = log.bind(slot=assignment.slot, pid=os.getpid())
        except OSError as error:
            raise BootError(f"log.output: {settings.output!r} cannot be opened: {error.strerror}") from error
        server = Server(assignment, lifeline, log, partial(load, assignment.config))
        runner = asyncio.Runner(loop_factory=loop_factory())  # never closed: that could wait forever
        try:
            server.boot(runner.get_loop())
            runner.run(server.serve())
        finally:
            ending.end(runner.get_loop(), server.grace_ends(), log)
        ending.bound_exit(server.grace_ends(), log, forked.exit_immediately)
    except BootError as error:
        forked.exit_if_child(error)
        cause = error.__cause__
        files = tracebacks.AppFiles.from_target(assignment.config.app.target)
        story = tracebacks.format_causes(cause, files) if cause else ""
        return _report(last_words, lifeline, str(error), story or error.story, ExitCode.NO_WORKER)
    except BaseException as error:  # noqa: BLE001 - the border of the process
        forked.exit_if_child(error)
        reason, stack = f"the worker failed: {tracebacks.one_line(error)}", tracebacks.format_traceback(error)
        for name in _PATCHERS & sys.modules.keys():
            reason += f"; {name} has patched modules that asgid uses: serve without it"
        return _report(last_words, lifeline, reason, tracebacks.cut_middle(stack), ExitCode.INTERNAL)
    return int(ExitCode.OK)


def _report(last_words: LastWords, lifeline: Lifeline, reason: str, story: str, code: int) -> int:
    """Send the reason to the master in one line, and write its causes as the last words. Returns `code`."""
    if lifeline.is_closed:
        print(f"{reason}\n{story}", file=sys.stderr)  # noqa: T201 - no other way is left
        return wire.CUT_OFF
    half = wire.REASON_CHARACTERS // 2 - 50
    lifeline.send(wire.Failed(tracebacks.cut_middle(reason, half, half, around=" ")))
    last_words.write(story)
    return code


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, or None for asyncio's own if uvloop is not installed; the master has logged that once."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - it may be missing

    return uvloop.new_event_loop
