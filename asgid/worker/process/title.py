"""The title of a worker's process, for ps(1) and top(1)."""

from setproctitle import setproctitle

from asgid.assignment import Assignment


def set_title(assignment: Assignment, state: str) -> None:
    """Show the worker's slot, name, generation and `state`."""
    slot, name, generation = assignment.slot, assignment.config.process.name, assignment.generation
    setproctitle(f"asgid: worker {slot} [{name}] gen {generation} {state}")
