"""Old and new configuration: which listeners to bind, which to close, and what a reload cannot change.

A generation is one configuration and the listeners it uses. Two generations share a listener when its address is the
same, so a reload never closes a queue that somebody may be standing in.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf

from asgid.address import Address, parse
from asgid.config import Config, Listen
from asgid.master.lifecycle import Plan

#: What only a restart can change: the pid file, the user, the sockets of the operator's side.
RESTART_ONLY = ("process", "control", "metrics")


@dataclass(frozen=True, slots=True)
class Generation:
    """One configuration that serves, or wants to."""

    number: int
    config: Config

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens, in the order of the file."""
        return tuple(parse(listen.bind) for listen in self.config.listen)


def plan(number: int, config: Config, cpus: int) -> Plan:
    """Return what the supervisor needs to know of a configuration; `cpus` is what `workers.count = "auto"` means."""
    timeouts, workers = config.timeouts, config.workers
    return Plan(
        generation=number,
        wanted=cpus if workers.count == "auto" else workers.count,
        surge=config.reload.surge,
        settle=config.reload.settle,
        boot=timeouts.boot,
        heartbeat=timeouts.heartbeat,
        # A stack asked for after the worker was given up would come too late.
        blocked=timeouts.blocked if timeouts.blocked < timeouts.heartbeat else inf,
        graceful=timeouts.graceful,
        kill=timeouts.kill,
    )


def to_bind(config: Config, held: Collection[Address]) -> list[Listen]:
    """Return the listeners that are new."""
    return [listen for listen in config.listen if parse(listen.bind) not in held]


def to_close(held: Iterable[Address], generations: Iterable[Generation]) -> list[Address]:
    """Return the held addresses that no generation uses any more."""
    used = {address for generation in generations for address in generation.addresses}
    return [address for address in held if address not in used]


def needs_restart(old: Config, new: Config) -> list[str]:
    """Return the tables that differ and that a reload leaves as they were."""
    return [table for table in RESTART_ONLY if getattr(old, table) != getattr(new, table)]


def without_restart(old: Config, new: Config) -> Config:
    """Return the new configuration with the old values of what only a restart can change."""
    return new.model_copy(update={table: getattr(old, table) for table in RESTART_ONLY})
